"""Removing files without waiting for it: while others sync, a file system may take a millisecond to remove a file.

A thread removes what has come together in a moment, so that the wait and the hand-over are shared. Before, those files
or all recipients in them are marked as done: a process that dies meanwhile delivers nothing twice.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from pyfix.service.cycle import Cycle
from pyfix.spool.active import ActiveFile, ActiveQueue

T = TypeVar("T")

_MOMENT = 0.05
_BATCH = 500


class Removals(Generic[T]):
    """Removes active files. ``removed`` is called with what was given along when a file is gone."""

    def __init__(self, active: ActiveQueue, cycle: Cycle, removed: Callable[[T], None]) -> None:
        self._active = active
        self._cycle = cycle
        self._removed = removed
        self._thread = ThreadPoolExecutor(1, "removal")
        self._working = False
        self._waiting: list[tuple[ActiveFile, T]] = []

    def add(self, file: ActiveFile, along: T) -> None:
        """Removes a file soon."""
        # First, because a file that is still open is removed in two steps, which costs twice as much.
        self._active.forget(file)
        self._waiting.append((file, along))
        if not self._working:
            self._working = True
            self._cycle.spawn(self._work())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(_MOMENT)
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            await loop.run_in_executor(self._thread, self._remove, batch)
            for _, along in batch:
                self._removed(along)
            self._cycle.kick()
        self._working = False

    def _remove(self, batch: list[tuple[ActiveFile, T]]) -> None:
        for file, _ in batch:
            self._active.remove(file)
