"""Work in turns: what many events ask for is done together, once in each pass of the event loop.

Beside the turns run tasks. An exception that a turn or a task lets out goes to ``on_error``: the work is not in order
any more.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from pyfix.service.role import Role


def giving_up(role: Role) -> Callable[[BaseException], None]:
    """An ``on_error`` that ends the role: what it knows may not be so any more. The next process looks."""

    def give_up(error: BaseException) -> None:
        if isinstance(error, OSError):
            role.fail(error)
        else:
            role.bug(error)

    return give_up


class Cycle:
    """Calls ``turn`` when it has been kicked, or when its alarm goes off."""

    def __init__(self, turn: Callable[[], None], on_error: Callable[[BaseException], None]) -> None:
        self._turn = turn
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._due = False
        self._tasks: set[asyncio.Future[Any]] = set()
        self._alarm: asyncio.TimerHandle | None = None

    def kick(self) -> None:
        """A turn is due."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._run)

    def set_alarm(self, delay: float | None) -> None:
        """A turn will be due after so many seconds, or at no known time; the alarm before is forgotten."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None if delay is None else self._loop.call_later(delay, self.kick)

    def repeat(self, function: Callable[[], float]) -> None:
        """Calls a function now, and again after as many seconds as it says."""
        self._loop.call_later(function(), self.repeat, function)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def follow(self, future: asyncio.Future[Any], then: Callable[[asyncio.Future[Any]], None]) -> None:
        """Calls a function with a future that is done; a turn is due after that."""
        self._tasks.add(future)
        future.add_done_callback(partial(self._on_answer, then))

    async def finish(self) -> None:
        """Goes on until no task is left, and no future that is followed."""
        while self._tasks:
            await asyncio.wait(self._tasks)
            self._run()

    def _run(self) -> None:
        self._due = False
        try:
            self._turn()
        except Exception as error:  # noqa: BLE001 -- whoever it goes to ends the process
            self._on_error(error)

    def _on_answer(self, then: Callable[[asyncio.Future[Any]], None], future: asyncio.Future[Any]) -> None:
        self._tasks.discard(future)
        try:
            then(future)
        except Exception as error:  # noqa: BLE001 -- as above
            self._on_error(error)
        self.kick()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_error(error)
