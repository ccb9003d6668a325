"""A non-delivery notice: a multipart/report message about the recipients that a message did not reach.

The pieces come as they are needed, so that neither a long log nor a large message is held in memory. Lines are ended by
LF. Where an address or the message needs it, the forms of RFC 6533 are used instead of those of RFC 3464.

Source: RFC 3464 (delivery status), RFC 6522 (multipart/report), RFC 6533 (internationalised), RFC 3834 (automatic).
"""

import re
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from pyfix.mail.address import quote_address
from pyfix.mail.date import format_date
from pyfix.spool.log import LogEntry
from pyfix.spool.queue_file import NOTIFY_FAILURE

_WIDTH = 78
# RFC 5322 section 2.1.1 allows 998 octets in a line; a character of UTF-8 has up to four.
_LONGEST_WORD = 900
_SPACES = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")


class Failed(Struct, frozen=True):
    """The message that a notice is about."""

    queue_id: str
    # never empty: a message without sender gets no notice
    sender: str
    # microseconds since the epoch
    arrival_usec: int
    # RFC 3461 ENVID and RET
    envid: str = ""
    ret: str = ""
    smtputf8: bool = False
    # bytes
    size: int = 0


class Reporter(Struct, frozen=True):
    """Who reports, and how."""

    myhostname: str
    mail_name: str
    # larger messages come back without their body
    bounce_size_limit: int
    header_from_format: str = "standard"


class Notice:
    """A notice about a message.

    ``entries`` gives the bounce log from its start each time it is called. ``date`` is the notice's time in seconds,
    the local zone's offset from UTC, and its name.
    """

    def __init__(
        self,
        reporter: Reporter,
        failed: Failed,
        entries: Callable[[], Iterable[LogEntry]],
        date: tuple[int, int, str],
    ) -> None:
        self._reporter = reporter
        self._failed = failed
        self._entries = entries
        self._date = date
        self._boundary = f"{failed.queue_id}.{date[0]}/{reporter.myhostname}"
        self._global = failed.smtputf8 or not failed.sender.isascii()

    def is_due(self) -> bool:
        """Whether there is a recipient whose failure the sender wants to know."""
        return any(True for _ in self._wanted())

    @property
    def with_body(self) -> bool:
        """Whether the whole message comes back, not its header alone (RFC 3461 section 4.3)."""
        return self._failed.ret != "HDRS" and self._failed.size <= self._reporter.bounce_size_limit

    def content(self, original: Iterable[bytes]) -> Iterator[bytes]:
        """The notice; ``original`` is the message's content in chunks. What their iterators raise is raised."""
        yield self._header()
        yield self._text()
        for entry in self._wanted():
            yield _describe(entry)
        yield self._status()
        for entry in self._wanted():
            yield self._recipient(entry)
        yield self._original_head()
        yield from original if self.with_body else header_of(original)
        yield f"\n--{self._boundary}--\n".encode()

    def _wanted(self) -> Iterator[LogEntry]:
        """The entries that the sender wants to know of; what a crash made the log say twice, once."""
        seen: set[tuple[int, str]] = set()
        for entry in self._entries():
            key = (entry.offset, entry.recipient)
            if key in seen or (entry.notify and not entry.notify & NOTIFY_FAILURE):
                continue
            seen.add(key)
            yield entry

    def _header(self) -> bytes:
        name = "Mail Delivery System"
        obsolete = self._reporter.header_from_format == "obsolete"
        lines = (
            f"Date: {format_date(*self._date)}",
            f"From: MAILER-DAEMON ({name})" if obsolete else f"From: {name} <MAILER-DAEMON>",
            "Subject: Undelivered Mail Returned to Sender",
            f"To: {quote_address(self._failed.sender)}",
            "Auto-Submitted: auto-replied",
            "MIME-Version: 1.0",
            "Content-Type: multipart/report; report-type="
            + ("global-delivery-status;" if self._global else "delivery-status;"),
            f'\tboundary="{self._boundary}"',
            "Content-Transfer-Encoding: 8bit",
            "",
            "This is a MIME-encapsulated message.",
            "",
        )
        return "\n".join(lines).encode("utf-8", "replace")

    def _part(self, description: str, kind: str) -> str:
        # RFC 3464 section 2.1 gives message/delivery-status no other encoding than 7bit.
        encoding = "" if kind == "message/delivery-status" else "Content-Transfer-Encoding: 8bit\n"
        return f"\n--{self._boundary}\nContent-Description: {description}\nContent-Type: {kind}\n{encoding}\n"

    def _text(self) -> bytes:
        text = f"""\
This is the mail system at host {self._reporter.myhostname}.

Your message did not reach the recipients below, and will not be
tried again. It is attached, whole or without its text.

If you need help, please write to postmaster, and include this
report. The attached message may be left out.

                   The mail system
"""
        return (self._part("Notification", "text/plain; charset=utf-8") + text).encode()

    def _status(self) -> bytes:
        failed = self._failed
        kind = "message/global-delivery-status" if self._global else "message/delivery-status"
        fields = [f"Reporting-MTA: dns; {self._reporter.myhostname}"]
        if failed.envid:
            fields.append(_field("Original-Envelope-Id", failed.envid))
        fields += (
            f"X-Pyfix-Queue-ID: {failed.queue_id}",
            _field("X-Pyfix-Sender", _typed(failed.sender)),
            f"Arrival-Date: {format_date(failed.arrival_usec // 1_000_000, *self._date[1:])}",
        )
        return (self._part("Delivery report", kind) + "\n".join(fields) + "\n").encode("utf-8", "replace")

    def _recipient(self, entry: LogEntry) -> bytes:
        fields = ["", _field("Final-Recipient", _typed(entry.recipient))]
        if entry.orcpt:
            fields.append(_field("Original-Recipient", entry.orcpt))
        elif entry.original:
            fields.append(_field("Original-Recipient", _typed(entry.original)))
        fields += (f"Action: {entry.action}", f"Status: {entry.status}")
        if entry.remote_mta:
            fields.append(_field("Remote-MTA", f"dns; {entry.remote_mta}"))
        if entry.diagnostic:
            fields.append(_field("Diagnostic-Code", f"smtp; {entry.diagnostic}"))
        else:
            fields.append(_field("Diagnostic-Code", f"X-Pyfix; {entry.reason}"))
        return ("\n".join(fields) + "\n").encode("utf-8", "replace")

    def _original_head(self) -> bytes:
        if self.with_body:
            description, kind = "Undelivered Message", "message/global" if self._global else "message/rfc822"
        else:
            description = "Undelivered Message Headers"
            kind = "message/global-headers" if self._global else "text/rfc822-headers"
        return_path = f"Return-Path: <{quote_address(self._failed.sender)}>\n"
        return (self._part(description, kind) + return_path).encode("utf-8", "replace")


