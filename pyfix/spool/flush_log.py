"""flush/NAME: the queue IDs of mail that is deferred for a destination, in Postfix's format: one a line.

A log is a hint and no more: without it mail is delivered when its time comes. So nothing is synced here, and an ID may
stand there twice, or stay when its message has gone. The time of a log's last reading is set by hand, for file systems
that do not keep it.

Source: Postfix flush(8).
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pyfix.spool.directories import Spool
from pyfix.spool.queue_id import is_queue_id

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes. A log that would be larger is not continued: to try all mail is cheaper than to look each message up."""

_DIRECTORY = "flush"


class LogStatus(NamedTuple):
    """A log: its size in bytes, when it was written and when it was used, seconds since the epoch."""

    name: str
    size: int
    written: float
    used: float


class Taken(NamedTuple):
    """The content of a log, each queue ID once; ``full`` when there were more than it could hold."""

    queue_ids: Sequence[str]
    full: bool


class FlushLogs:
    """The logs of a spool. Names are made by pyfix.schedule.fast_flush. Every method raises OSError."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def add(self, name: str, queue_ids: Iterable[str]) -> None:
        """Continues a log, or begins it."""
        descriptor = self._open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            if os.fstat(descriptor).st_size < SIZE_LIMIT:
                os.write(descriptor, "".join(f"{queue_id}\n" for queue_id in queue_ids).encode())
        finally:
            os.close(descriptor)

    def take(self, name: str, now: float) -> Taken:
        """What is in a log, which is empty after that."""
        try:
            descriptor = self._open(name, os.O_RDWR)
        except FileNotFoundError:
            return Taken((), full=False)
        try:
            content = os.pread(descriptor, SIZE_LIMIT, 0)
            os.ftruncate(descriptor, 0)
            os.utime(descriptor, (now, now))
        finally:
            os.close(descriptor)
        lines = dict.fromkeys(content.decode("ascii", "replace").split("\n"))
        return Taken([line for line in lines if is_queue_id(line)], full=len(content) >= SIZE_LIMIT)

    def scan(self) -> Iterator[LogStatus]:
        """All logs, in no order."""
        descriptor = os.open(
            _DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._spool.descriptor
        )
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            yield LogStatus(entry.name, status.st_size, status.st_mtime, status.st_atime)
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """Removes a log, if it is still there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{_DIRECTORY}/{name}", dir_fd=self._spool.descriptor)

    def _open(self, name: str, flags: int) -> int:
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(f"{_DIRECTORY}/{name}", flags, 0o600, dir_fd=self._spool.descriptor)
