"""io.pyfix.Control's Change, as the queue manager carries it out: also on messages that it is at work on."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence

from pyfix.service.queue import Change, Changed
from pyfix.spool import change
from pyfix.spool.active import ActiveFile
from pyfix.spool.directories import Spool
from pyfix.spool.queue_id import is_queue_id

_PATIENCE = 60.0
"""Seconds to wait for deliveries in flight before a message is left alone."""

_BATCH = 100

_WITHOUT_WAITING = ("delete", "expire")
"""What can be done to a message that is being delivered; one that expires meanwhile does so at the next attempt."""


class Changes:
    """Changes messages.

    ``find`` tells the file of an active message, None for any other. ``withdraw`` stops work on active messages; for
    each of them ``left`` is to be called when nothing of it is in flight any more. ``warn`` is told of what went wrong,
    and of which message.
    """

    def __init__(
        self,
        spool: Spool,
        find: Callable[[str], ActiveFile | None],
        withdraw: Callable[[Collection[str]], None],
        warn: Callable[[str, str], None],
    ) -> None:
        self._spool = spool
        self._find = find
        self._withdraw = withdraw
        self._warn = warn
        self._leaving: dict[str, list[asyncio.Future[None]]] = {}

    async def carry_out(self, request: Change) -> Changed:
        """Changes what can be: not messages whose deliveries take too long, and not what the file system refuses."""
        action, queues = request.action, request.queues
        act, concerned = change.ACTIONS[action]
        queue_ids: Sequence[str] = [queue_id for queue_id in request.queue_ids if is_queue_id(queue_id)]
        if not request.queue_ids:
            queue_ids = list(change.messages_of(self._spool, action, queues))
        active = set()
        if "active" in (queues or concerned) and action != "expire":
            active = {queue_id for queue_id in queue_ids if self._find(queue_id)}
            await self._take_out(active, wait=action != "delete")
        changed = []
        for number, queue_id in enumerate(queue_ids, 1):
            file = self._find(queue_id)
            if file is not None and action not in _WITHOUT_WAITING:
                continue
            try:
                if act(self._spool, queue_id, queues or concerned):
                    changed.append(queue_id)
            except OSError as error:
                self._warn(f"{action}: {error.strerror}", queue_id)
                if queue_id in active:
                    # Nobody works on it any more.
                    with contextlib.suppress(OSError):
                        self._spool.move(queue_id, "active", "deferred")
            if file is not None:
                file.gone = self._spool.find("active", queue_id) is None
            if number % _BATCH == 0:
                await asyncio.sleep(0)
        return Changed(tuple(changed))

    def left(self, queue_id: str) -> bool:
        """A message has been withdrawn; whether somebody takes it from active/ now."""
        waiting = [future for future in self._leaving.pop(queue_id, ()) if not future.done()]
        for future in waiting:
            future.set_result(None)
        return bool(waiting)

    async def _take_out(self, active: Collection[str], *, wait: bool) -> None:
        loop = asyncio.get_running_loop()
        futures = []
        for queue_id in active if wait else ():
            future = loop.create_future()
            futures.append(future)
            self._leaving.setdefault(queue_id, []).append(future)
        self._withdraw(active)
        if futures:
            _, late = await asyncio.wait(futures, timeout=_PATIENCE)
            for future in late:
                future.cancel()
