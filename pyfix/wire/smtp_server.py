"""The SMTP server as a machine: bytes in, events out; replies in, bytes out. It does no I/O and reads no clock.

    machine = SmtpServer(settings)
    machine.greet()
    machine.receive(data)                      # what the client sent
    event = machine.next_event()               # what it means; NEED_DATA or PAUSED for nothing
    machine.reply(Reply(250, "2.1.0", "Ok"))   # the answer to a question: Hello, Mail, Rcpt, Verify, Begin or End
    transport.write(machine.take_output())     # what there is to send

The driver answers a question when it likes; until then the machine is PAUSED. What needs no decision the machine
answers by itself.

The law: state moves on the reply, not on the command.

========  ===============================================  =======================================
state     what moves it                                    to
========  ===============================================  =======================================
GREETING  greet()                                          COMMAND; CLOSED if the client spoke first
COMMAND   a question                                       ANSWER
ANSWER    2xx to Hello: a transaction is dropped           COMMAND
ANSWER    2xx to Mail: a Transaction is made               COMMAND
ANSWER    2xx to Rcpt: the transaction has one more        COMMAND
ANSWER    354 to Begin                                     CONTENT
ANSWER    any to End: the transaction is dropped           COMMAND
ANSWER    any other                                        COMMAND
CONTENT   the end mark: the question End                   ANSWER
any       too many errors, QUIT, a forbidden command,      CLOSED
          commands sent ahead that must not be,
          a reply of 421 or 521
========  ===============================================  =======================================

Replies, limits and what may be pipelined are Postfix's (smtpd(8)); RFC 5321, RFC 2920.
"""

from collections import deque
from enum import Enum
from typing import Final

from pyfix.wire.command import escape, printable, split_command
from pyfix.wire.data import DataDecoder
from pyfix.wire.envelope import Transaction
from pyfix.wire.reply import Reply
from pyfix.wire.smtp_command import BYE, KNOWN, UNKNOWN, Dialogue, Forgiven, Known, is_bad_address
from pyfix.wire.smtp_dialogue import (
    NEED_DATA,
    PAUSED,
    Begin,
    Close,
    Content,
    Delay,
    End,
    Event,
    Hello,
    Mail,
    Notice,
    Question,
    Rcpt,
    Settings,
    Wait,
)


class State(Enum):
    """Where the dialogue stands; the table above says what moves it."""

    GREETING = "greeting"
    COMMAND = "command"
    ANSWER = "answer"
    CONTENT = "content"
    CLOSED = "closed"


# An enum's members are found by a slow search, and these are asked for with each command.
_COMMAND: Final = State.COMMAND
_CONTENT: Final = State.CONTENT

# Where the accounting has each command.
_PLACES: Final = {known.name: place for place, known in enumerate((*KNOWN.values(), UNKNOWN))}


# Commands and replies that are kept at most: more than a message with very many recipients has.
_HISTORY_LIMIT: Final = 2500
_BREAKS_RULES: Final = Reply(221, "2.7.0", "Error: I can break rules, too. Goodbye.")
_NOT_SYNCHRONIZED: Final = Reply(554, "5.5.0", "Error: SMTP protocol synchronization")
_BAD_SYNTAX: Final = Reply(500, "5.5.2", "Error: bad syntax")
_BAD_UTF8: Final = Reply(500, "5.5.2", "Error: bad UTF-8 syntax")
_NOT_RECOGNIZED: Final = Reply(500, "5.5.2", "Error: command not recognized")
_TOO_BIG: Final = Reply(552, "5.3.4", "Error: message file too big")
_BARE_LF: Final = "bare <LF> received"


