"""The queue directories: where a message's file is, and how it changes its place."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from pyfix.spool.queue_id import hash_key, is_queue_id
from pyfix.system import durable
from pyfix.system.durable import DurableFile

MESSAGE_QUEUES = ("maildrop", "incoming", "active", "deferred", "hold")
LOG_QUEUES = ("bounce", "defer", "trace")
ALL_DIRECTORIES = (*MESSAGE_QUEUES, "corrupt", *LOG_QUEUES, "flush", "saved")

EXPIRED = stat.S_IXGRP
"""The bit in its file's mode that takes all time from a message (postsuper -e)."""

INVISIBLE = stat.S_IRUSR | stat.S_IWUSR
"""The mode of a file that is no message: not yet, or, in active/, no more. Start-up removes it."""

_DAY = 86_400
_READY = stat.S_IRUSR | stat.S_IWUSR | stat.S_IXUSR


class Found(NamedTuple):
    """A file that a scan came across; ``path`` is below the spool's root."""

    queue_id: str
    path: str
    # seconds since the epoch: for a deferred message the time of its next attempt
    mtime: float
    # false: still being written, or left over
    ready: bool


class Space(NamedTuple):
    """What the spool's file system has left for its users."""

    bytes: int
    # a large number where the file system does not count them
    inodes: int


class Repaired(NamedTuple):
    """What start-up repair did: the queue IDs, or the names of files that are no queue IDs."""

    # back from active to incoming
    reactivated: tuple[str, ...]
    # never accepted, removed
    removed: tuple[str, ...]
    # not understood, left alone
    bogus: tuple[str, ...]


@lru_cache(1000)
def _path(queue: str, queue_id: str, depth: int) -> str:
    """A path below the spool's root. It is asked for again at each step of a message's way."""
    if not is_queue_id(queue_id):
        raise ValueError(f"not a queue ID: {queue_id[:80]!r}")
    if queue not in ALL_DIRECTORIES:
        raise ValueError(f"not a queue: {queue[:80]!r}")
    if depth:
        return "/".join((queue, *hash_key(queue_id)[:depth], queue_id))
    return f"{queue}/{queue_id}"


