"""Queue files: a message with its envelope, in Postfix's format, as a stopped Postfix leaves and takes it.

=========  ==================================================================================================
segment    records
=========  ==================================================================================================
envelope   C size, T arrival time, A attributes, F full name, S sender, V VERP delimiters, W time of the delay
           warning; for each recipient A notify_flags, A dsn_orig_rcpt, O original recipient, R recipient
content    M, then N and L records: the text
extracted  X, A attributes learnt from the content, more recipients (sendmail -t)
end        E: a file without it was never accepted
=========  ==================================================================================================

C comes first and is overwritten in place when all is known. An R record becomes a D record, in place, when the
recipient needs no more attempts.

Strings are UTF-8 in the file and str above. Bytes that are no UTF-8, which only another mail system can have written
here, are read as U+FFFD: such an address bounces, it does not stop the queue.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from pyfix.spool import record
from pyfix.spool.envelope import WARNED, Envelope, NewMessage, NewRecipient, QueuedRecipient
from pyfix.spool.message_writer import MessageWriter
from pyfix.spool.ordinary import ORIGIN, RECIPIENT, RECIPIENTS, ordinary_envelope, queued_recipient
from pyfix.spool.record import CorruptFile, RecordReader, encode, parse_number
from pyfix.system.durable import DurableFile

# Up to here what lies between two marks is read and written along with them, which costs less than two more calls.
_NEAR = 8192
_RET_FLAGS = {"FULL": 1, "HDRS": 2}
_RET_NAMES = {b"1": "FULL", b"2": "HDRS"}
ENVELOPE_TYPES = frozenset(bytes([kind]) for kind in b"CTcFILSDRO/WVA>KreP")
_ATTRIBUTE_LIMIT = 100
# The attributes that stand before the sender in Postfix's files.
_FIRST = ("log_ident", "rewrite_context")
_FORBIDDEN = re.compile(r"[\0\r\n]")


def _text(value: str) -> bytes:
    if not value.isprintable() and _FORBIDDEN.search(value):
        raise ValueError(f"NUL, CR or LF in a record: {value[:80]!r}")
    return value.encode("utf-8")


def encode_attributes(attributes: Mapping[str, str | int]) -> bytes:
    """A records. Raises ValueError for NUL, CR or LF."""
    texts = [f"{name}={value}" for name, value in attributes.items()]
    _text("".join(texts))  # one look for all of them
    return b"".join([encode(record.ATTRIBUTE, text.encode("utf-8")) for text in texts])


def encode_time(usec: int) -> bytes:
    """A T record."""
    return encode(record.TIME, b"%d %d" % divmod(usec, 1_000_000))


def encode_recipient(recipient: NewRecipient) -> bytes:
    """A recipient's records."""
    address = _text(recipient.address)
    parts = []
    if recipient.notify:
        parts.append(encode_attributes({"notify_flags": recipient.notify}))
    if recipient.orcpt:
        parts.append(encode_attributes({"dsn_orig_rcpt": recipient.orcpt}))
    original = _text(recipient.original) if recipient.original else address
    parts += (encode(record.ORIGINAL, original), encode(record.RECIPIENT, address))
    return b"".join(parts)


def encode_dsn(envid: str, ret: str) -> bytes:
    """The A records of RFC 3461 ENVID and RET, where they are not empty."""
    records = encode_attributes({"envelope_id": to_xtext(envid)}) if envid else b""
    return records + encode_attributes({"ret_flags": _RET_FLAGS[ret]}) if ret else records


def to_xtext(text: str) -> str:
    """RFC 3461 section 4, of the text's UTF-8: Postfix keeps ENVID so in its files."""
    return "".join(
        chr(byte) if 33 <= byte <= 126 and byte not in b"+=" else f"+{byte:02X}" for byte in text.encode("utf-8")
    )


