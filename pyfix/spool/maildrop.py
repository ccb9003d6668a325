"""Maildrop files: what local users submit, stored by postdrop, read and removed by pickup.

The format is a queue file's without the size record, made of fewer kinds of records (Postfix's postdrop allows the
same). A queue file that ``postsuper -r`` moved here has its size record, and is read too.

Two facts that Postfix keeps elsewhere are attributes here: ``submit_uid``, because the file belongs to the mail system
and not to the submitting user, and ``extract_recipients``, because recipients are taken from headers by cleanup.
"""

import os
from collections.abc import Iterable, Mapping

from msgspec import Struct

from pyfix.spool import queue_file, record
from pyfix.spool.envelope import QueuedRecipient
from pyfix.spool.message_writer import MessageWriter
from pyfix.spool.queue_file import EnvelopeReader, encode_attributes
from pyfix.spool.record import CorruptFile, RecordReader, encode

_ENVELOPE_TYPES = frozenset((b"T", b"F", b"S", b"R", b"V", b"A", b"i", b"n"))
_ADDRESS_LIMIT = record.LINE_LIMIT


class BadSubmission(ValueError):
    """A submission that must not be stored; the message may be shown to the submitting user."""


class NewSubmission(Struct, frozen=True):
    """The envelope of a submission to be stored."""

    sender: str
    recipients: tuple[str, ...]
    # microseconds since the epoch
    arrival_usec: int
    # who submits
    uid: int
    full_name: str = ""
    # RFC 3461: ENVID, decoded; "", "FULL" or "HDRS"; for all recipients, a sum of 1 never 2 success 4 failure 8 delay
    envid: str = ""
    ret: str = ""
    notify: int = 0
    # "8bit", "7bit" or empty
    encoding: str = ""
    smtputf8: bool = False
    # take recipients from the headers
    extract_recipients: bool = False
    # a report of the delivery: 0, TRACE_RECORD or TRACE_VERIFY
    trace_flags: int = 0
    # two characters, or empty
    verp_delimiters: str = ""


class Submission(Struct, frozen=True):
    """The envelope of a maildrop file."""

    sender: str
    recipients: tuple[QueuedRecipient, ...]
    arrival_usec: int
    # who submitted; the file's owner where the file does not say
    uid: int
    content_offset: int
    full_name: str = ""
    envid: str = ""
    ret: str = ""
    encoding: str = ""
    smtputf8: bool = False
    extract_recipients: bool = False
    verp_delimiters: str = ""
    # an accepted message that postsuper -r wants to be stored anew; not a submission by a user
    requeued: bool = False
    attributes: Mapping[str, str] = {}


def check(submission: NewSubmission) -> None:
    """Raise BadSubmission for what no record may hold or what nobody can deliver to."""
    for address in (submission.sender, *submission.recipients):
        _check_text("address", address)
    if "" in submission.recipients:
        raise BadSubmission("empty recipient address")
    if not submission.recipients and not submission.extract_recipients:
        raise BadSubmission("no recipients specified")
    _check_text("full name", submission.full_name)
    _check_text("envelope ID", submission.envid)
    if submission.ret not in ("", "FULL", "HDRS"):
        raise BadSubmission("RET must be FULL or HDRS")
    if not (0 <= submission.notify < 16) or (submission.notify & 1 and submission.notify != 1):
        raise BadSubmission("invalid notification request")
    if submission.encoding not in ("", "7bit", "8bit"):
        raise BadSubmission("the encoding must be 7bit or 8bit")


def _check_text(what: str, text: str) -> None:
    if len(text) > _ADDRESS_LIMIT:
        raise BadSubmission(f"{what} of more than {_ADDRESS_LIMIT} characters")
    if any(character < " " or character == "\x7f" for character in text):
        raise BadSubmission(f"control character in {what}")