class Spool:
    """queue_directory. Every method that takes a queue ID raises ValueError for what is not one.

    ``descriptor`` is the open directory; paths that methods return or take are relative to it.
    """

    __slots__ = ("_depth", "_hashed", "descriptor", "root")

    def __init__(self, root: str, hash_queue_names: Sequence[str] = ("deferred", "defer"), depth: int = 1) -> None:
        """Open an existing directory. Raises OSError."""
        self.root = root
        self.descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._hashed = frozenset(hash_queue_names)
        self._depth = depth

    def close(self) -> None:
        """Close the directory."""
        os.close(self.descriptor)

    def make_directories(self, names: Sequence[str] = ALL_DIRECTORIES) -> None:
        """Make the directories that are missing, for this process's user alone. Raises OSError."""
        for name in names:
            try:
                os.mkdir(name, 0o700, dir_fd=self.descriptor)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=self.descriptor).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from None

    # Names

    def depth_of(self, queue: str) -> int:
        """How many levels of subdirectories a queue has."""
        return self._depth if queue in self._hashed else 0

    def path(self, queue: str, queue_id: str) -> str:
        """Where a file of that queue belongs."""
        return _path(queue, queue_id, self.depth_of(queue))

    def _paths(self, queue: str, queue_id: str) -> list[str]:
        """Where a file may be: where it belongs, and where another hash_queue_names or depth would put it."""
        belongs = self.path(queue, queue_id)
        key = hash_key(queue_id)
        places = ["/".join((queue, *key[:depth], queue_id)) for depth in range(3)]
        return [belongs, *(place for place in places if place != belongs)]

    def _make_parents(self, path: str) -> None:
        parts = path.split("/")[:-1]
        for end in range(1, len(parts) + 1):
            with contextlib.suppress(FileExistsError):
                os.mkdir("/".join(parts[:end]), 0o700, dir_fd=self.descriptor)

    def make_room(self, queue: str, queue_id: str) -> str:
        """The path where a file of that queue belongs, its subdirectories made. Raises WriteError, NoSpace."""
        path = self.path(queue, queue_id)
        try:
            self._make_parents(path)
        except OSError as error:
            durable.fail(error, path)
        return path

    # Files

    def create(self, queue_id: str, queue: str = "incoming") -> DurableFile:
        """A new file, invisible until its commit. Raises FileExistsError if the name is taken, WriteError, NoSpace."""
        try:
            return DurableFile(self.path(queue, queue_id), self.descriptor)
        except FileNotFoundError:
            return DurableFile(self.make_room(queue, queue_id), self.descriptor)

    def find(self, queue: str, queue_id: str) -> str | None:
        """The path of a queue's file; None if there is none, or it is not visible, or no file at all."""
        for path in self._paths(queue, queue_id):
            try:
                status = os.stat(path, dir_fd=self.descriptor, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISREG(status.st_mode) and (queue in LOG_QUEUES or status.st_mode & stat.S_IXUSR):
                return path
        return None

    def _find(self, queue: str, queue_id: str) -> str:
        path = self.find(queue, queue_id)
        if path is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{queue}/{queue_id}")
        return path

    def queue_of(self, queue_id: str, queues: Sequence[str] = MESSAGE_QUEUES) -> str | None:
        """The first of the queues that has the message. Looks twice: messages move while one looks."""
        for queue in (*queues, *queues):
            if self.find(queue, queue_id) is not None:
                return queue
        return None

    def open(self, queue: str, queue_id: str, *, write: bool = False) -> int:
        """A file's descriptor, read-only or read-write. Raises FileNotFoundError, also for an invisible message."""
        return self.open_and_look(queue, queue_id, write=write)[0]

    def open_and_look(self, queue: str, queue_id: str, *, write: bool = False) -> tuple[int, os.stat_result]:
        """As ``open``, with the file's status, which was to be looked at anyway."""
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path(queue, queue_id), flags, dir_fd=self.descriptor)
        except (FileNotFoundError, NotADirectoryError):
            descriptor = os.open(self._find(queue, queue_id), flags, dir_fd=self.descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not (queue in LOG_QUEUES or status.st_mode & stat.S_IXUSR):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "Not a complete queue file", f"{queue}/{queue_id}")
        return descriptor, status

    def move(self, queue_id: str, source: str, target: str) -> None:
        """Rename from queue to queue. Raises FileNotFoundError, WriteError, NoSpace."""
        try:
            durable.move(self.path(source, queue_id), self.path(target, queue_id), self.descriptor)
        except FileNotFoundError:
            # It is elsewhere, or gone, or the target's subdirectory is still to be made.
            path = self._find(source, queue_id)
            try:
                room = self.make_room(target, queue_id)
            except durable.NoSpace:
                # A rename needs no space: without a subdirectory the file is found as well.
                room = f"{target}/{queue_id}"
            durable.move(path, room, self.descriptor)

    def set_retry_time(self, queue: str, queue_id: str, when: float) -> None:
        """Set the mtime, which is when the message is due, seconds since the epoch. Raises FileNotFoundError."""
        try:
            path = self.path(queue, queue_id)
            os.utime(path, (when, when), dir_fd=self.descriptor, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            path = self._find(queue, queue_id)
            os.utime(path, (when, when), dir_fd=self.descriptor, follow_symlinks=False)

    def mark_expired(self, queue: str, queue_id: str) -> bool:
        """Take all time from a message; whether it had some. Raises FileNotFoundError."""
        descriptor = self.open(queue, queue_id)
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & EXPIRED:
                return False
            os.fchmod(descriptor, mode | EXPIRED)
        finally:
            os.close(descriptor)
        return True

    def remove(self, queue: str, queue_id: str) -> bool:
        """Remove a message or a log; whether there was one. Raises OSError for other trouble."""
        for path in self._paths(queue, queue_id):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(path, dir_fd=self.descriptor)
                return True
        return False

    def quarantine(self, queue: str, queue_id: str) -> None:
        """Put a message that cannot be understood into corrupt/, mode 0400. Raises FileNotFoundError, WriteError."""
        self.move(queue_id, queue, "corrupt")
        os.chmod(self.path("corrupt", queue_id), 0o400, dir_fd=self.descriptor)

    # All files

    def scan(self, queue: str, on_bogus: Callable[[str], None] | None = None) -> Iterator[Found]:
        """The files of a queue, in no order, in subdirectories too; what is not named by a queue ID is passed over.

        ``on_bogus`` is told the path of what is neither a file nor such a subdirectory.
        Memory is bounded whatever the queue holds. Files that come, go or move meanwhile may be seen or not.
        """
        if queue not in ALL_DIRECTORIES:
            raise ValueError(f"not a queue: {queue[:80]!r}")
        return (found for found in self._scan(queue, 0, on_bogus) if is_queue_id(found.queue_id))

    def _scan(self, directory: str, depth: int, on_bogus: Callable[[str], None] | None = None) -> Iterator[Found]:
        try:
            descriptor = os.open(
                directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptor
            )
        except FileNotFoundError:
            return
        except PermissionError:
            if not depth or on_bogus is None:
                raise
            on_bogus(directory)
            return
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    yield from self._look(entry, directory, depth, on_bogus)
        finally:
            os.close(descriptor)

    def _look(
        self, entry: "os.DirEntry[str]", directory: str, depth: int, on_bogus: Callable[[str], None] | None
    ) -> Iterator[Found]:
        path = f"{directory}/{entry.name}"
        if len(entry.name) == 1 and depth < 2 and entry.is_dir(follow_symlinks=False):
            yield from self._scan(path, depth + 1, on_bogus)
            return
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISREG(status.st_mode):
            yield Found(entry.name, path, status.st_mtime, status.st_mode & _READY == _READY)
        elif on_bogus is not None:
            on_bogus(path)

    def repair(self, started: float) -> Repaired:
        """Put in order what a crash has left; for qmgr, before it opens a message (the table in pyfix.spool).

        Only files that were last written before ``started`` (seconds since the epoch) and that nobody is writing are
        taken for left-overs, so other roles may be at work.
        """
        reactivated = []
        for found in list(self.scan("active")):
            durable.move(found.path, self.make_room("incoming", found.queue_id), self.descriptor)
            reactivated.append(found.queue_id)
        removed, bogus = [], []
        for queue in ("incoming", "maildrop", "hold"):
            for found in self._scan(queue, 0):
                named = is_queue_id(found.queue_id)
                # Postfix's temporary files have other names and no lock: only their age tells.
                before = started if named else started - _DAY
                if not found.ready and durable.remove_leftover(found.path, before, self.descriptor):
                    removed.append(found.queue_id)
                elif not named:
                    bogus.append(found.path)
        return Repaired(tuple(reactivated), tuple(removed), tuple(bogus))

    def free_space(self, queue: str = "incoming") -> Space:
        """What is left for this process's user in a queue (queue_minfree is compared with it). Raises OSError.

        The queue is asked, not the root: in a sandbox the directories that a role sees are mounts of their own.
        """
        descriptor = os.open(queue, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            status = os.fstatvfs(descriptor)
        finally:
            os.close(descriptor)
        return Space(status.f_bavail * status.f_frsize, status.f_favail if status.f_files else 1 << 62)
