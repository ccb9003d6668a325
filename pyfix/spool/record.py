"""Records: what queue files and maildrop files are made of.

A record is a type, one byte; the length of its data, in groups of 7 bits, lowest first, the 8th bit set in all but the
last; and the data. Text is a sequence of N records, a line each without its line end; a line that is longer than
LINE_LIMIT is cut into L records and one N record.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# Postfix's names (rec_type.h)
SIZE, TIME, FULL, FILTER, INSPECT = b"C", b"T", b"F", b"L", b"I"
FROM, RECIPIENT, DONE, CANCELED, ORIGINAL = b"S", b"R", b"D", b"/", b"O"
WARN, ATTRIBUTE, KILLED, REDIRECT, VERP, FLAGS = b"W", b"A", b"K", b">", b"V", b"f"
MESSAGE, CONTINUED, NORMAL, PADDING, POINTER = b"M", b"L", b"N", b"w", b"p"
EXTRACTED, RETURN_RECEIPT, ERRORS_TO, PRIORITY, END = b"X", b"r", b"e", b"P", b"E"
ORCPT, NOTIFY, ENVID, RET, CREATED = b"o", b"n", b"i", b"<", b"c"

LINE_LIMIT = 2048
"""Postfix's line_length_limit: the most data that a text record written here holds."""

RECORD_LIMIT = 1 << 20
"""The most data that a record read here may hold; more is taken for a broken file."""

REVERSE_JUMPS_LIMIT = 10_000
"""How many pointer records may lead backwards before a file is taken for a loop (Postfix's limit)."""

NUMBER_DIGITS = 18
"""The most digits that a number read here may have."""

_CHUNK = 65536
_LENGTH_BYTES = 5


class CorruptFile(Exception):
    """A queue file breaks the format; ``offset`` is where in the file, ``reason`` says how."""

    def __init__(self, offset: int, reason: str) -> None:
        self.offset = offset
        self.reason = reason
        super().__init__(f"offset {offset}: {reason}")


class Record(NamedTuple):
    """A record and where its type byte stands in the file."""

    offset: int
    type: bytes
    data: bytes


def _length(size: int) -> bytes:
    digits = bytearray()
    while size > 127:
        digits.append(size & 127 | 128)
        size >>= 7
    digits.append(size)
    return bytes(digits)


_SHORT_LENGTHS = [bytes([size]) for size in range(128)]


def encode(kind: bytes, data: bytes) -> bytes:
    """A record."""
    size = len(data)
    return kind + (_SHORT_LENGTHS[size] if size < 128 else _length(size)) + data


# The heads of all N records of one line, by length: content is encoded without a function call per line.
_HEADS = [NORMAL + _length(size) for size in range(LINE_LIMIT + 1)]
_FULL_HEAD = CONTINUED + _length(LINE_LIMIT)


def encode_lines(lines: list[bytes]) -> bytes:
    """N records of whole lines, given without their line ends; L records too where a line is too long."""
    heads = _HEADS
    try:
        return b"".join([heads[len(line)] + line for line in lines])
    except IndexError:
        return b"".join([_long_line(line) for line in lines])


def _long_line(line: bytes) -> bytes:
    last = max(len(line) - 1, 0) // LINE_LIMIT * LINE_LIMIT
    parts = [_FULL_HEAD + line[start : start + LINE_LIMIT] for start in range(0, last, LINE_LIMIT)]
    parts.append(_HEADS[len(line) - last] + line[last:])
    return b"".join(parts)


