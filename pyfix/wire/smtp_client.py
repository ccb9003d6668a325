"""The client's half of SMTP without I/O: replies in, events out; orders in, commands out.

    machine = SmtpClient("client.example", Limits(line=2048, text=2048, lines=1000), fold=998)
    machine.receive(data)                      # what the server sent
    while event := machine.next_event(): ...   # what it means
    transport.write(machine.data_to_send())    # what to answer

States, each with the reply it waits for and what leads on:

=========  ==================================  =====================================================================
GREETING   the server's greeting               2xx: EHLO is sent, HELLO; else REFUSED
HELLO      EHLO's or HELO's reply              2xx: READY; EHLO refused with other than 421: HELO is sent; else REFUSED
REFUSED    none: the server does not talk      quit(): QUITTING
READY      none                                begin(): ENVELOPE; quit(): QUITTING
ENVELOPE   those to MAIL, RCPT, DATA           354 and a recipient accepted: CONTENT; 354 and none: the end mark is
                                               sent, END; MAIL refused before more was sent: READY; else STALE, and
                                               always for a probe, which sends no DATA
CONTENT    none                                content() as often as needed, then end(): END
END        that to the end mark                any: READY
STALE      none: a transaction is left open    reset(): RESETTING; quit(): QUITTING
RESETTING  that to RSET                        2xx: READY; else CLOSED
QUITTING   that to QUIT                        any: CLOSED
CLOSED     none                                nothing
=========  ==================================  =====================================================================

Where the server offers PIPELINING, MAIL, RCPT and DATA go out together (RFC 2920). The state moves on replies only, and
replies belong to commands by their order. Lines that are no reply are passed on as Garbage and do not count, as in
Postfix. After a reply of 421 or 521, or with bytes left over that nobody asked for, the connection is not ``reusable``.

Source: RFC 5321, RFC 1870 (SIZE), RFC 2034 and 3463 (status codes), RFC 2920, RFC 3461 (DSN), RFC 6152 (8BITMIME),
RFC 6531 (SMTPUTF8).
"""

import re
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from pyfix.wire.data import DataEncoder
from pyfix.wire.folding import LineFolder
from pyfix.wire.response import Response, printable
from pyfix.wire.xtext import encode_xtext


class State(Enum):
    """Where the conversation stands; the table above says what each allows."""

    GREETING = "greeting"
    HELLO = "hello"
    REFUSED = "refused"
    READY = "ready"
    ENVELOPE = "envelope"
    CONTENT = "content"
    END = "end"
    STALE = "stale"
    RESETTING = "resetting"
    QUITTING = "quitting"
    CLOSED = "closed"


class Stage(Enum):
    """What a reply answers."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    END_OF_DATA = "end of data"
    RSET = "RSET"
    QUIT = "QUIT"


class Limits(NamedTuple):
    """Bounds on what a server may say."""

    # bytes of a line that are looked at; the rest of the line is skipped
    line: int
    # bytes of a reply after which no further line of it is kept
    text: int
    # lines until a reply ends; more is a protocol error. Also lines that come unasked.
    lines: int


class ProtocolError(Exception):
    """The server broke the protocol beyond use. ``args[0]`` says how, in words fit for the log."""


class Replied(NamedTuple):
    """The server replied."""

    stage: Stage
    response: Response
    # for RCPT, the recipient's place in the envelope
    recipient: int = -1


class Garbage(NamedTuple):
    """The server sent a line that is no reply; it was skipped."""

    text: str


Event = Replied | Garbage


class Recipient(NamedTuple):
    """A recipient: the address in its quoted form (RFC 5321), ORCPT decoded, NOTIFY as a sum (1 never, 2, 4, 8)."""

    address: str
    orcpt: str = ""
    notify: int = 0


class Envelope(NamedTuple):
    """What to say of a message. Parameters that the server does not offer are left out."""

    # quoted form; empty for the null sender
    sender: str
    recipients: Sequence[Recipient]
    # bytes, for SIZE; 0 leaves it out
    size: int = 0
    # "7bit", "8bit" or unknown
    encoding: str = ""
    smtputf8: bool = False
    # decoded; RET: "", "FULL" or "HDRS"
    envid: str = ""
    ret: str = ""
    # only the envelope is sent, to find out whether it would be accepted
    probe: bool = False


RESTING = frozenset({State.REFUSED, State.READY, State.CONTENT, State.STALE, State.CLOSED})
"""States in which no reply is due: it is the caller's turn."""