class SmtpServer(Dialogue):
    """One SMTP session.

    ``where`` is the stage that log lines name: CONNECT, a command, or END-OF-MESSAGE. ``bare_newlines`` counts lines
    that ended in LF alone. ``transaction`` is the message under way. ``history`` has command lines and replies, in the
    order in which they were dealt with, ``refused`` tells whether there is a refusal in it; forget_history() clears it.
    """

    __slots__ = (
        "_buffer",
        "_counts",
        "_decoder",
        "_errors",
        "_improper",
        "_input_ended",
        "_junk",
        "_known",
        "_offset",
        "_output",
        "_question",
        "_queue",
        "_stage",
        "_tally",
        "bare_newlines",
        "history",
        "refused",
        "state",
    )

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._buffer = b""
        self._offset = 0
        self._output = b""
        self._queue: list[Event] = []
        self._question: Question | None = None
        self._decoder: DataDecoder | None = None
        # name of a command: how often it succeeded, how often it came
        self._counts: dict[str, list[int]] = {}
        self._known = UNKNOWN
        self._tally = [0, 0]
        self._stage = "CONNECT"
        self._errors = 0
        self._junk = 0
        self._improper = False
        self._input_ended = False
        self.bare_newlines = 0
        self.history: deque[bytes | Reply] = deque(maxlen=_HISTORY_LIMIT)
        self.refused = False
        self.state = State.GREETING

    @property
    def where(self) -> str:
        """The stage."""
        return self._stage or self._known.name.upper()

    @property
    def buffered(self) -> int:
        """Bytes received that no event told of yet. The driver stops reading when there are too many."""
        return len(self._buffer) - self._offset

    @property
    def content_size(self) -> int | None:
        """Bytes of content so far; None outside of content. It stays when the session ends within content."""
        decoder = self._decoder
        return None if decoder is None or decoder.ended else decoder.size + decoder.pending

    def receive(self, data: bytes) -> None:
        """Takes what the client sent."""
        if not self._input_ended and self.state is not State.CLOSED:
            self._buffer = self._buffer[self._offset :] + data if self._offset < len(self._buffer) else data
            self._offset = 0

    def forget_history(self) -> None:
        """Begins the history anew."""
        self.history.clear()
        self.refused = False

    def take_output(self) -> bytes:
        """What is to be sent now."""
        output, self._output = self._output, b""
        return output

    def accounting(self) -> str:
        """The commands so far, the successful of all: ``ehlo=1 mail=1 rcpt=0/1 commands=2/3``."""
        words, good, total = [], 0, 0
        for name in sorted(self._counts, key=_PLACES.__getitem__):
            succeeded, came = self._counts[name]
            words.append(f"{name}={succeeded}" if succeeded == came else f"{name}={succeeded}/{came}")
            good, total = good + succeeded, total + came
        words.append(f"commands={good}" if good == total and total else f"commands={good}/{total}")
        if self.bare_newlines and self.settings.forbid_bare_newline == "note":
            words.append("notes=bare_lf")
        return " ".join(words)

    def greet(self) -> None:
        """Sends the banner, unless the client did not wait for it."""
        assert self.state is State.GREETING
        self.state = State.COMMAND
        if not (self.buffered and self._sent_ahead()):
            self._send(Reply(220, "", self.settings.banner))

    def shut(self, reply: Reply, reason: str) -> None:
        """Ends the session from this side: the client is too slow, or the server stops."""
        if self.state is not State.CLOSED:
            self._send(reply)
            self._close(reason)

    def next_event(self) -> Event | Wait:
        """The next event, or why there is none."""
        queue = self._queue
        while not queue:
            state = self.state
            if (state is not _COMMAND and state is not _CONTENT) or len(self._output) > self.settings.output_limit:
                return PAUSED
            if self._input_ended:
                self._close("lost connection")
            elif self._offset == len(self._buffer):
                return NEED_DATA
            elif state is _CONTENT:
                self._take_content()
            elif (line := self._next_line()) is None:
                return NEED_DATA
            elif self.state is _COMMAND:
                self._obey(line)
        return queue.pop(0)

    def reply(self, reply: Reply) -> None:
        """Answers the question, and moves the state."""
        question = self._question
        assert question is not None
        self._question = None
        self.state = _COMMAND
        positive = reply.code < 400
        # type(), here and below: isinstance() says no to a Struct three times as slowly.
        if type(question) is End:
            self.drop()
            self._decoder = None
            if positive:
                self._errors = self._junk = 0
        elif positive:
            self._move(question)
        self._answer(reply, done=self.state is not _CONTENT)
        if reply.code in (421, 521):
            self._close("")

    def worded(self, reply: Reply) -> Reply:
        """A reply as the client gets it: with soft_bounce none is permanent."""
        return reply.softened() if self.settings.soft_bounce else reply

    def _move(self, question: Question) -> None:
        if type(question) is Rcpt:
            assert self.transaction is not None
            self.transaction.recipients.append(question)
        elif type(question) is Mail:
            self.transaction = Transaction(question)
        elif type(question) is Begin:
            self.state = _CONTENT
            self._decoder = DataDecoder(self.settings.forbid_bare_newline)
        elif type(question) is Hello:
            self.hello = question
            self.drop()

    def _send(self, reply: Reply) -> None:
        self._output += reply.encode()
        self.history.append(reply)
        if reply.code >= 400:
            self.refused = True

    def _answer(self, reply: Reply, *, done: bool = True, forgiven: bool = False) -> None:
        """Sends a reply to a command. When the command is done with, keeps account of its success."""
        settings = self.settings
        if settings.error_sleep_time and self._errors >= settings.soft_error_limit:
            self._queue.append(Delay(settings.error_sleep_time))
        self._send(self.worded(reply))
        if not done:
            return
        if forgiven or reply.code < 400:
            self._tally[0] += 1
            if not self._known.junk:
                return
        else:
            self._errors += 1
        if self._known.junk:
            self._junk += 1
            self._errors += self._junk > settings.junk_command_limit + 1
        if self._errors >= settings.hard_error_limit:
            self._send(Reply(421, "4.7.0", f"{settings.hostname} Error: too many errors"))
            self._close("too many errors")

    def _close(self, reason: str) -> None:
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self._question = None
            self._buffer, self._offset = b"", 0
            self._queue.append(Close(reason))

    def _next_line(self) -> bytes | None:
        """A command line without its end, cut to the limit; None if it is not complete."""
        limit = self.settings.line_length_limit
        buffer, start = self._buffer, self._offset
        end = buffer.find(b"\n", start)
        length = (end if end >= 0 else len(buffer)) - start
        if end < 0 and length <= 2 * limit:
            return None
        if length <= limit:
            line = buffer[start:end]
            self._offset = end + 1
            if not line.endswith(b"\r"):
                self._take_bare_newline()
        else:
            line = buffer[start : start + limit]
            # Where a line has no end within twice the limit, what follows is not worth reading.
            self._input_ended = length > 2 * limit
            self._offset = start + limit if self._input_ended else end + 1
            self._queue.append(Notice("too_long", self.where, printable(line[:30].decode("utf-8", "replace"))))
        return line.rstrip(b"\r")

    def _take_bare_newline(self) -> None:
        """A command line has ended in LF alone."""
        self.bare_newlines += 1
        if self.settings.forbid_bare_newline == "reject":
            self._queue.append(Notice("bare_lf", self.where, _BARE_LF))
            self._send(self.worded(self._bare_newline_reply()))
            self._close("")

    def _bare_newline_reply(self) -> Reply:
        code = self.settings.forbid_bare_newline_reject_code
        return Reply(code, f"{code // 100}.5.2", f"{self.settings.hostname} Error: {_BARE_LF}")

    def _obey(self, line: bytes) -> None:
        """Understands a command line: answers it, or makes it a question to the driver."""
        self.history.append(line)
        if self.settings.smtputf8_enable and not line.isascii():
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                self._note(UNKNOWN)
                self._answer(_BAD_UTF8)
                return
        # Postfix's strings end at a NUL.
        words = split_command(line.partition(b"\0")[0] if b"\0" in line else line)
        if not words:
            self._note(UNKNOWN)
            self._answer(_BAD_SYNTAX)
            return
        verb = words[0].upper()
        known = KNOWN.get(b"NOOP" if verb in self.settings.noop_commands else verb)
        if known is None:
            self._note(UNKNOWN)
            self._refuse(verb, line)
            return
        self._note(known)
        if self._offset < len(self._buffer) and (known.last or self.protocol == "SMTP") and self._sent_ahead():
            return
        outcome = known.obey(self, words)
        if type(outcome) is Reply:
            if is_bad_address(outcome):
                address = words[2] if known.name != "vrfy" else b" ".join(words[1:])
                self._queue.append(Notice("address", self.where, printable(address.decode("utf-8", "replace"))))
            self._answer(outcome)
            if outcome is BYE:
                self._close("")
        elif isinstance(outcome, Forgiven):
            self._answer(outcome.reply, forgiven=True)
        else:
            self._ask(outcome)

    def _note(self, known: Known) -> None:
        """A command has come."""
        self._known = known
        self._stage = ""
        count = self._counts.get(known.name)
        if count is None:
            count = self._counts[known.name] = [0, 0]
        count[1] += 1
        self._tally = count

    def _ask(self, question: Question) -> None:
        self._question = question
        self._queue.append(question)
        self.state = State.ANSWER

    def _refuse(self, verb: bytes, line: bytes) -> None:
        settings = self.settings
        other = verb.endswith(b":") or verb in settings.forbidden_commands
        if other or (settings.forbid_non_letters and not verb[:1].isalpha()):
            self._queue.append(Notice("non_smtp", self.where, escape(line[:100])))
            self._send(_BREAKS_RULES)
            self._close("")
        else:
            self._answer(_NOT_RECOGNIZED)

    def _sent_ahead(self) -> bool:
        """Whether the session ends because the client did not wait for the reply, as it must (RFC 2920, 3.1)."""
        if self._improper or self.settings.stand_alone:
            return False
        self._improper = True
        ahead = self._buffer[self._offset : self._offset + 100]
        self._queue.append(Notice("pipelining", self.where, escape(ahead)))
        if self.settings.forbid_unauth_pipelining:
            self._send(self.worded(_NOT_SYNCHRONIZED))
            self._close("")
        return self.settings.forbid_unauth_pipelining

    def _take_content(self) -> None:
        """Queues what the next bytes of content give."""
        decoder, limit = self._decoder, self.settings.message_size_limit
        assert decoder is not None
        was_too_big = 0 < limit < decoder.size
        content, self._buffer = decoder.feed(self._buffer[self._offset :] if self._offset else self._buffer)
        self._offset = 0
        too_big = 0 < limit < decoder.size
        if too_big and not was_too_big:
            self._queue.append(Notice("size", self.where, "queue file size limit exceeded"))
        elif content and not too_big:
            self._queue.append(Content(content))
        if decoder.ended:
            self._end_content(decoder.bare_newlines, too_big=too_big)

    def _end_content(self, bare_newlines: int, *, too_big: bool) -> None:
        self._stage = "END-OF-MESSAGE"
        self.bare_newlines += bare_newlines
        error = _TOO_BIG if too_big else None
        if bare_newlines and self.settings.forbid_bare_newline == "reject":
            self._queue.append(Notice("bare_lf", self.where, _BARE_LF))
            error = self._bare_newline_reply()
        self._ask(End(error))