def from_xtext(xtext: str) -> str:
    """The text of RFC 3461 xtext; what is not well formed is left as it is."""
    decoded = re.sub(rb"\+([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), xtext.encode("utf-8"))
    return decoded.decode("utf-8", "replace")


class QueueFileWriter(MessageWriter):
    """Writes a queue file: ``begin``, ``write_content``..., ``finish``, ``commit``; or ``abort``."""

    __slots__ = ("_message", "_qmgr_flags", "_started", "content_offset")

    def __init__(self, file: DurableFile) -> None:
        super().__init__(file)
        self._message: NewMessage | None = None
        self._qmgr_flags = 0
        self._started = 0
        self.content_offset = 0

    def _put_recipients(self, recipients: Iterable[NewRecipient]) -> None:
        for recipient in recipients:
            self._started += 1
            self._qmgr_flags |= recipient.notify << 1
            self._put(encode_recipient(recipient))

    def begin(self, message: NewMessage) -> None:
        """Write the envelope. Raises ValueError for a NUL, CR or LF in it."""
        self._message = message
        parts = [
            _NO_SIZE,
            encode_time(message.arrival_usec),
            encode_attributes({"create_time": message.create_time}),
            encode_attributes({name: message.attributes[name] for name in _FIRST if name in message.attributes}),
            encode_dsn(message.envid, message.ret),
        ]
        if message.full_name:
            parts.append(encode(record.FULL, _text(message.full_name)))
        parts.append(encode(record.FROM, _text(message.sender)))
        if message.encoding:
            parts.append(encode_attributes({"encoding": message.encoding}))
        rest = {name: text for name, text in message.attributes.items() if name not in _FIRST}
        parts.append(encode_attributes(rest))
        if message.verp_delimiters:
            parts.append(encode(record.VERP, _text(message.verp_delimiters)))
        if message.warn_time:
            parts.append(encode(record.WARN, b"%15d" % message.warn_time))
        self._put(b"".join(parts))
        self._put_recipients(message.recipients)
        self._put(_START_OF_CONTENT)
        self.content_offset = self.size

    def finish(
        self,
        recipients: Iterable[NewRecipient] = (),
        attributes: Mapping[str, str] | None = None,
        smtputf8: int | None = None,
    ) -> None:
        """Write what the content told: attributes, recipients (sendmail -t), and the size record.

        ``smtputf8`` replaces what the envelope said. The content's size is known now: ``data_size``.
        """
        assert self._message is not None
        self._put(self._encoder.finish())
        data_size = self.size - self.content_offset
        self._put(_END_OF_CONTENT + encode_attributes(attributes or {}))
        self._put_recipients(recipients)
        utf8 = self._message.smtputf8 if smtputf8 is None else smtputf8
        fields = (data_size, self.content_offset, self._started, self._qmgr_flags, data_size, utf8)
        if self._file.size:
            self._file.overwrite(0, _size_record(fields))
        else:
            # Nothing is written yet: the first part in the buffer begins with the preliminary size record.
            self._buffer[0] = _size_record(fields) + self._buffer[0][len(_NO_SIZE) :]
        self._put(_END)

    @property
    def recipient_count(self) -> int:
        """Recipients written so far."""
        return self._started


def _size_record(fields: tuple[int, ...]) -> bytes:
    return encode(record.SIZE, b"%15d %15d %15d %15d %15d %15d" % fields)


_NO_SIZE = _size_record((0,) * 6)
_START_OF_CONTENT = encode(record.MESSAGE, b"")
_END_OF_CONTENT = encode(record.EXTRACTED, b"")
_END = encode(record.END, b"")


class EnvelopeReader:
    """Collects an envelope from records; the parts that queue files and maildrop files share."""

    def __init__(
        self,
        reader: RecordReader,
        recipient_limit: int,
        types: frozenset[bytes] = ENVELOPE_TYPES,
        *,
        origin: bool = True,
    ) -> None:
        self._reader = reader
        self._pass_over = None if origin else ORIGIN
        self._limit = max(recipient_limit, 1)
        self._types = types
        # The records of recipients are mostly the same ones: they need not be looked at one by one.
        self._alike = types is ENVELOPE_TYPES
        self._next = 0
        self._original: str | None = None
        self._orcpt = ""
        self._notify = 0
        # the numbers of the size record; empty if there is none
        self.fields: tuple[int, ...] = ()
        self.recipients: list[QueuedRecipient] = []
        self.rest = 0
        self.texts: dict[bytes, str] = {}
        self.attributes: dict[str, str] = {}
        self.arrival_usec = -1
        self.warn = (0, 0)

    def read_segment(self, *ends: bytes) -> bytes:
        """Read up to a record of one of the types ``ends``, and tell which it was."""
        takers, types = _TAKERS, self._types
        for offset, kind, data in self._reader.records(self._pass_over):
            if kind in ends:
                self._forget()
                return kind
            if kind not in types:
                raise CorruptFile(offset, f"unexpected record type {kind!r} in the envelope")
            take = takers.get(kind)
            if take is not None:
                take(self, offset, data)
            elif kind == record.FROM and record.FROM in self.texts:
                raise CorruptFile(offset, "multiple sender records")
            else:
                self.texts[kind] = data.decode("utf-8", "replace")
        raise CorruptFile(self._reader.offset, f"the file ends without the record {ends[-1].decode()}")

    def _forget(self, _offset: int = 0, _data: bytes = b"") -> None:
        self._original, self._orcpt, self._notify = None, "", 0

    def _take_original(self, _offset: int, data: bytes) -> None:
        self._original = data.decode("utf-8", "replace")

    def _take_warning(self, offset: int, data: bytes) -> None:
        warned = data.strip(b" ") == b"-1"
        self.warn = (WARNED if warned else _number(offset, record.WARN, data), offset)

    def _take_recipient(self, offset: int, data: bytes) -> None:
        reader = self._reader
        if len(self.recipients) < self._limit:
            address = data.decode("utf-8", "replace")
            original = self._original if self._original not in (None, address) else ""
            assert original is not None
            self.recipients.append(QueuedRecipient(offset, address, original, self._orcpt, self._notify))
            self._forget()
            if self._alike:
                for start, found in islice(reader.matches(RECIPIENT), self._limit - len(self.recipients)):
                    self.recipients.append(queued_recipient(start, found))
            self._next = reader.offset
        else:
            self.rest = self.rest or self._next
            if self._alike:
                reader.pass_over(RECIPIENTS)

    def _take_attribute(self, offset: int, data: bytes) -> None:
        key, equals, value = data.partition(b"=")
        key = key.strip(b" \t")
        if not key or not equals:
            raise CorruptFile(offset, f"malformed attribute: {data[:80]!r}")
        name, text = key.decode("utf-8", "replace"), value.strip(b" \t").decode("utf-8", "replace")
        if name == "dsn_orig_rcpt":
            self._orcpt = text
        elif name == "notify_flags":
            self._notify = _number(offset, record.ATTRIBUTE, value.strip(b" \t"))
        elif len(self.attributes) >= _ATTRIBUTE_LIMIT and name not in self.attributes:
            raise CorruptFile(offset, "too many attributes")
        else:
            self.attributes[name] = text

    def _take_size(self, offset: int, data: bytes) -> None:
        if offset != 0:
            raise CorruptFile(offset, "a size record that is not the first")
        fields = data.split()
        if not 2 <= len(fields) <= 8 or not b"".join(fields).isdigit() or max(map(len, fields)) > record.NUMBER_DIGITS:
            raise CorruptFile(offset, f"malformed size record: {data[:120]!r}")
        self.fields = tuple(map(int, fields)) + (0,) * (6 - len(fields))

    def _take_time(self, offset: int, data: bytes) -> None:
        if self.arrival_usec < 0:
            seconds, _, usec = data.partition(b" ")
            self.arrival_usec = _number(offset, record.TIME, seconds) * 1_000_000
            self.arrival_usec += _number(offset, record.TIME, usec or b"0")

    def number_attribute(self, name: str) -> int:
        """An attribute that is a number, removed; 0 if it is missing or malformed."""
        return parse_number(self.attributes.pop(name, "").encode()) or 0

    def take_dsn(self) -> tuple[str, str]:
        """ENVID, decoded, and RET, removed from the attributes."""
        ret = _RET_NAMES.get(self.attributes.pop("ret_flags", "").encode(), "")
        envid = self.attributes.pop("envelope_id", "")
        return from_xtext(envid) if envid else "", ret

    @staticmethod
    def takers() -> "dict[bytes, Callable[[EnvelopeReader, int, bytes], None]]":
        """What takes a record of which type; the others are texts."""
        return {
            record.RECIPIENT: EnvelopeReader._take_recipient,
            record.ORIGINAL: EnvelopeReader._take_original,
            record.ATTRIBUTE: EnvelopeReader._take_attribute,
            record.DONE: EnvelopeReader._forget,
            record.CANCELED: EnvelopeReader._forget,
            record.SIZE: EnvelopeReader._take_size,
            record.TIME: EnvelopeReader._take_time,
            record.WARN: EnvelopeReader._take_warning,
        }


_TAKERS = EnvelopeReader.takers()


def _number(offset: int, kind: bytes, data: bytes) -> int:
    number = parse_number(data)
    if number is None:
        raise CorruptFile(offset, f"malformed number in a record of type {kind!r}: {data[:40]!r}")
    return number


def read_envelope(descriptor: int, recipient_limit: int = 20_000, *, origin: bool = True) -> Envelope:
    """The envelope of a whole queue file. Raises CorruptFile for a file that is not one, and OSError.

    Holds at most ``recipient_limit`` recipients; ``rest`` tells where ``read_recipients`` goes on. Without ``origin``
    the attributes that tell where the message came from are passed over. The content is not
    read: that it is whole is known from the record X at its end and the record E at the file's end.
    """
    reader = RecordReader(descriptor)
    if not origin and (ordinary := ordinary_envelope(reader.ahead())) is not None:
        return ordinary
    state = EnvelopeReader(reader, recipient_limit, origin=origin)
    state.read_segment(record.MESSAGE)
    if not state.fields:
        raise CorruptFile(0, "no size record")
    data_size, content_offset, count, qmgr_flags, size, utf8 = state.fields[:6]
    _require(state)
    _skip_content(reader, content_offset, data_size)
    state.read_segment(record.END)
    envid, ret = state.take_dsn()
    warn_time, warn_offset = state.warn
    return Envelope(
        sender=state.texts[record.FROM],
        arrival_usec=state.arrival_usec,
        create_time=state.number_attribute("create_time"),
        recipients=tuple(state.recipients),
        rest=state.rest,
        recipient_count=count,
        size=size or data_size,
        content_offset=content_offset,
        data_size=data_size,
        qmgr_flags=qmgr_flags,
        smtputf8=utf8,
        full_name=state.texts.get(record.FULL, ""),
        encoding=state.attributes.pop("encoding", ""),
        envid=envid,
        ret=ret,
        attributes=state.attributes,
        warn_time=warn_time,
        warn_offset=warn_offset,
        content_filter=state.texts.get(record.FILTER, ""),
        redirect=state.texts.get(record.REDIRECT, ""),
        verp_delimiters=state.texts.get(record.VERP, ""),
        trace_flags=state.number_attribute("trace_flags"),
    )


def read_recipients(
    descriptor: int, envelope: Envelope, rest: int, recipient_limit: int
) -> tuple[tuple[QueuedRecipient, ...], int]:
    """More recipients, from ``rest`` on, and the next ``rest``. Raises CorruptFile and OSError."""
    reader = RecordReader(descriptor, rest)
    state = EnvelopeReader(reader, recipient_limit)
    if state.read_segment(record.MESSAGE, record.END) == record.MESSAGE:
        _skip_content(reader, envelope.content_offset, envelope.data_size)
        state.read_segment(record.END)
    return tuple(state.recipients), state.rest


def _require(state: EnvelopeReader) -> None:
    if record.FROM not in state.texts:
        raise CorruptFile(0, "no sender record")
    if state.arrival_usec < 0:
        raise CorruptFile(0, "no arrival time record")


def _skip_content(reader: RecordReader, content_offset: int, data_size: int) -> None:
    """Go to the end of the content, as the size record tells, and read the record X there."""
    offset = content_offset + data_size
    if content_offset <= 0:
        raise CorruptFile(0, f"content offset {content_offset}")
    reader.seek(offset)
    extracted = reader.read()
    if extracted is None or extracted.type != record.EXTRACTED:
        raise CorruptFile(offset, "the message content does not end where the size record says")


def mark_done(descriptor: int, *offsets: int) -> None:
    """Turn the R records at these offsets into D records; ``descriptor`` is open for writing.

    Marking twice is allowed. Raises CorruptFile where no recipient stands, and OSError. The marks are not fsynced: a
    power cut may cost one more delivery, which Postfix's own marks cost too.
    """
    for near in _neighbours(sorted(offsets)):
        first = near[0]
        data = bytearray(os.pread(descriptor, near[-1] - first + 1, first))
        for offset in near:
            at = offset - first
            found = bytes(data[at : at + 1])
            if found not in (record.RECIPIENT, record.DONE):
                raise CorruptFile(offset, f"a recipient record was expected, not {found!r}")
            data[at : at + 1] = record.DONE
        if os.pwrite(descriptor, data, first) < len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def _neighbours(offsets: Sequence[int]) -> Iterator[Sequence[int]]:
    """Runs of offsets, given in their order, that are near each other."""
    start = 0
    for end in range(1, len(offsets) + 1):
        if end == len(offsets) or offsets[end] - offsets[end - 1] > _NEAR:
            yield offsets[start:end]
            start = end


def mark_warned(descriptor: int, envelope: Envelope) -> None:
    """Note that the sender was told of the delay, in place; ``descriptor`` is open for writing.

    Raises CorruptFile if the record of the warning's time does not stand where it was found, and OSError.
    """
    old = b"%15d" % envelope.warn_time
    new = b"%15d" % WARNED
    if os.pread(descriptor, 2 + len(old), envelope.warn_offset) != encode(record.WARN, old):
        raise CorruptFile(envelope.warn_offset, "the time of the delay warning was expected")
    os.pwrite(descriptor, encode(record.WARN, new), envelope.warn_offset)
