"""The rewrite service's Resolve, for messages with any number of recipients."""

from collections.abc import Sequence

from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.insist import insist
from pyfix.service.rewrite import Resolve, Resolved

# Addresses in one call: a call has a size limit.
_BATCH = 500


async def resolve(client: Client, sender: str, recipients: Sequence[str]) -> tuple[list[Resolved], str]:
    """Where the recipients are to be delivered, in their order; fewer answers, and what went wrong, in trouble."""
    resolved: list[Resolved] = []
    try:
        for start in range(0, len(recipients), _BATCH):
            reply = await insist(client, "Resolve", Resolve(sender, tuple(recipients[start : start + _BATCH])))
            resolved += reply.resolved
    except Unavailable as error:
        return resolved, f"problem talking to service rewrite: {error}"
    return resolved, ""
