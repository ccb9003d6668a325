"""A message on its way into the queue: its content as it came, made canonical as it streams.

:class:`Intake` is a machine. It is fed chunks of content, lines ended by LF, and gives chunks of content to store. The
header is scanned field by field; once it has ended, chunks pass through as they are.

What happens to the header is what Postfix does:

* addresses in sender and recipient fields are brought into standard form where the client is one of
  ours (``rewrite`` is given);
* the fields named in message_drop_headers are dropped;
* a missing Message-Id, Date, From and To are added at the header's end for clients of ours, or for all with
  always_add_missing_headers; of a message that was sent again, Resent-Message-Id, Resent-Date and Resent-From;
* a line is cut off at its first NUL;
* a missing empty line between header and body is put in.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from pyfix.mail import header
from pyfix.mail.address import parse_addresses, quote_address, rewrite_addresses
from pyfix.mail.date import format_message_id
from pyfix.mail.header import Field, HeaderScanner
from pyfix.mail.phrase import format_phrase

EXTRACTED_LIMIT = 20_000
"""How many recipients a header may name for ``sendmail -t``: they are held in memory."""

# An identifier is logged, and kept in the queue file, up to here.
_LOGGED = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FROM_NUL = re.compile(rb"\x00[^\n]*+")
_VISIBLE_RECIPIENT_FIELDS = frozenset((b"to", b"cc", b"resent-to", b"resent-cc"))
_SPECIAL_FIELDS = (
    header.SENDER_FIELDS
    | header.RECIPIENT_FIELDS
    | header.RESENT_FIELDS
    | {b"date", b"message-id", b"received", b"resent-message-id"}
)


class Settings(NamedTuple):
    """What main.cf says about headers."""

    myhostname: str
    header_size_limit: int
    header_address_token_limit: int
    hopcount_limit: int
    # 0 for none
    message_size_limit: int
    # in lower case
    message_drop_headers: frozenset[bytes]
    undisclosed_recipients_header: str = ""
    always_add_missing_headers: bool = False
    header_from_format: str = "standard"
    # a CR that ends no line becomes a space: the next host might take it for a line's end (SMTP smuggling)
    replace_stray_cr: bool = True


class Envelope(NamedTuple):
    """What the content's canonical form depends on."""

    queue_id: str
    # in standard form; empty for the null sender
    sender: str
    # time of arrival, seconds since the epoch, and as a header says it
    arrival: int
    date: str
    # the Received header without line end, lines joined by LF and a tab; empty for none
    trace: str = ""
    full_name: str = ""
    # recipients are wanted from the header
    extract_recipients: bool = False


class Refusal(Exception):
    """The message is not taken: an SMTP reply, and what the log says where that is more."""

    def __init__(self, code: int, status: str, text: str, log: str = "") -> None:
        self.code = code
        self.status = status
        self.text = text
        self.log = log
        super().__init__(f"{code} {status} {text}")


