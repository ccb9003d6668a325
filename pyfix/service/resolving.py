"""The rewrite service's Resolve, for messages with any number of recipients."""

from collections.abc import Callable, Sequence

from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.cycle import Cycle
from pyfix.service.insist import insist
from pyfix.service.recipient_cache import RecipientCache
from pyfix.service.rewrite import Resolve, Resolved
from pyfix.system.clock import monotonic

Then = Callable[[Sequence[Resolved], str], None]
"""Takes answers, and what went wrong."""

# Addresses in one call: a call has a size limit.
_BATCH = 500


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

        In trouble ``then`` gets fewer answers, and what went wrong.
        """
        known = self._known(sender, recipients)
        if known is None:
            self._cycle.spawn(self._ask_all(sender, recipients, then))
        else:
            then(known, "")

    def _known(self, sender: str, recipients: Sequence[str]) -> list[Resolved] | None:
        now = monotonic()
        known = []
        for recipient in recipients:
            answer = self._cache.get(sender, recipient, now)
            if answer is None:
                return None
            known.append(answer)
        return known

    async def _ask_all(self, sender: str, recipients: Sequence[str], then: Then) -> None:
        resolved: list[Resolved] = []
        trouble = ""
        try:
            for start in range(0, len(recipients), _BATCH):
                part = recipients[start : start + _BATCH]
                resolved += self._known(sender, part) or await self._ask(sender, part)
        except Unavailable as error:
            trouble = f"problem talking to service rewrite: {error}"
        then(resolved, trouble)
        self._cycle.kick()

    async def _ask(self, sender: str, recipients: Sequence[str]) -> Sequence[Resolved]:
        now = monotonic()
        reply = await insist(self._client, "Resolve", Resolve(sender, tuple(recipients)))
        resolved: Sequence[Resolved] = reply.resolved
        for recipient, answer in zip(recipients, resolved, strict=False):
            if answer.address_class != "error":
                self._cache.keep(sender, recipient, answer, now)
        return resolved
