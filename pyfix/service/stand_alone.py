"""A conversation with whoever runs this program, on standard input and output, with postdrop behind it.

What came before the end of the input is answered first, as scripts do not wait for replies.
"""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pyfix.conf.config import Config
from pyfix.service.calling import socket_path
from pyfix.service.client import Client
from pyfix.service.postdrop import INTERFACE, Open
from pyfix.service.submission import Message, Submission
from pyfix.spool.queue_id import QueueIds
from pyfix.system.clock import now_usec
from pyfix.system.journal import JOURNAL_SOCKET, WARNING, Event, Journal
from pyfix.system.standard_line import StandardLine
from pyfix.wire.reply import Reply


class Conversation(Protocol):
    """Who talks with the user."""

    def receive(self, data: bytes) -> None:
        """The user has said something."""

    def lost(self) -> None:
        """The user has gone."""


class House:
    """What a conversation may ask for."""

    def __init__(self, conf: Config) -> None:
        self.now_usec = now_usec
        self.new_queue_id = QueueIds().new
        self._loop = asyncio.get_running_loop()
        self._postdrop = Client(INTERFACE, socket_path("postdrop", INTERFACE.name))
        # Standard error is the user's.
        self._journal = Journal(f"{conf.text('syslog_name')}/smtpd") if os.path.exists(JOURNAL_SOCKET) else None
        # answers that are still to come
        self._owed = 0
        self._when_quiet: Callable[[], None] | None = None

    def log(self, event: Event) -> None:
        """Logs where there is a journal."""
        if self._journal is not None:
            self._journal.write(event)

    def submit(self, request: Open, on_room: Callable[[], None]) -> "OwedMessage":
        """Begins to hand a message to postdrop. Raises OSError."""
        submission = Submission(self._loop, self._postdrop, request, on_room)
        return OwedMessage(submission, self._warn, self._owing)

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Calls after a while."""
        self._loop.call_later(seconds, self._owing(then))

    def when_quiet(self, then: Callable[[], None]) -> None:
        """Calls, soon, once no answer is owed any more."""
        self._when_quiet = then
        self._look()

    def close(self) -> None:
        """Ends the connection to postdrop."""
        self._postdrop.close()

    def _warn(self, message: str) -> None:
        self.log(Event(f"warning: {message}", priority=WARNING))

    def _owing(self, then: Callable[..., None]) -> Callable[..., None]:
        """The same, with an answer owed until it is called."""
        self._owed += 1

        def answer(*arguments: Reply) -> None:
            then(*arguments)
            self._owed -= 1
            self._look()

        return answer

    def _look(self) -> None:
        if self._when_quiet is not None and self._owed == 0:
            self._loop.call_soon(self._when_quiet)


class OwedMessage(Message):
    """A message on its way to postdrop; from commit() on the reply is owed."""

    __slots__ = ("_owing",)

    def __init__(
        self,
        submission: Submission,
        warn: Callable[[str], None],
        owing: Callable[[Callable[..., None]], Callable[..., None]],
    ) -> None:
        super().__init__("postdrop", submission, warn)
        self._owing = owing

    def commit(self, then: Callable[[Reply], None]) -> None:
        """Has the message made durable; ``then`` gets the reply."""
        super().commit(self._owing(then))


def run(conf: Config, begin: Callable[[Config, House, StandardLine], Conversation]) -> None:
    """Has a conversation, until its line is closed. Raises ConfigError."""
    asyncio.run(_converse(conf, begin))


async def _converse(conf: Config, begin: Callable[[Config, House, StandardLine], Conversation]) -> None:
    house = House(conf)
    line = StandardLine(asyncio.get_running_loop())
    conversation = begin(conf, house, line)
    line.listen(conversation.receive, partial(house.when_quiet, conversation.lost))
    await line.closed.wait()
    house.close()
