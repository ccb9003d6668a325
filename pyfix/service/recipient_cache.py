"""The rewrite service's Resolve for one recipient after the other, with the answers of the last moment kept."""

from pyfix.service.client import Client
from pyfix.service.rewrite import Resolve, Resolved, ResolveReply

_AGE = 1.0
_LIMIT = 1000


class RecipientCache:
    """Answers that are at most a second old."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._answers: dict[tuple[str, str], tuple[float, Resolved]] = {}

    def get(self, sender: str, recipient: str, now: float) -> Resolved | None:
        """What is known of a recipient at a moment of the monotonic clock."""
        answer = self._answers.get((sender, recipient))
        return answer[1] if answer is not None and now - answer[0] < _AGE else None

    async def ask(self, sender: str, recipient: str, now: float) -> Resolved:
        """Asks for a recipient. Raises Unavailable, and what the service answers with."""
        reply: ResolveReply = await self._client.call("Resolve", Resolve(sender, (recipient,)))
        resolved = reply.resolved[0]
        self.keep(sender, recipient, resolved, now)
        return resolved

    def keep(self, sender: str, recipient: str, resolved: Resolved, now: float) -> None:
        """Keeps what the service has answered."""
        if len(self._answers) >= _LIMIT:
            self._answers.clear()
        self._answers[sender, recipient] = (now, resolved)
