"""An SMTP session: the machine's events decided on, whatever carries the bytes.

The session belongs to a line, which carries bytes to the client and back, and lives in surroundings, which know policy,
services and time. For the SMTP server the line is a TCP connection; standard input and output would do as well.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from pyfix.access import session_log
from pyfix.access.client_lists import Standing
from pyfix.access.received import Client, Hop
from pyfix.access.recipient import trouble
from pyfix.access.restriction import Facts, RecipientPolicy
from pyfix.service import events
from pyfix.service.rewrite import Resolved
from pyfix.service.submission import WRITE_ERROR
from pyfix.system.journal import Event as LogEvent
from pyfix.wire.envelope import Transaction
from pyfix.wire.reply import Reply
from pyfix.wire.smtp_command import GO_AHEAD, ehlo_reply, helo_reply
from pyfix.wire.smtp_dialogue import (
    NEED_DATA,
    Begin,
    Close,
    Content,
    Delay,
    End,
    Event,
    Hello,
    Mail,
    Notice,
    Rcpt,
    Settings,
    Verify,
    Wait,
)
from pyfix.wire.smtp_server import SmtpServer, State

# Bytes of input that may wait while a command is being decided on; then the client is not read from.
_INPUT_LIMIT: Final = 65536

_MAIL_OK: Final = Reply(250, "2.1.0", "Ok")
_RCPT_OK: Final = Reply(250, "2.1.5", "Ok")
_TOO_BIG: Final = Reply(552, "5.3.4", "Message size exceeds fixed limit")


class Line(Protocol):
    """What carries the bytes of a session."""

    def write(self, data: bytes) -> None:
        """Sends bytes to the client."""

    def close(self) -> None:
        """Ends the connection when everything is sent."""

    def read(self, *, wanted: bool) -> None:
        """Goes on reading, or stops."""


class Storing(Protocol):
    """A message on its way to the queue."""

    @property
    def held(self) -> int:
        """Bytes of content that nobody took yet."""

    def write(self, data: bytes) -> None:
        """Takes content."""

    def commit(self, then: Callable[[Reply], None]) -> None:
        """The content is whole; ``then`` gets the reply for the client once the message is safe, or is not."""

    def abort(self) -> None:
        """Drops the message."""


class Surroundings(Protocol):
    """What sessions live in."""

    policy: RecipientPolicy

    @property
    def stopping(self) -> bool:
        """No transaction is to begin any more."""

    def log(self, event: LogEvent) -> None:
        """Logs."""

    def now_usec(self) -> int:
        """The time, microseconds since the epoch."""

    def new_queue_id(self, now_usec: int) -> str:
        """A queue ID that nobody has."""

    def look_up(self, sender: str, recipient: str, then: Callable[[Resolved | None], None]) -> None:
        """Finds out where a recipient leads, None if that cannot be known now; may call ``then`` before it returns."""

    def store(self, transaction: Transaction, hop: Hop, standing: Standing, on_room: Callable[[], None]) -> Storing:
        """Begins to store a message. ``on_room`` is called when all content that was held is taken. Raises OSError."""

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Calls after a while."""

    def report(self, client: Client, history: Iterable[bytes | Reply], reason: str) -> None:
        """Tells postmaster of a session, if that is wanted. ``reason``: why it was broken off, if it was."""


