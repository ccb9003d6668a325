"""The header of a message: scanned as Postfix scans it, in bounded memory and linear time.

The scanner is fed content as it comes, lines ended by LF, and gives *fields*: a name, a colon, a body, and every
following line that begins with a space or a tab. The first line that is neither ends the header. If that line is
empty it is the separator of RFC 5322; if not, the separator is missing and the line is the first of the body.

White space between name and colon is dropped. A first line that begins with ``From `` or ``>From `` comes from a
mailbox file and becomes an ``X-Mailbox-Line:`` field.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

SENDER_FIELDS = frozenset(
    (
        b"disposition-notification-to",
        b"errors-to",
        b"from",
        b"mail-followup-to",
        b"reply-to",
        b"resent-from",
        b"resent-reply-to",
        b"resent-sender",
        b"return-path",
        b"return-receipt-to",
        b"sender",
    ),
)
"""Fields with addresses of those who sent, or who want answers."""

RECIPIENT_FIELDS = frozenset(
    (b"apparently-to", b"bcc", b"cc", b"resent-bcc", b"resent-cc", b"resent-to", b"to"),
)
"""Fields with addresses of those who receive."""

EXTRACTED_FIELDS = frozenset((b"bcc", b"cc", b"to"))
"""Fields that ``sendmail -t`` takes recipients from, if the message was not sent again."""

RESENT_EXTRACTED_FIELDS = frozenset((b"resent-bcc", b"resent-cc", b"resent-to"))
"""Fields that ``sendmail -t`` takes recipients from, if the message was sent again (RFC 5322 section 3.6.6)."""

RESENT_FIELDS = RESENT_EXTRACTED_FIELDS | {
    b"resent-date",
    b"resent-from",
    b"resent-message-id",
    b"resent-reply-to",
    b"resent-sender",
}
"""Fields that tell that a message was sent again."""

# A field and the first character of what follows it. The repeats of single characters are possessive and never
# backtrack. That of lines is not, as CPython before 3.11.5 forgets to step back from a line half matched
# (python/cpython#106052); it steps back line by line, at most once.
_FIELD = re.compile(rb"([!-9;-~]++)([ \t]*+):[^\n]*+\n(?:[ \t][^\n]*+\n)*(?=[^ \t])")
# As _FIELD, with what is wanted of it in groups.
_FIELDS = re.compile(rb"(([!-9;-~]++)([ \t]*+):[^\n]*+\n(?:[ \t][^\n]*+\n)*)(?=[^ \t])")
_NAME = re.compile(rb"([!-9;-~]++)([ \t]*+):")
_NAME_SO_FAR = re.compile(rb"[!-9;-~]*+[ \t]*+\Z")
_MAILBOX_LINE = re.compile(rb">*+from ", re.IGNORECASE)
_MAILBOX_LINE_SO_FAR = re.compile(rb">*+(?:f(?:r(?:o(?:m)?)?)?)?\Z", re.IGNORECASE)
_NEXT_LINE = re.compile(rb"\n[^ \t]")


class Field(NamedTuple):
    """A field of a header."""

    # in lower case
    name: bytes
    # all of it, lines ended by LF, the name as it was written
    text: bytes

    @property
    def body(self) -> bytes:
        """What stands behind the colon, with its line ends."""
        return self.text[len(self.name) + 1 :]


class HeaderScanner:
    """Splits content into fields and the rest. Holds at most ``size_limit`` bytes and what it was fed last.

    ``size_limit`` is header_size_limit: what a field has beyond it, as it was written, is dropped.
    """

    __slots__ = ("_dropping", "_first", "_limit", "_pending", "_pending_size", "_tail", "ended", "rest")

    def __init__(self, size_limit: int) -> None:
        self._limit = size_limit
        # the beginning of a field: chunks, and their last byte
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._tail = b""
        # inside a field whose beginning was given away already
        self._dropping = False
        self._first = True
        self.ended = False
        # what stands behind the header, as far as it was fed; empty until then
        self.rest = b""

    @property
    def separator_missing(self) -> bool:
        """The header has ended at a line that is not empty."""
        return self.rest[:1] not in {b"", b"\n"}

    def feed(self, data: bytes) -> list[Field]:
        """Take content; give the fields that are complete. Not to be called when ``ended``."""
        if not data:
            return []
        if self._dropping:
            return self._drop(data)
        if self._pending and not (b"\n" in data if self._first else _NEXT_LINE.search(self._tail + data)):
            self._hold(data)
            return self._cut() if self._pending_size > self._limit else []
        return self._scan(self._take_pending() + data)

    def close(self) -> list[Field]:
        """The content is at its end; give the last field, if there is one."""
        data = self._take_pending()
        self._dropping = False
        if not data or self.ended:
            return []
        # A line of its own behind the last one completes whatever is there; it is not content.
        ended = data if data.endswith(b"\n") else data + b"\n"
        fields = self._scan(ended + b"\n")
        self.rest = self.rest[:-1]
        if self.rest and not data.endswith(b"\n"):
            self.rest = self.rest[:-1]
        return fields

    def _scan(self, data: bytes) -> list[Field]:
        fields: list[Field] = []
        position = self._mailbox_line(data, fields) if self._first else 0
        if position < 0:
            self._hold(data)
            return fields
        match = _FIELD.match
        limit = self._limit
        if 0 < (end := data.find(b"\n\n", position) + 1) <= position + limit:
            # The usual case: the whole header is there and is nothing but fields.
            found_all = _FIELDS.findall(data, position, end + 1)
            if sum([len(text) for text, _, _ in found_all]) == end - position:
                fields += [_field(name, blank, text) for text, name, blank in found_all]
                position = end
        while (found := match(data, position)) and found.end(2) - position <= limit:
            text = found[0]
            if len(text) > limit:
                text = _shorten(text, limit)
            fields.append(_field(found[1], found[2], text))
            position = found.end()
        rest = data[position:] if position else data
        if self._may_become_field(rest):
            if rest:
                self._hold(rest)
                if len(rest) > limit:
                    fields += self._cut()
        else:
            self.ended = True
            self.rest = rest
        return fields

    def _may_become_field(self, rest: bytes) -> bool:
        if found := _NAME.match(rest):
            return found.end(2) <= self._limit
        return b"\n" not in rest and len(rest) <= self._limit and _NAME_SO_FAR.match(rest) is not None

    def _mailbox_line(self, data: bytes, fields: list[Field]) -> int:
        """The position behind a first line out of a mailbox file; -1 if that cannot be told yet."""
        if not _MAILBOX_LINE.match(data):
            if _MAILBOX_LINE_SO_FAR.match(data) and len(data) <= self._limit:
                return -1
            self._first = False
            return 0
        end = data.find(b"\n", 0, self._limit) + 1
        if not end and len(data) <= self._limit:
            return -1
        self._first = False
        if end:
            fields.append(Field(b"x-mailbox-line", b"X-Mailbox-Line: " + data[:end]))
        return end

    def _hold(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        self._tail = data[-1:]

    def _take_pending(self) -> bytes:
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_size = 0
        return data

    def _cut(self) -> list[Field]:
        """What is held is more than a field may have: give its beginning, drop the rest of it."""
        data = self._take_pending()
        found = _NAME.match(data)
        if not found or found.end(2) > self._limit:
            self.ended = True
            self.rest = data
            return []
        self._dropping = True
        return [_field(found[1], found[2], _shorten(data, self._limit))]

    def _drop(self, data: bytes) -> list[Field]:
        probe = self._tail + data
        found = _NEXT_LINE.search(probe)
        if not found:
            self._tail = data[-1:]
            return []
        self._dropping = False
        return self._scan(probe[found.start() + 1 :])


_MESSAGE_ID = re.compile(rb"[ \t\n]*(<[!-;=?-~]+>)[ \t\n]*")


def find_message_id(content: Iterable[bytes], limit: int) -> str:
    """The Message-Id of a message, ``<id@host>``; empty if there is none, or none that is well formed.

    No more than about ``limit`` bytes of the content are looked at.
    """
    scanner = HeaderScanner(limit)
    fields: list[Field] = []
    size = 0
    for chunk in content:
        fields += [field for field in scanner.feed(chunk) if field.name == b"message-id"]
        size += len(chunk)
        if fields or scanner.ended or size > limit:
            break
    else:
        fields += [field for field in scanner.close() if field.name == b"message-id"]
    found = _MESSAGE_ID.fullmatch(fields[0].body) if fields else None
    return found[1].decode("ascii") if found else ""


def _field(name: bytes, blank: bytes, text: bytes) -> Field:
    """A field without the blanks before its colon."""
    return Field(name.lower(), name + text[len(name) + len(blank) :] if blank else text)


def _shorten(text: bytes, limit: int) -> bytes:
    """The beginning of a field's text, without an empty line at its end."""
    return text[:limit].rstrip(b"\n") + b"\n"