class Intake:
    """Makes a message's content canonical. ``rewrite`` is for header addresses; None leaves them as they are.

    ``feed`` and ``close`` raise :class:`Refusal`.
    """

    __slots__ = (
        "_add_missing",
        "_envelope",
        "_extracted",
        "_hops",
        "_in_body",
        "_resent",
        "_resent_extracted",
        "_rewrite",
        "_scanner",
        "_seen",
        "_settings",
        "has_8bit_header",
        "message_ids",
        "size",
    )

    def __init__(self, settings: Settings, envelope: Envelope, rewrite: Callable[[str], str] | None) -> None:
        self._settings = settings
        self._envelope = envelope
        self._rewrite = rewrite
        self._add_missing = rewrite is not None or settings.always_add_missing_headers
        self._scanner = HeaderScanner(settings.header_size_limit)
        self._in_body = False
        self._hops = 0
        self._resent = False
        self._seen: set[bytes] = set()
        self._extracted: list[str] = []
        self._resent_extracted: list[str] = []
        # bytes of canonical content so far
        self.size = 0
        # for the log, in their order: whether of a Resent- field, and the value
        self.message_ids: list[tuple[bool, str]] = []
        self.has_8bit_header = False

    @property
    def extracted(self) -> list[str]:
        """Recipients named in the header, in internal form: those of the Resent- fields, if there are any."""
        return self._resent_extracted or self._extracted

    @property
    def message_id(self) -> str:
        """The last Message-Id; empty if there is none."""
        return next((value for resent, value in reversed(self.message_ids) if not resent and value != "<>"), "")

    def feed(self, data: bytes) -> bytes:
        """Take content, give canonical content."""
        if b"\r" in data and self._settings.replace_stray_cr:
            data = data.replace(b"\r", b" ")
        return self._count(data if self._in_body else self._feed_header(data))

    def close(self) -> bytes:
        """The content is at its end; give what is left of it."""
        if self._in_body:
            return b""
        return self._count(self._header(self._scanner.close(), at_end=True))

    def _count(self, out: bytes) -> bytes:
        self.size += len(out)
        if 0 < self._settings.message_size_limit < self.size:
            raise Refusal(552, "5.3.4", "Error: message file too big", "queue file size limit exceeded")
        return out

    def _feed_header(self, data: bytes) -> bytes:
        fields = self._scanner.feed(data)
        return self._header(fields, at_end=self._scanner.ended)

    def _header(self, fields: list[Field], *, at_end: bool) -> bytes:
        """Fields as they are stored; at the header's end also what was missing, and the beginning of the body."""
        out = [self._trace()]
        drop = self._settings.message_drop_headers
        for field in fields:
            name, text = field
            if b"\0" in text:
                # What stands behind a NUL would be seen by some programs and not by others.
                text = _FROM_NUL.sub(b"", text)
                field = Field(name, text)  # noqa: PLW2901 -- the same field, as all that follows is to see it
            if name in _SPECIAL_FIELDS:
                text = self._special(field)
            if name not in drop:
                out.append(text)
        if at_end:
            out.append(self._missing_fields())
        header = b"".join(out)
        if not header.isascii():
            self.has_8bit_header = True
        if not at_end:
            return header
        self._in_body = True
        scanner = self._scanner
        separator = b"\n" if scanner.separator_missing else b""
        rest, scanner.rest = scanner.rest, b""
        return header + separator + rest

    def _trace(self) -> bytes:
        """The Received header, before all else."""
        trace = self._envelope.trace
        if self.size or not trace or self._hops:
            return b""
        self._count_hop()
        return trace.encode("utf-8", "replace") + b"\n"

    def _count_hop(self) -> None:
        self._hops += 1
        if self._hops >= self._settings.hopcount_limit:
            raise Refusal(554, "5.4.0", "Error: too many hops", "message rejected: hopcount exceeded")

    def _special(self, field: Field) -> bytes:
        name, text = field
        self._seen.add(name)
        if name == b"received":
            self._count_hop()
            return text
        if name in header.RESENT_FIELDS:
            self._resent = True
        if name in {b"message-id", b"resent-message-id"}:
            value = field.body.decode("utf-8", "replace").lstrip(" \t\n").removesuffix("\n")
            self.message_ids.append((name == b"resent-message-id", _CONTROL.sub("?", value[:_LOGGED])))
        elif name in header.RECIPIENT_FIELDS:
            if self._envelope.extract_recipients:
                self._extract(name, field.body)
            return self._rewritten(field)
        elif name in header.SENDER_FIELDS:
            return self._rewritten(field)
        return text

    def _rewritten(self, field: Field) -> bytes:
        if self._rewrite is None:
            return field.text
        body = field.body.decode("utf-8", "surrogateescape")
        rewritten = rewrite_addresses(body, self._rewrite, self._settings.header_address_token_limit)
        if rewritten is body:
            return field.text
        return field.text[: len(field.name) + 1] + rewritten.encode("utf-8", "surrogateescape")

    def _extract(self, name: bytes, body: bytes) -> None:
        if name in header.EXTRACTED_FIELDS:
            extracted = self._extracted
        elif name in header.RESENT_EXTRACTED_FIELDS:
            extracted = self._resent_extracted
        else:
            return
        # An address that is no UTF-8 cannot be a recipient's: it is kept, and will be returned as unknown.
        text = body.decode("utf-8", "replace")
        found = parse_addresses(text, self._settings.header_address_token_limit)
        extracted += [mailbox.address for mailbox in found if mailbox.address]
        if len(extracted) > EXTRACTED_LIMIT:
            raise Refusal(554, "5.5.3", "Error: too many recipients in message header")

    def _missing_fields(self) -> bytes:
        """The fields that the header lacks; what the log says of the identifiers is complete then."""
        envelope, settings, seen = self._envelope, self._settings, self._seen
        prefix = "Resent-" if self._resent else ""
        missing: list[str] = []

        def lacks(name: str) -> bool:
            return self._add_missing and f"{prefix}{name}".lower().encode() not in seen

        if lacks("Message-Id"):
            message_id = format_message_id(envelope.arrival, envelope.queue_id, settings.myhostname)
            missing.append(f"{prefix}Message-Id: {message_id}\n")
            self.message_ids.append((self._resent, message_id))
            seen.add(f"{prefix}message-id".lower().encode())
        if b"message-id" not in seen:
            self.message_ids.append((False, "<>"))
        if lacks("Date"):
            missing.append(f"{prefix}Date: {envelope.date}\n")
        if lacks("From"):
            missing.append(f"{prefix}From: {self._author()}\n")
        undisclosed = settings.undisclosed_recipients_header
        if self._add_missing and undisclosed and not seen & _VISIBLE_RECIPIENT_FIELDS:
            missing.append(f"{undisclosed}\n")
        return "".join(missing).encode("utf-8", "replace")

    def _author(self) -> str:
        """The body of a From field for the envelope's sender."""
        sender = self._envelope.sender
        if not sender:
            return "MAILER-DAEMON"
        address = quote_address(sender)
        name = format_phrase(self._envelope.full_name)
        if not name:
            return address
        if self._settings.header_from_format == "obsolete":
            comment = re.sub(r"([()\\])", r"\\\1", self._envelope.full_name.translate(_SPACES).strip(" "))
            return f"{address} ({comment})"
        return f"{name} <{address}>"


_SPACES = dict.fromkeys((*range(32), 127), " ")