class Session:
    """One client's session. The arrival time of a transaction is kept in its ``context``."""

    __slots__ = (
        "_around",
        "_blocked",
        "_client",
        "_held_back",
        "_line",
        "_machine",
        "_pumping",
        "_standing",
        "_storing",
        "ended",
    )

    def __init__(
        self, around: Surroundings, line: Line, client: Client, standing: Standing, settings: Settings
    ) -> None:
        self._around = around
        self._line = line
        self._client = client
        self._standing = standing
        self._machine = SmtpServer(settings)
        self._storing: Storing | None = None
        # no event is taken: a reply is to come late
        self._held_back = False
        # the client does not read what it is sent
        self._blocked = False
        self._pumping = False
        self.ended = False

    def begin(self, early: bytes) -> None:
        """Greets the client, which may have sent something before."""
        self._around.log(events.connected(self._client.name, self._client.address))
        if early:
            self._machine.receive(early)
        self._machine.greet()
        self.go_on()

    def receive(self, data: bytes) -> None:
        """The client has sent something."""
        self._machine.receive(data)
        self.go_on()

    def lost(self) -> None:
        """The client has gone."""
        if not self.ended:
            self._end("lost connection")

    def too_slow(self) -> None:
        """The client has been silent for too long, unless it is this side that owes an answer."""
        if self._machine.state is not State.ANSWER and not self._held_back:
            self._shut(Reply(421, "4.4.2", f"{self._machine.settings.hostname} Error: timeout exceeded"), "timeout")

    def stop(self) -> None:
        """Ends the session as soon as there is no transaction."""
        if self._machine.transaction is None and self._machine.state is State.COMMAND:
            self._shut(Reply(421, "4.3.2", f"{self._machine.settings.hostname} Service shutting down"), "")

    def block(self, *, blocked: bool) -> None:
        """The line takes no more for the time being, or takes more again."""
        self._blocked = blocked
        self.go_on()

    def go_on(self) -> None:
        """Takes events until there are no more."""
        if self._pumping or self.ended:
            return
        self._pumping = True
        try:
            self._pump()
        finally:
            self._pumping = False
        if not self.ended:
            self._line.read(wanted=not self._waits() and self._machine.buffered < _INPUT_LIMIT)

    def _waits(self) -> bool:
        """Whether no event may be taken now."""
        storing = self._storing
        return self._held_back or self._blocked or self.ended or (storing is not None and storing.held > 0)

    def _pump(self) -> None:
        machine = self._machine
        while not self._waits():
            event = machine.next_event()
            if (handle := _HANDLERS.get(type(event))) is not None:
                handle(self, event)
            elif output := machine.take_output():
                self._line.write(output)
                if event is NEED_DATA:
                    break
            else:
                break

    def _content(self, content: Content) -> None:
        if self._storing is not None:
            self._storing.write(content.data)

    def _delay(self, delay: Delay) -> None:
        self._held_back = True
        self._around.later(delay.seconds, self._release)

    def _notice(self, notice: Notice) -> None:
        self._around.log(session_log.noticed(self._machine, self._client, notice))

    def _close(self, close: Close) -> None:
        self._end(close.reason)

    def _hello(self, hello: Hello) -> None:
        self._forget_history()
        self._machine.reply((ehlo_reply if hello.verb == "EHLO" else helo_reply)(self._machine.settings))

    def _release(self) -> None:
        self._held_back = False
        if not self.ended:
            self._line.write(self._machine.take_output())
            self.go_on()

    def _mail(self, mail: Mail) -> None:
        limit = self._machine.settings.message_size_limit
        if 0 < limit < mail.size:
            self._around.log(session_log.rejected(self._machine, self._client, _TOO_BIG, mail=mail))
            self._machine.reply(_TOO_BIG)
            return
        self._machine.reply(_MAIL_OK)
        assert self._machine.transaction is not None
        self._machine.transaction.context = self._around.now_usec()

    def _ask(self, question: Rcpt | Verify) -> None:
        transaction = self._machine.transaction
        sender = transaction.mail.sender if transaction else ""

        def decide(resolved: Resolved | None) -> None:
            if not self.ended:
                self._decide(question, resolved)
                self.go_on()

        self._around.look_up(sender, question.address, decide)

    def _decide(self, question: Rcpt | Verify, resolved: Resolved | None) -> None:
        machine, recipient = self._machine, question.address
        if resolved is None:
            refusal: Reply | None = trouble(recipient)
        else:
            refusal = self._around.policy.check(Facts(self._standing.trusted, recipient, resolved))
        if refusal is not None:
            self._around.log(session_log.rejected(machine, self._client, refusal, recipient))
            machine.reply(refusal)
        elif type(question) is Verify:
            machine.reply(Reply(252, "2.0.0", question.text))
        else:
            self._name_message()
            machine.reply(_RCPT_OK)

    def _name_message(self) -> None:
        """Gives the message its queue ID, with the first recipient that is accepted."""
        transaction = self._machine.transaction
        assert transaction is not None
        if not transaction.queue_id:
            transaction.queue_id = self._around.new_queue_id(self._around.now_usec())
            self._around.log(events.client(transaction.queue_id, self._client.name, self._client.address))

    def _begin(self, _: Begin) -> None:
        machine = self._machine
        transaction = machine.transaction
        assert transaction is not None
        hop = Hop(
            self._client, machine.hello.name if machine.hello else "", machine.protocol, transaction.mail.smtputf8
        )
        try:
            self._storing = self._around.store(transaction, hop, self._standing, self.go_on)
        except OSError:
            machine.reply(WRITE_ERROR)
        else:
            machine.reply(GO_AHEAD)

    def _finish(self, end: End) -> None:
        storing = self._storing
        assert storing is not None
        if end.error is not None:
            self._storing = None
            storing.abort()
            self._answer(end.error)
        else:
            storing.commit(self._stored)

    def _stored(self, reply: Reply) -> None:
        self._storing = None
        if not self.ended:
            self._answer(reply)
            self.go_on()

    def _answer(self, reply: Reply) -> None:
        """Answers the end of a message."""
        self._machine.reply(reply)
        self._forget_history()
        if self._around.stopping:
            self.stop()

    def _report(self, reason: str) -> None:
        if self._machine.refused:
            self._around.report(self._client, self._machine.history, reason)

    def _forget_history(self) -> None:
        """A long history is told to postmaster, where it has something to tell, and begins anew."""
        machine = self._machine
        if len(machine.history) > machine.settings.history_flush_threshold:
            self._report("")
            machine.forget_history()

    def _shut(self, reply: Reply, reason: str) -> None:
        if not self.ended:
            self._machine.shut(reply, reason)
            self.go_on()

    def _end(self, reason: str) -> None:
        """All is said. A message that is not whole is dropped; one that is being made durable is not."""
        self.ended = True
        machine = self._machine
        if (event := session_log.broken_off(machine, self._client, reason)) is not None:
            self._around.log(event)
        if self._storing is not None and machine.where != "END-OF-MESSAGE":
            self._storing.abort()
        self._storing = None
        client = self._client
        self._report(reason)
        self._around.log(events.disconnected(client.name, client.address, machine.accounting()))
        self._line.write(machine.take_output())
        self._line.close()

    @staticmethod
    def handlers() -> "dict[type[Event | Wait], Callable[[Session, Any], None]]":
        """What is done with which event."""
        return {
            Begin: Session._begin,
            Close: Session._close,
            Content: Session._content,
            Delay: Session._delay,
            End: Session._finish,
            Hello: Session._hello,
            Mail: Session._mail,
            Notice: Session._notice,
            Rcpt: Session._ask,
            Verify: Session._ask,
        }


# A table: to ask an event for one class after the other costs more than what is done with it.
_HANDLERS: Final = Session.handlers()