# Commands and replies that are kept.
_HISTORY_LIMIT = 500
# Replies that are remembered.
_KNOWN_LIMIT = 10
_MAY_QUIT = frozenset({State.REFUSED, State.READY, State.STALE, State.RESETTING})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOTIFY = ((1, "NEVER"), (2, "SUCCESS"), (4, "FAILURE"), (8, "DELAY"))
_BODY = {"7bit": " BODY=7BIT", "8bit": " BODY=8BITMIME"}
_ASCII_UPPER = bytes.maketrans(b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class SmtpClient:
    """One connection to a server.

    ``helo_name`` is what we call ourselves, ``fold`` the longest line of content in bytes without line end (longer ones
    are continued on the next line after a space); 0 never folds.
    """

    __slots__ = (
        "_accepted",
        "_encoder",
        "_envelope",
        "_expected",
        "_folder",
        "_known",
        "_limits",
        "_lines",
        "_out",
        "_partial",
        "_rest",
        "_sender_refused",
        "_skipping",
        "_unread",
        "capabilities",
        "doomed",
        "greeting_name",
        "hello_name",
        "helo_name",
        "history",
        "size_limit",
        "state",
    )

    def __init__(self, helo_name: str, limits: Limits, *, fold: int) -> None:
        self.state = State.GREETING
        self.helo_name = helo_name
        # the names the server calls itself, and its EHLO keywords in capitals with their parameters
        self.greeting_name = ""
        self.hello_name = ""
        self.capabilities: dict[str, str] = {}
        # bytes, 0 if it named none
        self.size_limit = 0
        # what was said last: commands, and replies
        self.history: deque[str | Response] = deque(maxlen=_HISTORY_LIMIT)
        # a reply said that the server will close the connection
        self.doomed = False
        self._limits = limits
        # lines that are not yet read, and the beginning of another
        self._unread: deque[bytes] = deque()
        self._rest = b""
        # the rest of an overlong line is being skipped
        self._skipping = False
        # the lines of the reply so far that are kept, and the number of all
        self._partial: list[str] = []
        self._lines = 0
        # replies of one line: a server often says the same
        self._known: dict[bytes, Response] = {}
        self._expected: deque[tuple[Stage, int]] = deque(((Stage.GREETING, -1),))
        self._out: list[str] = []
        self._envelope = Envelope("", ())
        self._accepted: list[int] = []
        self._sender_refused = False
        self._folder = LineFolder(fold)
        self._encoder = DataEncoder()

    # what the server sent

    def receive(self, data: bytes) -> None:
        """Takes bytes from the server. Raises ProtocolError if more comes unasked than a server may say."""
        limit = self._limits.line
        *lines, rest = (self._rest + data).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if len(rest) > limit and not self._skipping:
            lines.append(rest[:limit])
            self._skipping = True
        self._unread.extend(lines)
        self._rest = b"" if self._skipping else rest
        if not self._expected and len(rest) + sum(map(len, self._unread)) + len(self._unread) > limit:
            self._fail("too much unexpected output from server")

    def next_event(self) -> Event | None:
        """The next event, None if more bytes are needed. Raises ProtocolError."""
        while self._expected and self._unread:
            line = self._unread.popleft()[: self._limits.line].rstrip(b"\r")
            if not self._lines and (known := self._known.get(line)):
                return self._replied(known)
            self._lines += 1
            if self._lines > self._limits.lines:
                self._fail("too many lines in a reply")
            text = printable(line)
            if line[:3].isdigit() and (len(line) == 3 or line[3:4] in {b" ", b"-"}):
                self._keep(text)
                if line[3:4] != b"-":
                    return self._replied(self._response(line, text))
            else:
                self._keep(text)
                return Garbage(text)
        return None

    @property
    def awaited(self) -> Stage | None:
        """What the next reply will answer."""
        return self._expected[0][0] if self._expected else None

    @property
    def accepted(self) -> Sequence[int]:
        """The recipients that the server accepted, by their places in the envelope."""
        return self._accepted

    @property
    def reusable(self) -> bool:
        """Whether another transaction may begin on this connection."""
        return self.state is State.READY and not (self.doomed or self._unread or self._rest or self._skipping)

    # what to send

    def data_to_send(self) -> bytes:
        """The commands that are due."""
        data = "".join(self._out).encode("utf-8", "surrogateescape")
        self._out.clear()
        return data

    def begin(self, envelope: Envelope) -> None:
        """Begins a transaction with at least one recipient."""
        self._require(State.READY)
        assert envelope.recipients
        self.state = State.ENVELOPE
        self._envelope = envelope
        self._accepted = []
        self._command(Stage.MAIL, self._mail(envelope))
        if "PIPELINING" in self.capabilities:
            for index in range(len(envelope.recipients)):
                self._rcpt(index)
            if not envelope.probe:
                self._command(Stage.DATA, "DATA")

    def content(self, chunk: bytes) -> bytes:
        """A piece of the content, lines ended by LF and cut anywhere, as it goes over the wire."""
        self._require(State.CONTENT)
        return self._encoder.feed(self._folder.fold(chunk))

    def end(self) -> bytes:
        """The end mark, with a line end before it if the content lacks one."""
        self._require(State.CONTENT)
        self.state = State.END
        self._expected.append((Stage.END_OF_DATA, -1))
        return self._encoder.finish()

    def reset(self) -> None:
        """Ends the transaction that a refusal left open."""
        self._require(State.STALE)
        self.state = State.RESETTING
        self._command(Stage.RSET, "RSET")

    def quit(self) -> None:
        """Says good-bye."""
        if self.state not in _MAY_QUIT:
            raise ValueError(f"not allowed in state {self.state.value}")
        self.state = State.QUITTING
        self._command(Stage.QUIT, "QUIT")

    # replies

    def _keep(self, text: str) -> None:
        if sum(map(len, self._partial)) < self._limits.text:
            self._partial.append(text)

    def _response(self, line: bytes, last: str) -> Response:
        if self._partial[-1] != last:  # the limit left it out, but it bears the code
            self._partial.append(last)
        response = Response(int(line[:3]), "\n".join(self._partial))
        if self._lines == 1:
            if len(self._known) >= _KNOWN_LIMIT:
                self._known.clear()
            self._known[line] = response
        self._partial = []
        self._lines = 0
        return response

    def _replied(self, response: Response) -> Replied:
        stage, recipient = self._expected.popleft()
        if response.code in {421, 521}:
            self.doomed = True
        self.history.append(response)
        self._advance(stage, recipient, response)
        return Replied(stage, response, recipient)

    def _advance(self, stage: Stage, recipient: int, response: Response) -> None:
        success = response.code // 100 == 2
        if stage is Stage.RCPT:
            if success and not self._sender_refused:
                self._accepted.append(recipient)
            if not self._expected:
                self._after_rcpt(recipient)
        elif stage is Stage.MAIL:
            self._after_mail(success=success)
        elif stage is Stage.DATA:
            self._after_data(response)
        elif stage is Stage.END_OF_DATA:
            self.state = State.READY
        elif stage is Stage.RSET:
            self._settle(State.READY if success else State.CLOSED)
        elif stage is Stage.QUIT:
            self.state = State.CLOSED
        else:
            self._greet(stage, response)

    def _settle(self, state: State) -> None:
        """Takes the state unless QUIT was sent meanwhile."""
        if self.state is not State.QUITTING:
            self.state = state

    def _greet(self, stage: Stage, response: Response) -> None:
        if response.code // 100 == 2:
            if stage is Stage.GREETING:
                self.greeting_name = _first_word(response)
                self.state = State.HELLO
                self._command(Stage.EHLO, f"EHLO {self.helo_name}")
                return
            self.state = State.READY
            self.hello_name = _first_word(response)
            if stage is Stage.EHLO:
                self._read_capabilities(response)
        elif stage is Stage.EHLO and response.code != 421:
            self._command(Stage.HELO, f"HELO {self.helo_name}")
        else:
            self.state = State.REFUSED

    def _after_mail(self, *, success: bool) -> None:
        self._sender_refused = not success
        if self._expected:
            return
        if success:
            self._rcpt(0)
        else:
            self.state = State.READY

    def _after_rcpt(self, recipient: int) -> None:
        if recipient + 1 < len(self._envelope.recipients):
            self._rcpt(recipient + 1)
        elif self._accepted and not self._envelope.probe:
            self._command(Stage.DATA, "DATA")
        else:
            self.state = State.STALE

    def _after_data(self, response: Response) -> None:
        if response.code // 100 != 3:
            self.state = State.STALE
            return
        self.state = State.CONTENT
        self._folder.reset()
        self._encoder = DataEncoder()
        if not self._accepted:
            # The server waits for content that has no recipient: an empty message ends that.
            self._out.append(self.end().decode("ascii"))

    def _read_capabilities(self, response: Response) -> None:
        for line in response.text.split("\n")[1:]:
            keyword, _, parameters = line[4:].replace("=", " ", 1).partition(" ")
            name = keyword.encode("utf-8").translate(_ASCII_UPPER).decode("utf-8")
            self.capabilities.setdefault(name, parameters)
        size = self.capabilities.get("SIZE", "").strip(" ")
        if size.isascii() and size.isdigit() and len(size) < 19:
            self.size_limit = int(size)

    # commands

    def _command(self, stage: Stage, command: str, recipient: int = -1) -> None:
        if not command.isprintable() and _CONTROL.search(command):
            raise ValueError("control character in an SMTP command")
        self._out.append(f"{command}\r\n")
        self.history.append(command)
        self._expected.append((stage, recipient))

    def _mail(self, envelope: Envelope) -> str:
        command = f"MAIL FROM:<{envelope.sender}>"
        offered = self.capabilities
        if envelope.size and "SIZE" in offered:
            command += f" SIZE={envelope.size}"
        if "8BITMIME" in offered:
            command += _BODY.get(envelope.encoding, "")
        if "DSN" in offered:
            if envelope.envid:
                command += f" ENVID={_xtext(envelope.envid)}"
            if envelope.ret:
                command += f" RET={envelope.ret}"
        if envelope.smtputf8 and "SMTPUTF8" in offered:
            command += " SMTPUTF8"
        return command

    def _rcpt(self, index: int) -> None:
        recipient = self._envelope.recipients[index]
        command = f"RCPT TO:<{recipient.address}>"
        if "DSN" in self.capabilities:
            if recipient.orcpt:
                kind, _, address = recipient.orcpt.partition(";")
                command += f" ORCPT={kind};{uxtext(address) if is_utf8_type(kind) else _xtext(address)}"
            if recipient.notify:
                command += " NOTIFY=" + ",".join([word for bit, word in _NOTIFY if recipient.notify & bit])
        self._command(Stage.RCPT, command, index)

    def _require(self, state: State) -> None:
        if self.state is not state:
            raise ValueError(f"not allowed in state {self.state.value}")

    def _fail(self, reason: str) -> None:
        self.state = State.CLOSED
        self._expected.clear()
        self._unread.clear()
        self._rest = b""
        raise ProtocolError(reason)


# Servers that group words by these, as Postfix does, would lose their way in a value that has them unpaired.
_GROUPING = str.maketrans({c: f"+{ord(c):02X}" for c in '"<>()[]\\:'})


def _xtext(text: str) -> str:
    return encode_xtext(text.encode("utf-8", "surrogateescape")).decode("ascii").translate(_GROUPING)


def uxtext(text: str) -> str:
    r"""RFC 6533 section 3 utf-8-addr-xtext: all but letters, digits and some signs of ASCII as ``\x{X}``."""
    return "".join([c if 33 <= ord(c) <= 126 and c not in '+="<>()[]\\:' else f"\\x{{{ord(c):X}}}" for c in text])


def is_utf8_type(kind: str) -> bool:
    """Whether an ORCPT address type is utf-8 (RFC 6533), in any case of letters."""
    return kind.encode("utf-8").translate(_ASCII_UPPER) == b"UTF-8"


def _first_word(response: Response) -> str:
    words = response.text.partition("\n")[0][4:].split(" ", 1)
    return words[0]
