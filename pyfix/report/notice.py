"""A notice: a multipart/report message about what became of a message's recipients.

The pieces come as they are needed, so that neither a long log nor a large message is held in memory. Lines are ended by
LF. Where an address or the message needs it, the forms of RFC 6533 are used instead of those of RFC 3464. Fields and
their order are Postfix's. Nothing that a remote host or a sender has said can begin a line of a field of its own.

Source: RFC 3464 (delivery status), RFC 6522 (multipart/report), RFC 6533 (internationalised), RFC 3834 (automatic).
"""

import re
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from pyfix.mail.address import quote_address
from pyfix.mail.date import format_date
from pyfix.mail.phrase import mail_system
from pyfix.mail.wrap import wrap
from pyfix.report.copies import Copy
from pyfix.report.template import Template
from pyfix.service.bounce import NoticeKind
from pyfix.spool.log import LogEntry

# What RFC 5322 does not allow in a header's name and RFC 3464 not in a type.
_NO_ATOM = re.compile(r"[^!#-'*+\-/-9=?A-Z^-~]")
_NOBODY = "MAILER-DAEMON"
# RFC 5322 section 2.1.1 allows 998 octets in a line; a character of UTF-8 has up to four.
_LINE_LIMIT = 900


class Subject(Struct, frozen=True):
    """The message that a notice is about."""

    queue_id: str
    # empty for the null sender
    sender: str
    # microseconds since the epoch
    arrival_usec: int
    # RFC 3461 ENVID
    envid: str = ""
    smtputf8: bool = False
    # bytes
    size: int = 0
    # <id@host>, for threads; empty for none
    message_id: str = ""


class Reporter(Struct, frozen=True):
    """Who reports, and how."""

    myhostname: str
    mail_name: str
    # larger messages come back without their body
    bounce_size_limit: int
    # seconds
    maximal_queue_lifetime: int = 432_000
    header_from_format: str = "standard"


