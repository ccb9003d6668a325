"""The rewrite service's Resolve, for messages with any number of recipients."""

from collections.abc import Sequence

from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.insist import insist
from pyfix.service.recipient_cache import RecipientCache
from pyfix.service.rewrite import Resolve, Resolved
from pyfix.system.clock import monotonic

# Addresses in one call: a call has a size limit.
_BATCH = 500


class Resolver:
    """Asks the rewrite service, and keeps its answers for a moment: mail for somebody often comes in bursts.

    Answers that tell of an error are not kept: what was wrong may be mended already.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cache = RecipientCache(client)

    async def resolve(self, sender: str, recipients: Sequence[str]) -> tuple[list[Resolved], str]:
        """Where the recipients are to be delivered, in their order; fewer answers, and what went wrong, in trouble."""
        resolved: list[Resolved] = []
        try:
            for start in range(0, len(recipients), _BATCH):
                resolved += await self._resolve(sender, recipients[start : start + _BATCH])
        except Unavailable as error:
            return resolved, f"problem talking to service rewrite: {error}"
        return resolved, ""

    async def _resolve(self, sender: str, recipients: Sequence[str]) -> Sequence[Resolved]:
        now = monotonic()
        known = [answer for r in recipients if (answer := self._cache.get(sender, r, now)) is not None]
        if len(known) == len(recipients):
            return known
        reply = await insist(self._client, "Resolve", Resolve(sender, tuple(recipients)))
        resolved: Sequence[Resolved] = reply.resolved
        for recipient, answer in zip(recipients, resolved, strict=False):
            if answer.address_class != "error":
                self._cache.keep(sender, recipient, answer, now)
        return resolved
