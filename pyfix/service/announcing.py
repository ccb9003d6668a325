"""Tells the queue manager of new mail, and hears from it whether mail comes in faster than it is taken.

An announcement is a hint and has no answer: while the queue manager is down its own scan will find the message. Only
under load one announcement a second asks for an answer. When that says that announcements pile up, receivers are to
pause before they accept a message, each for in_flow_delay: so the queue manager, and what it waits for, can catch up.
What was heard holds for two seconds. No news, such as from a queue manager that is down, is no reason to pause.
"""

import asyncio

from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.queue import Announce
from pyfix.system.clock import monotonic

# So many announcements make a load; an answer is asked for once in so many seconds, and holds for twice that time.
_LOAD = 50
_INTERVAL = 1.0


class Announcer:
    """Announces messages, in the background. ``client`` is of io.pyfix.Queue."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop
        self._news: list[str] = []
        self._telling: asyncio.Task[None] | None = None
        self._unanswered = 0
        self._asked = float("-inf")
        # when what was heard of a crowd holds no longer; 0: nothing was
        self._crowded_until = 0.0

    @property
    def crowded(self) -> bool:
        """Mail comes in faster than it is taken."""
        return self._crowded_until > 0 and monotonic() < self._crowded_until

    def tell(self, queue_id: str) -> None:
        """Tells of a message: at once, or as soon as there is a connection."""
        self._unanswered += 1
        if self._telling is None and not self._answer_wanted() and self._client.tell("Announce", Announce(queue_id)):
            return
        self._news.append(queue_id)
        if self._telling is None:
            self._telling = self._loop.create_task(self._tell_all())

    def _answer_wanted(self) -> bool:
        return (self._unanswered >= _LOAD or self._crowded_until > 0) and monotonic() - self._asked >= _INTERVAL

    async def _tell_all(self) -> None:
        try:
            while self._news:
                announcement = Announce(self._news.pop(0))
                if self._answer_wanted():
                    await self._ask(announcement)
                else:
                    await self._client.oneway("Announce", announcement)
        except Unavailable:
            self._news.clear()
            self._crowded_until = 0.0
        finally:
            self._telling = None

    async def _ask(self, announcement: Announce) -> None:
        self._unanswered = 0
        self._asked = monotonic()
        answer = await self._client.call("Announce", announcement)
        self._crowded_until = self._asked + 2 * _INTERVAL if answer.crowded else 0.0