def header_of(content: Iterable[bytes]) -> Iterator[bytes]:
    """The header of a message's content, without the empty line behind it, in chunks."""
    at_line_start = True
    for chunk in content:
        if at_line_start and chunk.startswith(b"\n"):
            return
        end = chunk.find(b"\n\n")
        if end >= 0:
            yield chunk[: end + 1]
            return
        yield chunk
        at_line_start = chunk.endswith(b"\n")


def wrap(text: str, indent: str) -> str:
    """A text in lines of moderate length, all but the first behind ``indent``; control characters become spaces."""
    lines: list[str] = []
    line: list[str] = []
    length = 0
    for word in _words(text):
        if line and length + 1 + len(word) > _WIDTH:
            lines.append(" ".join(line))
            line = []
            length = len(indent) - 1
        line.append(word)
        length += 1 + len(word)
    lines.append(" ".join(line))
    return f"\n{indent}".join(lines)


def _words(text: str) -> Iterator[str]:
    longest = _LONGEST_WORD if text.isascii() else _LONGEST_WORD // 4
    for word in _SPACES.sub(" ", text).strip(" ").split(" "):
        for start in range(0, len(word), longest):
            yield word[start : start + longest]


def _field(name: str, body: str) -> str:
    return wrap(f"{name}: {body}", "    ")


def _typed(address: str) -> str:
    """An address with its type, RFC 3464 section 2.1.2 and RFC 6533 section 3."""
    return f"{'rfc822' if address.isascii() else 'utf-8'}; {quote_address(address)}"


def _describe(entry: LogEntry) -> bytes:
    expanded = f" (expanded from <{quote_address(entry.original)}>)" if entry.original else ""
    text = wrap(f"<{quote_address(entry.recipient)}>{expanded}: {entry.reason}", "    ")
    return f"\n{text}\n".encode("utf-8", "replace")
