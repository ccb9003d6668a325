"""Commits files to the disk without waiting for it, for an event loop that has many to commit.

Where the kernel can sync on its own it does, and what comes together in a turn of the loop goes to the disk together.
Where it cannot (see pyfix.system.kernel), and what it does not take, a few threads do it.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import count, islice
from queue import SimpleQueue
from typing import Protocol

from pyfix.system.kernel import KernelSync

# Syncs that the kernel has under way; more wait for their turn.
_ROOM = 256
# More threads than this do not make fsync faster.
_THREADS = 3


class Committed(Protocol):
    """A file that is to be made durable, such as a DurableFile."""

    def seal(self) -> int:
        """Does what is left to be done before the sync: the descriptor to sync. Raises OSError."""

    def settle(self, error: OSError | None) -> None:
        """Ends the file, which was synced, or was not. Raises OSError where it is not committed."""


class _Job:
    """A file on its way to the disk."""

    __slots__ = ("committed", "descriptor", "file")

    def __init__(self, file: Committed, descriptor: int, committed: "asyncio.Future[None]") -> None:
        self.file = file
        self.descriptor = descriptor
        self.committed = committed

    def end(self, error: OSError | None) -> None:
        """The sync has ended."""
        try:
            self.file.settle(error)
        except OSError as trouble:
            if not self.committed.done():
                self.committed.set_exception(trouble)
        else:
            if not self.committed.done():
                self.committed.set_result(None)


class Flusher:
    """Commits files. ``kernel`` is false where the kernel is not to be asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, kernel: bool = True) -> None:
        self._loop = loop
        self._waiting: deque[_Job] = deque()
        self._begin_soon = False
        self._under_way: dict[int, _Job] = {}
        self._tags = count()
        self._kernel: KernelSync | None = None
        self._threads = _Threads(loop)
        if kernel:
            with suppress(OSError):
                self._kernel = KernelSync(_ROOM)
                loop.add_reader(self._kernel.fileno(), self._collect, self._kernel)

    def commit(self, file: Committed) -> "asyncio.Future[None]":
        """Makes a file durable: the future ends when it is, or with the OSError that it came to.

        Raises OSError where it fails at once. Who waits no longer changes nothing.
        """
        job = _Job(file, file.seal(), self._loop.create_future())
        self._waiting.append(job)
        if not self._begin_soon:
            self._begin_soon = True
            self._loop.call_soon(self._begin)
        return job.committed

    def close(self) -> None:
        """Waits until what was asked for is done, and ends."""
        self._begin()
        if self._kernel is not None:
            self._loop.remove_reader(self._kernel.fileno())
            while self._under_way:
                self._end(self._kernel.ended(at_least=1))
                self._begin()
            self._kernel.close()
        self._threads.close()

    def _begin(self) -> None:
        """Hands over what waits, as far as there is room for it."""
        self._begin_soon = False
        while self._waiting and (room := _ROOM - len(self._under_way)):
            jobs = {next(self._tags): self._waiting.popleft() for _ in range(min(room, len(self._waiting)))}
            taken = self._offer(jobs)
            self._under_way.update(islice(jobs.items(), taken))
            self._threads.sync(islice(jobs.values(), taken, None))

    def _offer(self, jobs: dict[int, _Job]) -> int:
        """How many of the jobs the kernel takes, the first ones."""
        if self._kernel is None:
            return 0
        try:
            return self._kernel.begin((job.descriptor, tag) for tag, job in jobs.items())
        except OSError:
            return 0

    def _collect(self, kernel: KernelSync) -> None:
        self._end(kernel.ended())
        if self._waiting and not self._begin_soon:
            self._begin()

    def _end(self, ended: Iterable[tuple[int, int]]) -> None:
        for tag, number in ended:
            self._under_way.pop(tag).end(OSError(number, os.strerror(number)) if number else None)


class _Threads:
    """Syncs in threads, which are started when they are needed. What several finish at a time wakes the loop once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ended: deque[tuple[_Job, OSError | None]] = deque()
        self._woken = False
        self._threads: list[threading.Thread] = []

    def sync(self, jobs: Iterable[_Job]) -> None:
        for job in jobs:
            if len(self._threads) < _THREADS:
                name = f"flusher-{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
                self._threads[-1].start()
            self._jobs.put(job)

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._collect()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            error: OSError | None = None
            try:
                os.fsync(job.descriptor)
            except OSError as trouble:
                error = trouble
            self._ended.append((job, error))
            # The flag falls before the loop begins to collect: who finds it up knows that all is still to be collected.
            if not self._woken and not self._loop.is_closed():
                self._woken = True
                self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._woken = False
        while self._ended:
            job, error = self._ended.popleft()
            job.end(error)
