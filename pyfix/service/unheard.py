"""What became of mail, kept until the queue manager has heard it.

A queue manager that is killed has not read all answers, and some of its mail is still being delivered. The next one
finds that mail in the queue and asks for it again. It is not delivered twice: who was served is remembered, and the end
of a delivery that is under way is awaited.

An answer was heard when the next call comes on the same connection, since the queue manager reads the one before it
makes the other. The last answer on a connection that has ended may not have been.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial

from msgspec.structs import replace

from pyfix.service.delivery import Deliver, Delivered, Outcome
from pyfix.service.dispatch import Call, Connection

_LIMIT = 10_000
"""Recipients that are remembered."""

_Name = tuple[str, int, int]
"""Queue ID, arrival, offset: an ID may be used again, but not for a message of the same microsecond."""


class _Attempt:
    """A delivery."""

    __slots__ = ("delivered", "request", "under_way")

    def __init__(self, request: Deliver) -> None:
        self.request = request
        self.under_way = True
        # empty as long as it is under way, and if it failed
        self.delivered = Delivered(())


class Unheard:
    """Deliver, for an agent that is one process. ``attempt`` delivers a request, which may be a part of the call's."""

    def __init__(self, attempt: Callable[[Call[Deliver], Deliver], Awaitable[Delivered]]) -> None:
        self._attempt = attempt
        # deliveries under way whose caller has gone, by queue ID, and what is done at their end
        self._deserted: dict[str, dict[_Attempt, asyncio.Future[None]]] = {}
        # who was served, which the caller may not know; the oldest first
        self._served: OrderedDict[_Name, Outcome] = OrderedDict()

    async def deliver(self, call: Call[Deliver]) -> Delivered:
        """Delivers to those recipients who are not known to be served."""
        request, connection = call.parameters, call.connection
        if not connection.on_close:
            connection.on_close.append(partial(self._desert, connection))
        attempt = connection.state = _Attempt(request)
        try:
            for end in tuple(self._deserted.get(request.queue_id, {}).values()):
                await end
            attempt.delivered = await self._deliver_rest(call)
        finally:
            attempt.under_way = False
            if self._deserted:
                self._end(attempt)
        return attempt.delivered

    async def _deliver_rest(self, call: Call[Deliver]) -> Delivered:
        request = call.parameters
        known = self._known(request) if self._served else ()
        if not known:
            return await self._attempt(call, request)
        offsets = {outcome.offset for outcome in known}
        rest = tuple(recipient for recipient in request.recipients if recipient.offset not in offsets)
        if not rest:
            return Delivered(known)
        delivered = await self._attempt(call, replace(request, recipients=rest))
        return replace(delivered, outcomes=known + delivered.outcomes)

    def _known(self, request: Deliver) -> tuple[Outcome, ...]:
        names = [_name(request, recipient.offset) for recipient in request.recipients]
        return tuple(self._served[name] for name in names if name in self._served and not request.verify)

    def _desert(self, connection: Connection) -> None:
        attempt: _Attempt | None = connection.state
        if attempt is None:
            return
        if attempt.under_way:
            end = asyncio.get_running_loop().create_future()
            self._deserted.setdefault(attempt.request.queue_id, {})[attempt] = end
        else:
            self._remember(attempt.request, attempt.delivered)

    def _end(self, attempt: _Attempt) -> None:
        """Tells those who wait, if its caller has gone."""
        queue_id = attempt.request.queue_id
        of_message = self._deserted.get(queue_id, {})
        end = of_message.pop(attempt, None)
        if end is None:
            return
        if not of_message:
            del self._deserted[queue_id]
        self._remember(attempt.request, attempt.delivered)
        end.set_result(None)

    def _remember(self, request: Deliver, delivered: Delivered) -> None:
        for outcome in delivered.outcomes:
            if outcome.status == "sent" and not request.verify:
                self._served[_name(request, outcome.offset)] = outcome
        while len(self._served) > _LIMIT:
            self._served.popitem(last=False)


def _name(request: Deliver, offset: int) -> _Name:
    return request.queue_id, request.arrival_usec, offset
