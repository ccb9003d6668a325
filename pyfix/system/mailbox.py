"""Writing into mailboxes: Maildir directories and mbox files, as the process's effective user.

===========================  =========================================================================================
deliver_to_maildir returned  the message stands whole in new/ and survives a power cut, the name as well as the bytes:
                             they are handed to the disk before it is moved to new/, and file and new/ are synced
                             then. (Without new/, mail that has left the queue may be found in tmp/ only, after a
                             power cut.) Directories made on the way are synced into their parents.
deliver_to_maildir raised    nothing of the message stands in new/ or tmp/.
Mbox.append returned         the message stands whole at the end of the file and survives a power cut.
Mbox.append raised           the file is as long as before. After a power cut within append, a part of the message may
                             stand at its end; the next append begins a line of its own behind that.
===========================  =========================================================================================

What users could put in the way is refused: a symbolic link that is not root's, a file with more than one name, anything
but a regular file. The message's text comes as an iterator of chunks; what that raises is passed on, after
cleaning up.

Source: maildir(5); Postfix's local(8), mbox_open(3) and safe_open(3).
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import NamedTuple, Self, TypeVar

from pyfix.system import durable
from pyfix.system.clock import now_usec

_ATTEMPTS_PER_NAME = 5
_T = TypeVar("_T")


class MailboxError(Exception):
    """Nothing was delivered. ``errno`` is the system's error number, ``reason`` says what was being done."""

    def __init__(self, number: int | None, reason: str) -> None:
        self.errno = number or errno.EIO
        self.reason = reason
        super().__init__(reason)


def _trouble(action: str, error: OSError) -> MailboxError:
    return MailboxError(error.errno, f"{action}: {error.strerror}")


# Maildir ------------------------------------------------------------------------------------------------------------


def deliver_to_maildir(path: str, host: str, chunks: Iterable[bytes], size_limit: int) -> None:
    """Delivers into the Maildir at ``path``, made if there is none. Raises MailboxError.

    ``size_limit`` is in bytes, 0 for none.
    """
    place = _Maildir(path, host.replace("/", "\\057").replace(":", "\\072"))
    name, descriptor = place.call_with_new_name("tmp", f"P{os.getpid()}", _create_message)
    try:
        try:
            durable.write_chunks(descriptor, chunks, size_limit)
            durable.push(descriptor)
        except durable.WriteError as error:
            raise _trouble("error writing message", error) from None
        place.publish(name, descriptor)
    except BaseException:
        with suppress(OSError):  # what is left over there, readers of Maildirs remove, as maildir(5) says
            os.unlink(name)
        raise
    finally:
        os.close(descriptor)


def _create_message(name: str) -> int:
    return os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


class _Maildir(NamedTuple):
    path: str
    # as it stands in file names
    host: str

    def call_with_new_name(self, folder: str, identifier: str, function: Callable[[str], _T]) -> tuple[str, _T]:
        """A name in a folder that was not taken, and what ``function`` has made of it. Makes missing directories."""
        attempts = 0
        while True:
            now = now_usec()
            name = f"{self.path}/{folder}/{now // 1_000_000}.{identifier}M{now % 1_000_000:06d}.{self.host}"
            try:
                return name, function(name)
            except OSError as error:
                attempts += 1
                if attempts == _ATTEMPTS_PER_NAME or not isinstance(error, FileExistsError | FileNotFoundError):
                    raise _trouble(f"create maildir file {name}", error) from None
                if isinstance(error, FileNotFoundError):
                    _make_maildir(self.path)

    def publish(self, tmp_name: str, descriptor: int) -> None:
        """Moves the file to new/, under a name that device and inode number make unique, and makes it durable."""
        status = os.fstat(descriptor)
        identifier = f"V{status.st_dev:x}I{status.st_ino:x}"
        name, _ = self.call_with_new_name("new", identifier, partial(durable.name_new, tmp_name))
        try:
            durable.sync_with_directory(descriptor, f"{self.path}/new")
        except durable.WriteError as error:
            with suppress(OSError):  # the error above is the one to tell; a message that stays is a duplicate at worst
                os.unlink(name)
            raise _trouble(f"sync {self.path}/new", error) from None


def _make_maildir(path: str) -> None:
    """Makes what is missing of a Maildir's directories (mode 0700) and of those above it."""
    for name in ("tmp", "new", "cur"):
        directory = f"{path}/{name}"
        try:
            _make_directory(directory)
        except OSError as error:
            raise _trouble(f"create maildir directory {directory}", error) from None


def _make_directory(path: str) -> None:
    above = os.path.dirname(path)
    if above and not os.path.isdir(above):
        _make_directory(above)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        durable.sync_directory(above or ".")


# mbox ---------------------------------------------------------------------------------------------------------------


class Locks(NamedTuple):
    """How a mailbox file is locked: Postfix's mailbox_delivery_lock and the parameters beside it."""

    # some of "fcntl", "flock", "dotlock"
    styles: tuple[str, ...]
    attempts: int
    # seconds between attempts
    delay: float
    # seconds until a lock file counts as left over
    stale: float


class Identities(NamedTuple):
    """Whose rights are used for what; contexts within which the process has them."""

    # for the file: its owner
    owner: Callable[[], AbstractContextManager[None]] = nullcontext
    # for new names in its directory: that of a file that has to be made, and that of the lock file
    maker: Callable[[], AbstractContextManager[None]] = nullcontext
    # user and group to give a new file to, where its maker is not its owner
    give_to: tuple[int, int] | None = None