class TextEncoder:
    """Turns chunks of text, lines ended by LF and cut anywhere, into records; holds at most a line of LINE_LIMIT.

    Ask for ``encode`` for each chunk, then once for ``finish``.
    """

    __slots__ = ("_continued", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._continued = False

    def encode(self, chunk: bytes) -> bytes:
        """The records that this chunk completes."""
        lines = (self._tail + chunk).split(b"\n")
        tail = lines.pop()
        records = encode_lines(lines)
        if lines:
            self._continued = False
        if len(tail) > LINE_LIMIT:
            cut = (len(tail) - 1) // LINE_LIMIT * LINE_LIMIT
            parts = [_FULL_HEAD + tail[start : start + LINE_LIMIT] for start in range(0, cut, LINE_LIMIT)]
            records += b"".join(parts)
            tail = tail[cut:]
            self._continued = True
        self._tail = tail
        return records

    def finish(self) -> bytes:
        """The records of a last line that had no LF: they end it, so that what follows starts a line."""
        tail, self._tail = self._tail, b""
        if not tail and not self._continued:
            return b""
        self._continued = False
        return encode(NORMAL, tail)


SHORT_DATA = b"|".join(re.escape(bytes([size])) + b".{%d}" % size for size in range(128))
"""A pattern of the length and the data of a record of less than 128 bytes, where "." is any byte."""


def other_attributes(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """What matches short attribute records, one or more, that have none of these names."""
    return re.compile(b"(?s:A(?!.(?:%b)=)(?:%b))+" % (b"|".join(names), SHORT_DATA))


class RecordReader:
    """Reads records from a file's descriptor, which it neither moves (it uses pread) nor closes.

    Pointer records are followed and padding is skipped, unless ``raw``. Raises CorruptFile, and OSError. The memory
    it takes is bounded by RECORD_LIMIT.
    """

    __slots__ = ("_buffer", "_descriptor", "_jumps", "_landed", "_last_jump", "_passed", "_position", "_start", "raw")

    def __init__(self, descriptor: int, offset: int = 0, *, raw: bool = False) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        # where the buffer starts in the file; where the next record starts in the buffer
        self._start = offset
        self._position = 0
        self._jumps = 0
        self._last_jump = 0
        # where reading went on after the last seek, and how many bytes were passed before that
        self._landed = offset
        self._passed = 0
        self.raw = raw

    @property
    def offset(self) -> int:
        """Where the next record starts."""
        return self._start + self._position

    def ahead(self) -> bytes:
        """What is in the buffer from the next record on; empty at the end of the file."""
        if self._position == len(self._buffer):
            self._fill(1)
        return self._buffer[self._position :]

    def seek(self, offset: int) -> None:
        """Go on reading at ``offset``."""
        self._landed = offset
        if self._start <= offset <= self._start + len(self._buffer):
            self._position = offset - self._start
        else:
            self._start, self._position, self._buffer = offset, 0, b""

    def _fill(self, need: int) -> bool:
        """Whether the buffer holds ``need`` bytes from the position on, after reading more if necessary."""
        buffer = self._buffer[self._position :]
        self._start += self._position
        self._position = 0
        while len(buffer) < need:
            more = os.pread(self._descriptor, max(_CHUNK, need - len(buffer)), self._start + len(buffer))
            if not more:
                break
            buffer += more
        self._buffer = buffer
        return len(buffer) >= need

    def _bad(self, reason: str) -> CorruptFile:
        return CorruptFile(self.offset, reason)

    def _head(self) -> tuple[bytes, int, int] | None:
        """The next record's type, its head's size and its data's size; None at the end of the file."""
        left = len(self._buffer) - self._position
        if left < 2 or (left < 1 + _LENGTH_BYTES and self._buffer[self._position + 1] > 127):
            self._fill(1 + _LENGTH_BYTES)
        buffer, start = self._buffer, self._position
        if start == len(buffer):
            return None
        size = shift = 0
        for index in range(start + 1, min(start + 1 + _LENGTH_BYTES, len(buffer))):
            byte = buffer[index]
            size |= (byte & 127) << shift
            if byte < 128:
                return buffer[start : start + 1], index + 1 - start, size
            shift += 7
        if len(buffer) - start > _LENGTH_BYTES:
            raise self._bad(f"too many length bits, record type {buffer[start]}")
        raise self._bad(f"unexpected EOF reading length, record type {buffer[start]}")

    def _take(self) -> Record | None:
        head = self._head()
        if head is None:
            return None
        kind, head_size, size = head
        if size > RECORD_LIMIT:
            raise self._bad(f"illegal length {size}, record type {kind[0]}")
        if len(self._buffer) - self._position < head_size + size and not self._fill(head_size + size):
            raise self._bad(f"unexpected EOF in data, record type {kind[0]} length {size}")
        offset = self.offset
        start = self._position + head_size
        self._position = start + size
        return Record(offset, kind, self._buffer[start : start + size])

    def read(self) -> Record | None:
        """The next record, None at the end of the file."""
        while True:
            record = self._take()
            if record is None or self.raw:
                return record
            if record.type == POINTER:
                self.follow(record)
            elif record.type != PADDING:
                return record

    def records(self, pass_over: re.Pattern[bytes] | None = None) -> Iterator[tuple[int, bytes, bytes]]:
        """What ``read`` gives from here on, as plain tuples, for less.

        Attribute records that ``pass_over`` (see ``other_attributes``) matches may be left out.
        """
        while True:
            if self._position == len(self._buffer):
                self._fill(1)
            # Nearly all records of an envelope are shorter than 128 bytes and stand in the buffer.
            buffer, start, position = self._buffer, self._start, self._position
            last = len(buffer) - 2
            while position <= last and (size := buffer[position + 1]) < 128:
                kind = buffer[position]
                if kind == _A and pass_over and (passed := pass_over.match(buffer, position)):
                    position = passed.end()
                    continue
                data = position + 2
                end = data + size
                if end > last + 2 or kind in _SPECIAL:
                    break
                self._position = end
                yield start + position, buffer[position : position + 1], buffer[data:end]
                # Who got that may have gone on by ``matches``.
                position = self._position
            self._position = position
            record = self.read()
            if record is None:
                return
            yield record

    def matches(self, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, re.Match[bytes]]]:
        """What the pattern of whole records matches from here on, one behind the other, as far as the buffer goes.

        Each match comes with the buffer's offset in the file.
        """
        buffer, start = self._buffer, self._start
        while found := pattern.match(buffer, self._position):
            self._position = found.end()
            yield start, found

    def pass_over(self, pattern: re.Pattern[bytes]) -> None:
        """Goes on behind what the pattern of whole records matches."""
        if found := pattern.match(self._buffer, self._position):
            self._position = found.end()

    def follow(self, pointer: Record) -> None:
        """Go on where a pointer record leads; a pointer to 0 leads nowhere."""
        target = parse_number(pointer.data)
        if target is None:
            value = pointer.data[:40].decode("ascii", "backslashreplace")
            raise CorruptFile(pointer.offset, f"malformed pointer record value: {value}")
        if target == 0:
            return
        if target <= self._last_jump:
            self._jumps += 1
            if self._jumps > REVERSE_JUMPS_LIMIT:
                raise CorruptFile(pointer.offset, "too many reverse jump records")
        self._last_jump = target
        self._passed += max(pointer.offset - self._landed, 0)
        if self._passed > os.fstat(self._descriptor).st_size:
            # Pointers lead around what was changed, so no record is met twice: time is linear in the file's size.
            raise CorruptFile(pointer.offset, "pointer records lead in a circle")
        self.seek(target)

    def read_text(self, size: int = _CHUNK) -> bytes:
        """About ``size`` bytes of text from the N and L records that stand next, lines ended by LF; empty at their end.

        A line whose last record is an L record has no LF yet. Stops before the first record that is not text.
        """
        parts: list[bytes] = []
        budget = size
        while budget > 0:
            budget -= self._take_lines(parts)
            if self.stands_at(EXTRACTED):
                break
            record = self._peek_slow()
            if record is None:
                break
            parts.append(record)
            budget -= len(record) + 1
        return b"".join(parts)

    def stands_at(self, kind: bytes) -> bool:
        """Whether a record of that type, ``raw``, is known to stand next: it is in the buffer."""
        return self._buffer.startswith(kind, self._position)

    def _take_lines(self, parts: list[bytes]) -> int:
        """Take the N records of up to 16383 bytes that the buffer holds whole; how many bytes were passed."""
        if self._position == len(self._buffer):
            self._fill(1)
        buffer, position = self._buffer, self._position
        first, size_of_buffer = position, len(buffer)
        last = size_of_buffer - 3
        lines: list[bytes] = []
        append = lines.append
        while position <= last and buffer[position] == _N:
            size = buffer[position + 1]
            start = position + 2
            if size > 127:
                high = buffer[start]
                if high > 127:
                    break
                size += (high << 7) - 128
                start += 1
            end = start + size
            if end > size_of_buffer:
                break
            append(buffer[start:end])
            position = end
        append(b"")
        parts.append(b"\n".join(lines))
        self._position = position
        return position - first

    def _peek_slow(self) -> bytes | None:
        """The text of the next record, whatever its length; None, and nothing taken, if it is not text."""
        while True:
            head = self._head()
            if head is None:
                raise self._bad("the file ends within the message")
            kind = head[0]
            if kind in (NORMAL, CONTINUED):
                record = self._take()
                assert record is not None
                return record.data + b"\n" if kind == NORMAL else record.data
            if kind not in (POINTER, PADDING):
                return None
            record = self._take()
            assert record is not None
            if kind == POINTER:
                self.follow(record)


_A, _N = ATTRIBUTE[0], NORMAL[0]
_SPECIAL = POINTER + PADDING


NAMES: dict[bytes, str] = {
    SIZE: "message_size",
    TIME: "message_arrival_time",
    CREATED: "queue_file_create_time",
    FULL: "sender_fullname",
    INSPECT: "content_inspector",
    # an L record is called so in the envelope, where it is none of text
    FILTER: "content_filter",
    FROM: "sender",
    DONE: "done_recipient",
    CANCELED: "canceled_recipient",
    RECIPIENT: "recipient",
    ORIGINAL: "original_recipient",
    WARN: "warning_message_time",
    ATTRIBUTE: "named_attribute",
    KILLED: "killed_record",
    POINTER: "pointer_record",
    MESSAGE: "message_content",
    NORMAL: "regular_text",
    PADDING: "padding",
    EXTRACTED: "extracted_info",
    RETURN_RECEIPT: "return_receipt",
    ERRORS_TO: "errors_to",
    PRIORITY: "priority",
    VERP: "verp_delimiters",
    END: "message_end",
    REDIRECT: "redirect_to",
    FLAGS: "flags",
    RET: "dsn_return_flags",
    ENVID: "dsn_envelope_id",
    ORCPT: "dsn_original_recipient",
    NOTIFY: "dsn_notify_flags",
}
"""What postcat calls a record of each type."""


def parse_number(data: bytes) -> int | None:
    """A decimal number of at most NUMBER_DIGITS, spaces allowed around it; None for anything else, signs included."""
    digits = data.strip(b" ")
    return int(digits) if digits.isdigit() and len(digits) <= NUMBER_DIGITS else None
