"""Threads for calls that wait for the disk, made cheap for an event loop that makes thousands of them.

What several threads finished at about the same time wakes the loop once.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

_Job = tuple[Callable[[], None], "asyncio.Future[None]"]


class Flusher:
    """Runs plain functions in a few threads. The threads end with close(), or with the process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[None], BaseException | None]] = deque()
        self._woken = False
        self._threads = [
            threading.Thread(target=self._work, name=f"flusher-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, function: Callable[[], None]) -> "asyncio.Future[None]":
        """Calls the function in a thread; the future has its end, or what it raised."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((function, future))
        return future

    def close(self) -> None:
        """Waits until what was asked for is done, and ends the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future = job
            error: BaseException | None = None
            try:
                function()
            except BaseException as raised:  # noqa: BLE001 -- it is raised again in the loop, by who awaits the future
                error = raised
            self._done.append((future, error))
            # The flag falls before the loop begins to collect: who finds it up knows that all is still to be collected.
            if not self._woken and not self._loop.is_closed():
                self._woken = True
                self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._woken = False
        while self._done:
            future, error = self._done.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
