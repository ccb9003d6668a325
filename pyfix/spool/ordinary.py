"""The envelope of an ordinary message, in one look: what most mail has, in the order in which it is written here.

An ordinary message has one recipient, who is still to be served, and asks for nothing but delivery. This is a shorter
way to what pyfix.spool.queue_file would find, record by record; whatever is not plainly ordinary is left to that.
"""

import re

from pyfix.spool import record
from pyfix.spool.envelope import Envelope, QueuedRecipient
from pyfix.spool.record import SHORT_DATA, other_attributes

# All but those that tell of the envelope itself: they tell where the message came from.
ORIGIN = other_attributes(
    [b"create_time", b"dsn_orig_rcpt", b"encoding", b"envelope_id", b"notify_flags", b"ret_flags", b"trace_flags"]
)
_DATA = b"(%b)" % SHORT_DATA
_PASS_OVER = b"(?:%b)?" % ORIGIN.pattern


def _attribute(name: bytes) -> bytes:
    """An attribute record of that name; its data, the name included, are a group."""
    return b"A(?=.%b=)%b" % (name, _DATA)


_RECIPIENT = b"(?:%b)?O%bR%b" % (_attribute(b"dsn_orig_rcpt"), _DATA, _DATA)
RECIPIENT = re.compile(b"(?s:%b)" % _RECIPIENT)
"""The records of a recipient with nothing special to it, for ``queued_recipient``."""
RECIPIENTS = re.compile(b"(?s:(?:%b)+)" % _RECIPIENT)
"""The records of such recipients, one or more."""

_HEAD = re.compile(
    b"(?s:"
    # 95 bytes, six numbers
    rb"C_(?=[0-9 ]{95}T) *([0-9]{1,15}) +([0-9]{1,15}) +([0-9]{1,15}) +([0-9]{1,15}) +([0-9]{1,15}) +([0-9]{1,15})"
    b"T%b%b%bS%b(?:%b)?%b)"
    % (_DATA, _attribute(b"create_time"), _PASS_OVER, _DATA, _attribute(b"encoding"), _PASS_OVER)
)
_TIME = re.compile(rb"(?s:.)([0-9]{1,18}) ([0-9]{1,18})")
_START_OF_CONTENT = b"M\0"
_TAIL = re.compile(b"X\0%bE\0" % _PASS_OVER)


def ordinary_envelope(data: bytes) -> Envelope | None:
    """The envelope of a whole queue file, without what tells where the message came from; None if it is another kind.

    ``data`` is the file from its start, as far as it was read.
    """
    head = _HEAD.match(data)
    recipient = RECIPIENT.match(data, head.end()) if head is not None else None
    if head is None or recipient is None or not data.startswith(_START_OF_CONTENT, recipient.end()):
        return None
    data_size, content_offset, count, qmgr_flags, size, utf8 = map(int, head.groups()[:6])
    time = _TIME.fullmatch(head[7])
    created = record.parse_number(_value(head[8]))
    if time is None or created is None or not content_offset or not _TAIL.match(data, content_offset + data_size):
        return None
    return Envelope(
        sender=_text(head[9]),
        arrival_usec=int(time[1]) * 1_000_000 + int(time[2]),
        create_time=created,
        recipients=(queued_recipient(0, recipient),),
        rest=0,
        recipient_count=count,
        size=size or data_size,
        content_offset=content_offset,
        data_size=data_size,
        qmgr_flags=qmgr_flags,
        smtputf8=utf8,
        encoding=_value(head[10]).decode("utf-8", "replace") if head[10] else "",
    )


def queued_recipient(start: int, found: re.Match[bytes]) -> QueuedRecipient:
    """The recipient that RECIPIENT matched in what stands at ``start`` in the file."""
    orcpt, original, address = found.groups()
    return QueuedRecipient(
        start + found.start(3) - 1,
        _text(address),
        "" if original == address else _text(original),
        _value(orcpt).decode("utf-8", "replace") if orcpt else "",
    )


def _text(data: bytes) -> str:
    """What a record says, without the byte that tells its length."""
    return data[1:].decode("utf-8", "replace")


def _value(data: bytes) -> bytes:
    """What an attribute record says, without the byte that tells its length, which may be any."""
    return data[1:].partition(b"=")[2].strip(b" \t")
