"""What an SMTP server session is made of: its settings and its events."""

from enum import Enum
from typing import Final, Literal

from msgspec import Struct

from pyfix.wire.data import BareNewline
from pyfix.wire.reply import Reply


class Settings(Struct, frozen=True):
    """What an SMTP server may be told; most are parameters of postconf(5), without their prefix smtpd_."""

    # myhostname
    hostname: str
    banner: str
    # Bytes of a command line that are looked at; a line twice as long ends the input.
    line_length_limit: int
    # bytes of content; 0 for no limit
    message_size_limit: int
    recipient_limit: int
    recipient_overshoot_limit: int
    junk_command_limit: int
    soft_error_limit: int
    hard_error_limit: int
    # seconds to wait before each reply, from soft_error_limit on
    error_sleep_time: int
    helo_required: bool
    disable_vrfy_command: bool
    strict_rfc821_envelopes: bool
    smtputf8_enable: bool
    forbid_unauth_pipelining: bool
    forbid_bare_newline: BareNewline
    forbid_bare_newline_reject_code: int
    # upper case
    forbidden_commands: frozenset[bytes]
    # forbid what does not begin with a letter, too
    forbid_non_letters: bool
    # upper case
    noop_commands: frozenset[bytes]
    soft_bounce: bool
    # upper case
    discard_ehlo_keywords: frozenset[str]
    # bytes that wait to be sent, above which no further event is given
    output_limit: int
    # lines of the dialogue that are kept for postmaster beyond a message's end
    history_flush_threshold: int = 100
    # what XVERP stands for, and the characters that it may name; empty where the client may not use it
    verp_delimiters: str = ""
    verp_delimiter_filter: str = ""
    # a dialogue on standard input: the client may send all at once
    stand_alone: bool = False


class Hello(Struct, frozen=True):
    """HELO or EHLO was sent."""

    verb: Literal["HELO", "EHLO"]
    # what the client calls itself, made safe for headers
    name: str


class Mail(Struct, frozen=True):
    """MAIL was sent: the client wants to begin a transaction."""

    # internal form; empty for the null sender
    sender: str
    # what SIZE= announced; 0 if nothing
    size: int = 0
    # BODY=: "8bit", "7bit" or empty
    encoding: Literal["", "7bit", "8bit"] = ""
    smtputf8: bool = False
    # decoded
    envid: str = ""
    ret: Literal["", "FULL", "HDRS"] = ""
    # XVERP: the two characters of a variable envelope return path
    verp_delimiters: str = ""


class Rcpt(Struct, frozen=True):
    """RCPT was sent: the client names a recipient."""

    # internal form
    address: str
    # decoded, "rfc822;user@example.com"; empty if not given
    orcpt: str = ""
    # 0 not given, else a sum of 1 never, 2 success, 4 failure, 8 delay
    notify: int = 0


class Verify(Struct, frozen=True):
    """VRFY was sent."""

    # internal form
    address: str
    # as the client wrote it
    text: str


class Begin(Struct, frozen=True):
    """DATA was sent, and the transaction has recipients. A reply of 354 lets the content come."""


class Content(Struct, frozen=True):
    """A piece of the content: lines ended by LF."""

    data: bytes


class End(Struct, frozen=True):
    """The content has ended. Where ``error`` is given the message must not be kept, and this is to be the reply."""

    error: Reply | None = None


class Delay(Struct, frozen=True):
    """The driver is to wait this many seconds before it sends anything and takes the next event."""

    seconds: int


class Notice(Struct, frozen=True):
    """Something for the log.

    pipelining: commands sent ahead that must not be; non_smtp: a command of another protocol; too_long: a line over the
    limit; address: an address that is none; size: content over the limit; bare_lf: a line end that is to be rejected.
    """

    kind: Literal["pipelining", "non_smtp", "too_long", "address", "size", "bare_lf"]
    # the command it happened in or after
    where: str
    text: str


class Close(Struct, frozen=True):
    """All is said: send what there is, then close. ``reason`` as in the log; empty where the log gives none."""

    reason: str


class Wait(Enum):
    """Why there is no event."""

    NEED_DATA = "more input is needed"
    PAUSED = "a reply is awaited, the output is to be sent, or all is over"


NEED_DATA: Final = Wait.NEED_DATA
PAUSED: Final = Wait.PAUSED

Question = Hello | Mail | Rcpt | Verify | Begin | End
"""An event that the driver answers with a reply."""

Event = Question | Content | Delay | Notice | Close
