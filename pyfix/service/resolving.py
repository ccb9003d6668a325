"""The rewrite service's Resolve, for messages with any number of recipients."""

import asyncio
from collections.abc import Callable, Sequence

from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.cycle import Cycle
from pyfix.service.insist import insist
from pyfix.service.recipient_cache import RecipientCache
from pyfix.service.rewrite import Resolve, Resolved, ResolveReply
from pyfix.system.clock import monotonic

Then = Callable[[Sequence[Resolved], str], None]
"""Takes answers, and what went wrong; one of them is empty."""

# Addresses in one call: a call has a size limit, and others who ask wait while it is served.
_BATCH = 500
# Calls under way for one message: the service works on one while the answer to the other is read.
_AHEAD = 2


class Resolver:
    """Asks the rewrite service, and keeps its answers for a moment: mail for somebody often comes in bursts.

    Answers that tell of an error are not kept: what was wrong may be mended already.
    """

    def __init__(self, client: Client, cycle: Cycle) -> None:
        self._client = client
        self._cycle = cycle
        self._cache = RecipientCache(client)

    def resolve(self, sender: str, recipients: Sequence[str], then: Then) -> None:
        """Finds where the recipients are to be delivered, and tells it, in their order: at once where it is known.

        In trouble ``then`` gets no answers, and what went wrong.
        """
        known = self._known(sender, recipients)
        if known is not None:
            then(known, "")
        elif len(recipients) <= _BATCH:
            self._cycle.spawn(self._ask_and_keep(sender, recipients, then))
        else:
            self._cycle.spawn(self._ask_in_parts(sender, recipients, then))

    def _known(self, sender: str, recipients: Sequence[str]) -> list[Resolved] | None:
        now = monotonic()
        known = []
        for recipient in recipients:
            answer = self._cache.get(sender, recipient, now)
            if answer is None:
                return None
            known.append(answer)
        return known

    async def _ask_and_keep(self, sender: str, recipients: Sequence[str], then: Then) -> None:
        now = monotonic()
        try:
            resolved = await self._ask(sender, recipients)
        except Unavailable as error:
            then((), _trouble(error))
        else:
            for recipient, answer in zip(recipients, resolved, strict=False):
                if answer.address_class != "error":
                    self._cache.keep(sender, recipient, answer, now)
            then(resolved, "")
        self._cycle.kick()

    async def _ask_in_parts(self, sender: str, recipients: Sequence[str], then: Then) -> None:
        """So many recipients are not kept: they would only displace others."""
        turns = asyncio.Semaphore(_AHEAD)

        async def ask(start: int) -> Sequence[Resolved]:
            async with turns:
                return await self._ask(sender, recipients[start : start + _BATCH])

        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(ask(start)) for start in range(0, len(recipients), _BATCH)]
        except* Unavailable as errors:
            then((), _trouble(errors.exceptions[0]))
        else:
            then([answer for part in parts for answer in part.result()], "")
        self._cycle.kick()

    async def _ask(self, sender: str, recipients: Sequence[str]) -> Sequence[Resolved]:
        reply: ResolveReply = await insist(self._client, "Resolve", Resolve(sender, tuple(recipients)))
        return reply.resolved


def _trouble(error: BaseException) -> str:
    return f"problem talking to service rewrite: {error}"
