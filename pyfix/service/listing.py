"""The queue as people want to see it, read from the files: by showq, and by commands when the mail system is down.

Files may vanish or move on while they are looked at; then they are passed over, or shown where they were seen first.
Memory is bounded: a message with many recipients comes in parts.
"""

import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

from pyfix.service.showq import Message, Page, Recipient
from pyfix.spool import log, queue_file, record
from pyfix.spool.directories import EXPIRED, Found, Spool
from pyfix.spool.envelope import QueuedRecipient
from pyfix.spool.queue_file import EnvelopeReader, read_envelope, read_recipients
from pyfix.spool.record import CorruptFile, RecordReader

LISTED_QUEUES = ("maildrop", "active", "incoming", "deferred", "hold")
"""Postfix's order."""

_PAGE_MESSAGES = 100
# In a page or a part, so that it fits into one message of the protocol whatever the characters are.
_CHARACTERS = 120_000
_PART_RECIPIENTS = 500
_REASON_LIMIT = 2_000
# Beyond these, reasons are not shown, and messages that move may be shown twice.
_REASONS_LIMIT = 20_000
_SEEN_LIMIT = 50_000


class _Reason(NamedTuple):
    """Why a recipient was not served; ``place`` is that of the entry in its log."""

    place: int
    text: str
    kind: Literal["delay", "bounce", "other"]


_NO_REASON = _Reason(_REASONS_LIMIT, "", "delay")
_Reasons = dict[int | str, _Reason]
"""By the recipient's offset, or by the address where a log gives none."""


def pages(spool: Spool) -> Iterator[Page]:
    """The queue in pages of at most 100 messages. What comes under the ID just seen adds recipients to that message."""
    messages: list[Message] = []
    characters = 0
    for message in messages_of(spool):
        messages.append(message)
        characters += len(message.sender) + sum(map(_characters, message.recipients))
        if len(messages) >= _PAGE_MESSAGES or characters >= _CHARACTERS:
            yield Page(tuple(messages))
            messages, characters = [], 0
    if messages:
        yield Page(tuple(messages))


def messages_of(spool: Spool) -> Iterator[Message]:
    """All messages that this process may read, those with many recipients in parts."""
    seen: set[str] = set()
    for queue in LISTED_QUEUES:
        try:
            for found in spool.scan(queue):
                if found.ready and found.queue_id not in seen:
                    if len(seen) < _SEEN_LIMIT:
                        seen.add(found.queue_id)
                    yield from _parts_of_file(spool, queue, found)
        except PermissionError:
            continue


def _parts_of_file(spool: Spool, queue: str, found: Found) -> Iterator[Message]:
    try:
        descriptor = spool.open(queue, found.queue_id)
    except OSError:
        return
    try:
        read = _read_submission if queue == "maildrop" else _read_message
        yield from read(spool, queue, found.queue_id, descriptor)
    except (CorruptFile, OSError):
        # The queue manager or pickup will see it, and say so.
        return
    finally:
        os.close(descriptor)


def _read_submission(_spool: Spool, queue: str, queue_id: str, descriptor: int) -> Iterator[Message]:
    """A maildrop file has no size record, and its recipients stand in front of its content."""
    status = os.fstat(descriptor)
    state = EnvelopeReader(RecordReader(descriptor), _PART_RECIPIENTS, queue_file.ENVELOPE_TYPES)
    state.read_segment(record.MESSAGE)
    arrival = state.arrival_usec // 1_000_000 if state.arrival_usec >= 0 else int(status.st_mtime)
    recipients = tuple(Recipient(r.address, r.original) for r in state.recipients)
    yield Message(queue, queue_id, arrival, status.st_size, False, state.texts.get(record.FROM, ""), recipients)


def _read_message(spool: Spool, queue: str, queue_id: str, descriptor: int) -> Iterator[Message]:
    envelope = read_envelope(descriptor, _PART_RECIPIENTS, origin=False)
    arrival, size, sender = envelope.arrival_usec // 1_000_000, envelope.size, envelope.sender
    forced_expire = bool(os.fstat(descriptor).st_mode & EXPIRED)
    reasons = _read_reasons(spool, queue_id)
    recipients, rest = envelope.recipients, envelope.rest
    while True:
        for part in _parts(recipients, reasons):
            yield Message(queue, queue_id, arrival, size, forced_expire, sender, tuple(part))
        if not rest:
            return
        recipients, rest = read_recipients(descriptor, envelope, rest, _PART_RECIPIENTS)


def _read_reasons(spool: Spool, queue_id: str) -> _Reasons:
    found: _Reasons = {}
    logs: tuple[tuple[log.LogName, Literal["delay", "bounce"]], ...] = (("defer", "delay"), ("bounce", "bounce"))
    for name, kind in logs:
        for entry in log.read(spool, name, queue_id):
            if len(found) >= _REASONS_LIMIT:
                return found
            found[entry.offset or entry.recipient] = _Reason(len(found), entry.reason[:_REASON_LIMIT], kind)
    return found


def _parts(recipients: tuple[QueuedRecipient, ...], reasons: _Reasons) -> Iterator[list[Recipient]]:
    """The recipients, those with a reason first and in the order of the log, as in Postfix; at least one part."""
    known = [(reasons.get(r.offset) or reasons.get(r.address) or _NO_REASON, r) for r in recipients]
    if reasons:
        known.sort(key=lambda pair: pair[0].place)
    part: list[Recipient] = []
    characters = 0
    for reason, r in known:
        recipient = Recipient(r.address, r.original, reason.text, reason.kind)
        part.append(recipient)
        characters += _characters(recipient)
        if characters > _CHARACTERS:
            yield part
            part, characters = [], 0
    if part or not known:
        yield part


def _characters(recipient: Recipient) -> int:
    return len(recipient.address) + len(recipient.original) + len(recipient.reason)