ANYBODY = Identities()
"""Whoever the process is anyway."""


class Mbox:
    """An mbox file, open and locked."""

    def __init__(self, path: str, descriptor: int, identities: Identities) -> None:
        self.path = path
        self._descriptor = descriptor
        self._identities = identities
        self._lock_file = ""

    @classmethod
    def open(
        cls,
        path: str,
        locks: Locks,
        identities: Identities = ANYBODY,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Self:
        """Opens the file at ``path``, or makes it (mode 0600), and locks it. Raises MailboxError."""
        box = cls(path, _open_or_create(path, identities), identities)
        try:
            if box.is_regular:
                with identities.maker():
                    box._lock(locks, sleep)
        except BaseException:
            box.release()
            raise
        return box

    def _lock(self, locks: Locks, sleep: Callable[[float], None]) -> None:
        if "dotlock" in locks.styles:
            _make_lock_file(f"{self.path}.lock", locks, sleep)
            self._lock_file = f"{self.path}.lock"
        _lock(self._descriptor, locks, sleep)
        _check_still_there(self._descriptor)

    @property
    def is_regular(self) -> bool:
        """Whether it is a plain file, and not a device or a pipe."""
        return stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    @property
    def owner(self) -> int:
        """The uid of its owner."""
        return os.fstat(self._descriptor).st_uid

    def append(self, chunks: Iterable[bytes], size_limit: int) -> None:
        """Adds text to the end. ``size_limit`` is for the whole file, in bytes, 0 for none. Raises MailboxError."""
        try:
            # Written as the owner, so that quotas count.
            with self._identities.owner():
                durable.append_chunks(self._descriptor, self._separated(chunks), size_limit)
        except durable.WriteError as error:
            raise _trouble("error writing message", error) from None

    def _separated(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, behind what is missing of a blank line at the end of the file."""
        size = os.fstat(self._descriptor).st_size
        end = os.pread(self._descriptor, 2, max(size - 2, 0))
        if size and end != b"\n\n":
            yield b"\n" if end.endswith(b"\n") else b"\n\n"
        yield from chunks

    def release(self) -> None:
        """Unlocks and closes the file."""
        os.close(self._descriptor)
        if self._lock_file:
            # Someone else may have broken the lock; if not, it will be stale.
            with self._identities.maker(), suppress(OSError):
                os.unlink(self._lock_file)


_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def _open_or_create(path: str, identities: Identities) -> int:
    for _ in range(_ATTEMPTS_PER_NAME):
        try:
            with identities.owner():
                return _open_existing(path)
        except FileNotFoundError:
            pass
        try:
            with identities.maker():
                return _create(path, identities.give_to)
        except FileExistsError:
            # Another delivery was faster.
            continue
    raise MailboxError(errno.EAGAIN, f"cannot open file: {os.strerror(errno.ENOENT)}")


def _create(path: str, give_to: tuple[int, int] | None) -> int:
    """Raises FileExistsError, else MailboxError."""
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        raise _trouble("cannot create file exclusively", error) from None
    try:
        if give_to is not None:
            os.fchown(descriptor, *give_to)
    except OSError as error:
        # Nobody else has written to it: it was made a moment ago, in a directory where only root writes.
        os.close(descriptor)
        os.unlink(path)
        raise _trouble("cannot change file ownership", error) from None
    return descriptor


def _open_existing(path: str) -> int:
    """Raises FileNotFoundError, else MailboxError."""
    try:
        try:
            descriptor = os.open(path, _FLAGS | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            if os.lstat(path).st_uid != 0:
                raise MailboxError(errno.ELOOP, "file is a symbolic link") from None
            descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _trouble("cannot open file", error) from None
    names = os.fstat(descriptor).st_nlink
    if names != 1:
        os.close(descriptor)
        raise MailboxError(errno.EMLINK, f"file has {names} hard links")
    return descriptor


def _make_lock_file(path: str, locks: Locks, sleep: Callable[[float], None]) -> None:
    for attempt in range(locks.attempts):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        except FileExistsError:
            pass
        except OSError as error:
            raise _trouble(f"unable to create lock file {path}", error) from None
        else:
            return
        if attempt + 1 < locks.attempts:
            _remove_if_stale(path, locks.stale)
            sleep(locks.delay)
    raise MailboxError(errno.EAGAIN, f"unable to create lock file {path}: {os.strerror(errno.EEXIST)}")


def _remove_if_stale(path: str, stale: float) -> None:
    try:
        if time.time() > os.stat(path, follow_symlinks=False).st_ctime + stale:
            os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _trouble(f"unable to create lock file {path}", error) from None


def _check_still_there(descriptor: int) -> None:
    """Some software replaces the file under its lock."""
    if os.fstat(descriptor).st_nlink != 1:
        raise MailboxError(errno.EAGAIN, "target file status changed unexpectedly")


def _lock(descriptor: int, locks: Locks, sleep: Callable[[float], None]) -> None:
    for style, function in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
        if style not in locks.styles:
            continue
        for attempt in range(locks.attempts):
            try:
                function(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                busy = error.errno in (errno.EAGAIN, errno.EACCES)
                if not busy or attempt + 1 == locks.attempts:
                    number = errno.EAGAIN if busy else error.errno
                    raise MailboxError(
                        number, f"unable to lock for exclusive access: {os.strerror(number or errno.EIO)}"
                    ) from None
            sleep(locks.delay)