class Notice:
    """A notice about a message.

    ``template`` is expanded. ``entries`` gives the log from its start each time it is called. ``date`` is the notice's
    time in seconds, the local zone's offset from UTC, and its name. Without ``with_body`` the message comes back
    without its body whatever was asked for.
    """

    def __init__(
        self,
        reporter: Reporter,
        kind: NoticeKind,
        template: Template,
        copy: Copy,
        subject: Subject,
        entries: Callable[[], Iterable[LogEntry]],
        date: tuple[int, int, str],
        *,
        with_body: bool = True,
    ) -> None:
        self._reporter = reporter
        self._kind = kind
        self._template = template
        self._copy = copy
        self._subject = subject
        self._entries = entries
        self._date = date
        self._name = _NO_ATOM.sub("-", reporter.mail_name)
        self._sender = quote_address(subject.sender) or _NOBODY
        self._boundary = f"{subject.queue_id}.{date[0]}/{reporter.myhostname}"
        self._global = subject.smtputf8 or not subject.sender.isascii()
        # RFC 3461 section 4.3
        self.with_body = with_body and copy.ret == "FULL" and subject.size <= reporter.bounce_size_limit

    def is_due(self) -> bool:
        """Whether there is a recipient of whom this notice is to tell."""
        return any(True for _ in self._wanted())

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
        """The entries that this notice tells of; what a crash made the log say twice, once."""
        seen: set[tuple[int, str]] = set()
        for entry in self._entries():
            key = (entry.offset, entry.recipient)
            if key in seen or (entry.notify and not entry.notify & self._copy.wanted):
                continue
            seen.add(key)
            yield entry

    def _header(self) -> bytes:
        template, subject, copy = self._template, self._subject, self._copy
        title = template.postmaster_subject if copy.postmaster else None
        thread = [f"References: {subject.message_id}", f"In-Reply-To: {subject.message_id}"]
        lines = (
            f"Date: {format_date(*self._date)}",
            f"From: {template.author or mail_system(self._reporter.header_from_format)}",
            f"Subject: {title or template.subject}",
            f"To: {quote_address(copy.recipient)}",
            *(thread if subject.message_id else ()),
            f"Auto-Submitted: {'auto-generated' if copy.postmaster else 'auto-replied'}",
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
        charset = self._template.charset
        # Addresses and names in the text may be UTF-8 where it is ASCII itself.
        head = self._part(
            "Notification", f"text/plain; charset={'utf-8' if charset.lower() == 'us-ascii' else charset}"
        )
        text = "" if self._copy.postmaster else self._template.text
        return (head + text).encode("utf-8", "surrogateescape")

    def _status(self) -> bytes:
        subject, name = self._subject, self._name
        kind = "message/global-delivery-status" if self._global else "message/delivery-status"
        fields = [f"Reporting-MTA: dns; {self._reporter.myhostname}"]
        if subject.envid:
            fields.append(_field("Original-Envelope-Id", subject.envid))
        fields += (
            f"X-{name}-Queue-ID: {subject.queue_id}",
            _field(f"X-{name}-Sender", _typed(subject.sender) if subject.sender else f"rfc822; {_NOBODY}"),
            f"Arrival-Date: {self._format_time(subject.arrival_usec // 1_000_000)}",
        )
        return (self._part("Delivery report", kind) + "\n".join(fields) + "\n").encode("utf-8", "replace")

    def _recipient(self, entry: LogEntry) -> bytes:
        fields = ["", _field("Final-Recipient", _typed(entry.recipient))]
        if entry.orcpt:
            fields.append(_field("Original-Recipient", entry.orcpt))
        elif entry.original:
            fields.append(_field("Original-Recipient", _typed(entry.original)))
        # A deferral that is told as a failure is one: there will be no more attempts.
        fields.append(f"Action: {'failed' if self._kind == 'failure' else entry.action}")
        fields.append(f"Status: {entry.status}")
        if entry.remote_mta:
            fields.append(_folded("Remote-MTA", f"dns; {entry.remote_mta}"))
        if entry.diagnostic:
            fields.append(_folded("Diagnostic-Code", f"smtp; {entry.diagnostic}"))
        else:
            fields.append(_folded("Diagnostic-Code", f"X-{self._name}; {entry.reason}"))
        if self._kind == "delay":
            until = self._subject.arrival_usec // 1_000_000 + self._reporter.maximal_queue_lifetime
            fields.append(f"Will-Retry-Until: {self._format_time(until)}")
        return ("\n".join(fields) + "\n").encode("utf-8", "replace")

    def _original_head(self) -> bytes:
        if self.with_body:
            description, kind = "Message", "message/global" if self._global else "message/rfc822"
        else:
            description, kind = "Message Headers", "message/global-headers" if self._global else "text/rfc822-headers"
        if self._kind in {"failure", "delay"}:
            description = f"Undelivered {description}"
        return (self._part(description, kind) + f"Return-Path: <{self._sender}>\n").encode("utf-8", "replace")

    def _format_time(self, seconds: int) -> str:
        return format_date(seconds, *self._date[1:])


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


def _folded(name: str, body: str) -> str:
    return wrap(f"{name}: {body}")


def _field(name: str, body: str) -> str:
    """A field that is one line, as far as RFC 5322 allows that."""
    return wrap(f"{name}: {body}", _LINE_LIMIT if body.isascii() else _LINE_LIMIT // 4)


def _typed(address: str) -> str:
    """An address with its type, RFC 3464 section 2.1.2 and RFC 6533 section 3."""
    return f"{'rfc822' if address.isascii() else 'utf-8'}; {quote_address(address)}"


def _describe(entry: LogEntry) -> bytes:
    expanded = f" (expanded from <{quote_address(entry.original)}>)" if entry.original else ""
    text = wrap(f"<{quote_address(entry.recipient)}>{expanded}: {entry.reason}")
    return f"\n{text}\n".encode("utf-8", "replace")
