import os

import pytest

from pyfix.spool.content import read_content
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.maildrop import BadSubmission, MaildropWriter, NewSubmission, check, read_submission
from pyfix.spool.queue_file import QueueFileWriter
from pyfix.spool.record import CorruptFile, encode

QUEUE_ID = "4jXZ1m485RzD2qY"
SUBMISSION = NewSubmission(
    sender="a@example.net",
    recipients=("x@example.org", "y@example.org"),
    arrival_usec=1_795_364_156_025_085,
    uid=1000,
    full_name="Full Näme",
    envid="env+1",
    ret="FULL",
    notify=6,
    encoding="8bit",
    smtputf8=True,
)
CONTENT = b"To: z@example.org\n\nbody"


def _with(**changes):
    return NewSubmission(**{name: getattr(SUBMISSION, name) for name in SUBMISSION.__struct_fields__} | changes)


@pytest.fixture
def stored(spool):
    descriptors = []

    def store(submission, **finish):
        writer = MaildropWriter(spool.create(QUEUE_ID, "maildrop"))
        writer.begin(submission)
        writer.write_content(CONTENT)
        writer.finish(**finish)
        writer.commit()
        descriptors.append(spool.open("maildrop", QUEUE_ID, write=True))
        return descriptors[-1]

    yield store
    for descriptor in descriptors:
        os.close(descriptor)


def test_everything_comes_back(stored):
    descriptor = stored(SUBMISSION)
    found = read_submission(descriptor)
    for name in ("sender", "arrival_usec", "uid", "full_name", "envid", "ret", "encoding", "smtputf8"):
        assert getattr(found, name) == getattr(SUBMISSION, name)
    assert [(r.address, r.notify) for r in found.recipients] == [("x@example.org", 6), ("y@example.org", 6)]
    assert found.attributes == {"rewrite_context": "local"}
    assert not found.requeued
    assert not found.extract_recipients
    assert b"".join(read_content(descriptor, found.content_offset)) == CONTENT + b"\n"


def test_the_null_sender_and_recipients_to_be_extracted(stored):
    found = read_submission(stored(_with(sender="", recipients=(), extract_recipients=True)))
    assert found.sender == ""
    assert found.extract_recipients
    assert found.recipients == ()


def test_a_report_and_a_return_path_of_its_own(stored):
    found = read_submission(stored(_with(trace_flags=1024, verp_delimiters="+=")))
    assert found.attributes == {"rewrite_context": "local", "trace_flags": "1024"}
    assert found.verp_delimiters == "+="


def test_recipients_behind_the_content(stored):
    found = read_submission(stored(SUBMISSION, recipients=["z@example.org"]))
    assert [r.address for r in found.recipients] == ["x@example.org", "y@example.org", "z@example.org"]


def test_a_requeued_message_has_what_it_had_but_what_cleanup_finds_out_again(spool):
    writer = QueueFileWriter(spool.create(QUEUE_ID, "maildrop"))
    recipients = (NewRecipient("x@example.org", "o@example.org", "rfc822;o@example.org", 2),)
    writer.begin(NewMessage("a@example.net", 1, 1, recipients, attributes={"log_ident": "x"}))
    writer.write_content(CONTENT)
    writer.finish(attributes={"message_id": "<1@x>"})
    writer.commit()
    descriptor = spool.open("maildrop", QUEUE_ID)
    found = read_submission(descriptor)
    os.close(descriptor)
    assert found.requeued
    assert found.attributes == {"log_ident": "x"}
    assert [(r.address, r.orcpt, r.notify) for r in found.recipients] == [("x@example.org", "rfc822;o@example.org", 2)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sender": "a\nb"}, "control character in address"),
        ({"sender": "a" * 3000}, "address of more than"),
        ({"recipients": ("a\0b",)}, "control character in address"),
        ({"recipients": ("",)}, "empty recipient"),
        ({"recipients": ()}, "no recipients"),
        ({"full_name": "x\r"}, "control character in full name"),
        ({"envid": "x\n"}, "control character in envelope ID"),
        ({"ret": "SOME"}, "RET"),
        ({"notify": 3}, "notification"),
        ({"notify": 16}, "notification"),
        ({"notify": -1}, "notification"),
        ({"encoding": "binary"}, "encoding"),
    ],
)
def test_what_must_not_be_stored_is_refused(spool, changes, message):
    with pytest.raises(BadSubmission, match=message):
        check(_with(**changes))
    with spool.create(QUEUE_ID, "maildrop") as file, pytest.raises(BadSubmission, match=message):
        MaildropWriter(file).begin(_with(**changes))


def _rewrite(descriptor, change):
    data = os.pread(descriptor, 100_000, 0)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, change(data), 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-2], "ends without the record E"),
        (lambda data: data[:60], "EOF|ends without"),
        (lambda data: data.replace(b"S\x0da@example.net", b"F\x0da@example.net"), "no sender"),
        (lambda data: data.replace(b"S\x0da@", b"S\x0d\n@"), "control character"),
        (lambda data: data.replace(b"R\x0dx@", b"R\x0d\0@"), "control character"),
        (lambda data: data.replace(b"F\x0aFull", b">\x0aFull"), "unexpected record type b'>'"),
        (lambda data: data.replace(b"X\0E\0", b"E\0"), "unexpected record in message content"),
        (lambda data: data.replace(b"M\0", b"O\3a@bR\3a@bM\0"), "unexpected record type b'O'"),
    ],
)  # fmt: skip
def test_what_postdrop_would_not_write_is_not_read(stored, change, reason):
    descriptor = stored(SUBMISSION)
    _rewrite(descriptor, change)
    with pytest.raises(CorruptFile, match=reason):
        read_submission(descriptor)


def test_too_many_recipients_are_not_read(stored):
    descriptor = stored(SUBMISSION)
    with pytest.raises(CorruptFile, match="too many recipients"):
        read_submission(descriptor, 1)


def test_nothing_of_pointers_is_followed_out_of_a_submission(stored):
    """A circle of pointer records, which no postdrop writes, ends."""
    descriptor = stored(SUBMISSION)
    _rewrite(descriptor, lambda data: data.replace(b"S\x0da@example.net", encode(b"p", b"%13d" % 18)))
    with pytest.raises(CorruptFile):
        read_submission(descriptor)
