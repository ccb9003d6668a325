"""A tally of the queues, again and again, for little: how many messages, the oldest, and a sample of them.

A directory is read again only when it has changed, and not all of those that have at once. Files are not opened. The
sample of a queue is those of its messages whose names have the lowest checksums, so it hardly changes from one look
to the next.
"""

import heapq
import os
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

from pyfix.spool.directories import Spool
from pyfix.spool.queue_id import is_long, time_of

SAMPLE = 1000
"""How many messages of a queue are named at most."""

_BUDGET = 20_000
_SECOND = 1_000_000_000
# Where the separator of a long ID stands.
_SEPARATOR = 10


class Tally(NamedTuple):
    """What is known of a queue."""

    # how many messages it has
    size: int
    # the oldest long queue ID, empty if there is none
    oldest: str
    # paths below the spool's root; all messages where they are not more than SAMPLE
    sample: tuple[str, ...]
    # some directories have changed since they were read
    estimated: bool

    @property
    def oldest_usec(self) -> int:
        """When the oldest message was named, microseconds since the epoch; 0 unknown."""
        return time_of(self.oldest) if is_long(self.oldest) else 0


class _Directory:
    """What was in a directory when it was last read."""

    __slots__ = ("changed", "count", "oldest", "read", "sample", "subdirectories")

    def __init__(self, changed: int, read: int) -> None:
        # its mtime, and when it was read: nanoseconds
        self.changed = changed
        self.read = read
        self.count = 0
        self.oldest = ""
        self.sample: list[tuple[int, str]] = []
        self.subdirectories: list[str] = []

    def is_current(self, changed: int) -> bool:
        """Whether it is as it was; a change within the same tick of the file system's clock would not be seen."""
        return self.changed == changed and self.read - changed > _SECOND


class Tallies:
    """The tallies of a spool's queues. Memory is bounded, but for the names of subdirectories."""

    __slots__ = ("_budget", "_known", "_spool")

    def __init__(self, spool: Spool, budget: int = _BUDGET) -> None:
        """``budget``: how many names are read again in one look at a queue."""
        self._spool = spool
        self._budget = budget
        self._known: dict[str, _Directory] = {}

    def look(self, queue: str, now: int) -> Tally:
        """A queue's tally. ``now`` is in nanoseconds since the epoch. Raises OSError."""
        found: dict[str, _Directory] = {}
        stale: list[str] = []
        waiting = [queue]
        while waiting:
            path = waiting.pop()
            directory = self._current(path, now, stale)
            if directory is not None:
                found[path] = directory
                waiting += directory.subdirectories
        left = self._budget
        stale.sort(key=lambda path: found[path].read)
        while stale and left > 0:
            path = stale.pop(0)
            found[path] = self._read(path, now)
            left -= found[path].count + 1
        for path in [path for path in self._known if path.partition("/")[0] == queue]:
            del self._known[path]
        self._known.update(found)
        oldest = min((directory.oldest for directory in found.values() if directory.oldest), default="")
        sample = heapq.nsmallest(SAMPLE, (entry for directory in found.values() for entry in directory.sample))
        size = sum(directory.count for directory in found.values())
        return Tally(size, oldest, tuple(path for _, path in sample), bool(stale))

    def _current(self, path: str, now: int, stale: list[str]) -> _Directory | None:
        """The directory as it is known, noted where that may be wrong; None if there is none."""
        try:
            changed = os.stat(path, dir_fd=self._spool.descriptor, follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            return None
        known = self._known.get(path)
        if known is None:
            return self._read(path, now)
        if not known.is_current(changed):
            stale.append(path)
        return known

    def _read(self, path: str, now: int) -> _Directory:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, dir_fd=self._spool.descriptor)
        except FileNotFoundError:
            return _Directory(0, now)
        try:
            directory = _Directory(os.fstat(descriptor).st_mtime_ns, now)
            with os.scandir(descriptor) as entries:
                _count(entries, path, directory)
        finally:
            os.close(descriptor)
        return directory


def _count(entries: Iterable["os.DirEntry[str]"], path: str, directory: _Directory) -> None:
    oldest, sample, highest, count = "", directory.sample, 1 << 32, 0
    for entry in entries:
        name = entry.name
        if len(name) < 6:
            if len(name) == 1 and path.count("/") < 2 and entry.is_dir(follow_symlinks=False):
                directory.subdirectories.append(f"{path}/{name}")
            continue
        count += 1
        if name[_SEPARATOR : _SEPARATOR + 1] == "z" and (not oldest or name < oldest):
            oldest = name
        checksum = crc32(name.encode())
        if checksum < highest:
            sample.append((checksum, f"{path}/{name}"))
            if len(sample) >= 4 * SAMPLE:
                sample[:] = heapq.nsmallest(SAMPLE, sample)
                highest = sample[-1][0]
    directory.count, directory.oldest = count, oldest
    sample[:] = heapq.nsmallest(SAMPLE, sample)
