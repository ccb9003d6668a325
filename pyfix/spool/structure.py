"""Order in the queue directories (postsuper -p, -s and -S): what is no mail goes, and every file gets its place.

Its place is the subdirectory that hash_queue_names and hash_queue_depth ask for. And its name: Postfix makes a short
queue ID of the time and the file's inode number, which no two files have. Files that were restored from a backup have
other inode numbers, so a Postfix might give their names to new mail. They are renamed; here nothing depends on it.

The new name may still be another file's. So a file is renamed in two steps: first to the new name with ``#FIX`` behind
it, which nobody takes for mail, the message after its logs; and, when all have such names, to the name itself. What an
interrupted run has left the next one completes.

Source: Postfix's postsuper(1).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence

from pyfix.spool.directories import LOG_QUEUES, MESSAGE_QUEUES, Spool
from pyfix.spool.queue_id import is_long, is_queue_id, with_inode
from pyfix.system import durable

QUEUES = (*LOG_QUEUES, *MESSAGE_QUEUES)
"""In the order in which they are to be put in order: logs are found in their places when their message is renamed."""

_MARK = "#FIX"
_DAY = 86_400
_DEPTH_LIMIT = 16
_READY = stat.S_IRWXU

_Entry = tuple[str, str, os.stat_result]


class Structure:
    """Puts directories in order. ``warn`` is told, in Postfix's words, what is left as it is.

    ``purge``: files that are older than a day and no complete messages are removed. ``places``: files are put into
    their places and renamed, those with long queue IDs only if ``long_names``. All methods raise OSError.
    """

    def __init__(
        self, spool: Spool, warn: Callable[[str], None], now: float, *, purge: bool, places: bool, long_names: bool
    ) -> None:
        self._spool = spool
        self._warn = warn
        self._before = now - _DAY
        self._purge = purge
        self._places = places
        self._long_names = long_names
        # messages that had another name than they should
        self.mismatches = 0
        # messages that have got the name that they should have
        self.renamed = 0

    @property
    def changed_names(self) -> bool:
        """Whether messages may have other names than before."""
        return self.mismatches > 0 or self.renamed > 0

    def put_in_order(self, queues: Sequence[str] = QUEUES) -> None:
        """Does it; what is not among QUEUES is passed over."""
        for _ in range(2):
            for queue in queues:
                if queue in QUEUES:
                    for entry in self._entries(queue, queue, 0):
                        self._look(queue, *entry)
            if not self.mismatches:
                return

    def _entries(self, queue: str, directory: str, depth: int) -> Iterator[_Entry]:
        """Path, name and status of the files; on the way directories and objects of other kinds are removed."""
        root = self._spool.descriptor
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(directory, flags, dir_fd=root)
        except FileNotFoundError:
            return
        try:
            # Collected first: files are about to be moved.
            names = os.listdir(descriptor)
        finally:
            os.close(descriptor)
        for name in names:
            path = f"{directory}/{name}"
            try:
                status = os.stat(path, dir_fd=root, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, name, status
            elif not stat.S_ISDIR(status.st_mode):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path, dir_fd=root)
            elif len(name) > 1 or queue == "maildrop" or depth == _DEPTH_LIMIT:
                # Whoever may write to maildrop could lead us anywhere.
                self._remove_directory(path, self._warn)
            else:
                yield from self._entries(queue, path, depth + 1)
                if depth >= self._spool.depth_of(queue):
                    self._remove_directory(path)

    def _remove_directory(self, path: str, warn: Callable[[str], None] | None = None) -> None:
        try:
            os.rmdir(path, dir_fd=self._spool.descriptor)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if warn is not None:
                warn(f"remove subdirectory {path}: {error.strerror}")

    def _look(self, queue: str, path: str, name: str, status: os.stat_result) -> None:
        is_message = queue in MESSAGE_QUEUES
        ready = status.st_mode & _READY == _READY or not is_message
        if self._purge and not ready and durable.remove_leftover(path, self._before, self._spool.descriptor):
            return
        if self._places and name.endswith(_MARK):
            found = self._unmark(queue, path, name.removesuffix(_MARK), status)
            if found is None:
                return
            path, name = found
        if not is_queue_id(name):
            self._warn(f"bogus file name: {path}")
        elif self._places and ready:
            wanted = with_inode(name, status.st_ino)
            if is_message and wanted != name and (self._long_names or not is_long(name)):
                self._rename(queue, path, name, wanted)
            elif path != self._spool.path(queue, name):
                self._move(path, queue, name)

    def _unmark(self, queue: str, path: str, name: str, status: os.stat_result) -> tuple[str, str] | None:
        """The second step: the file's new path and name; None where it must not be made."""
        is_message = queue in MESSAGE_QUEUES
        if not is_queue_id(name):
            self._warn(f"bogus file name: {path}")
        elif is_message and (with_inode(name, status.st_ino) != name or self._spool.find(queue, name)):
            self._warn(f"name/inode mismatch: {path}")
        else:
            self.renamed += is_message
            return self._move(path, queue, name), name
        return None

    def _rename(self, queue: str, path: str, name: str, wanted: str) -> None:
        """The first step."""
        self.mismatches += 1
        for log in LOG_QUEUES:
            if (old := self._spool.find(log, name)) is not None:
                self._move(old, log, wanted, _MARK)
        self._move(path, queue, wanted, _MARK)

    def _move(self, path: str, queue: str, name: str, mark: str = "") -> str:
        target = self._spool.make_room(queue, name) + mark
        with contextlib.suppress(FileNotFoundError):
            durable.move(path, target, self._spool.descriptor)
        return target