class MaildropWriter(MessageWriter):
    """Writes a maildrop file: ``begin``, ``write_content``..., ``finish``, ``commit``; or ``abort``."""

    __slots__ = ()

    def begin(self, submission: NewSubmission) -> None:
        """Write the envelope. Raises BadSubmission, and then the file is still to be aborted."""
        check(submission)
        attributes = {"rewrite_context": "local", "submit_uid": str(submission.uid)}
        if submission.encoding:
            attributes["encoding"] = submission.encoding
        if submission.smtputf8:
            attributes["smtputf8"] = "1"
        if submission.extract_recipients:
            attributes["extract_recipients"] = "1"
        if submission.trace_flags:
            attributes["trace_flags"] = str(submission.trace_flags)
        parts = [
            queue_file.encode_time(submission.arrival_usec),
            queue_file.encode_dsn(submission.envid, submission.ret),
            encode_attributes(attributes),
        ]
        if submission.full_name:
            parts.append(encode(record.FULL, submission.full_name.encode()))
        parts.append(encode(record.FROM, submission.sender.encode()))
        if submission.verp_delimiters:
            parts.append(encode(record.VERP, submission.verp_delimiters.encode()))
        notify = encode_attributes({"notify_flags": submission.notify}) if submission.notify else b""
        parts += [notify + encode(record.RECIPIENT, address.encode()) for address in submission.recipients]
        parts.append(encode(record.MESSAGE, b""))
        self._put(b"".join(parts))

    def finish(self, recipients: Iterable[str] = ()) -> None:
        """End the file; ``recipients`` are those found in the headers, if someone has looked."""
        self._put(self._encoder.finish())
        parts = [encode(record.EXTRACTED, b"")]
        for address in recipients:
            _check_text("address", address)
            parts.append(encode(record.RECIPIENT, address.encode()))
        parts.append(encode(record.END, b""))
        self._put(b"".join(parts))


def read_submission(descriptor: int, recipient_limit: int = 100_000) -> Submission:
    """The envelope of a whole maildrop file. Raises CorruptFile, also for more recipients than allowed, and OSError.

    Passes over the content, as recipients may stand behind it; ``read_content`` (pyfix.spool.content) reads it.
    """
    reader = RecordReader(descriptor)
    requeued = os.pread(descriptor, 1, 0) == record.SIZE
    state = EnvelopeReader(reader, recipient_limit, queue_file.ENVELOPE_TYPES if requeued else _ENVELOPE_TYPES)
    state.read_segment(record.MESSAGE)
    content_offset = reader.offset
    while reader.read_text():
        pass
    extracted = reader.read()
    if extracted is None or extracted.type != record.EXTRACTED:
        raise CorruptFile(reader.offset, "unexpected record in message content")
    state.read_segment(record.END)
    if state.rest:
        raise CorruptFile(state.rest, "too many recipients")
    if record.FROM not in state.texts:
        raise CorruptFile(0, "no sender record")
    submission = _submission(state, content_offset, descriptor, requeued=requeued)
    _check_submission(submission)
    return submission


def _submission(state: EnvelopeReader, content_offset: int, descriptor: int, *, requeued: bool) -> Submission:
    attributes = state.attributes
    status = os.fstat(descriptor)
    uid = state.number_attribute("submit_uid") if "submit_uid" in attributes else status.st_uid
    smtputf8 = bool(state.number_attribute("smtputf8")) or (requeued and bool(state.fields[5] & 1))
    state.number_attribute("create_time")
    # cleanup finds it in the header, and says so again
    attributes.pop("message_id", None)
    envid, ret = state.take_dsn()
    return Submission(
        sender=state.texts[record.FROM],
        recipients=tuple(state.recipients),
        arrival_usec=state.arrival_usec if state.arrival_usec >= 0 else status.st_mtime_ns // 1000,
        uid=uid,
        content_offset=content_offset,
        full_name=state.texts.get(record.FULL, ""),
        envid=envid,
        ret=ret,
        encoding=attributes.pop("encoding", ""),
        smtputf8=smtputf8,
        extract_recipients=bool(state.number_attribute("extract_recipients")),
        verp_delimiters=state.texts.get(record.VERP, ""),
        requeued=requeued,
        attributes=attributes,
    )


def _check_submission(submission: Submission) -> None:
    """Nothing from a maildrop file may break a line in a log or a header, whoever wrote it."""
    addresses = [recipient.address for recipient in submission.recipients]
    texts = [submission.sender, submission.full_name, submission.envid, submission.verp_delimiters]
    texts += [*addresses, *submission.attributes.values()]
    try:
        for text in texts:
            _check_text("record", text)
    except BadSubmission as error:
        raise CorruptFile(0, str(error)) from error
