import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pyfix.spool import record
from pyfix.spool.content import read_content
from pyfix.spool.envelope import WARNED, NewMessage, NewRecipient
from pyfix.spool.queue_file import (
    QueueFileWriter,
    from_xtext,
    mark_done,
    mark_warned,
    read_envelope,
    read_recipients,
    to_xtext,
)
from pyfix.spool.record import CorruptFile, encode

QUEUE_ID = "4jXZ1m485RzD2qY"
RECIPIENTS = (
    NewRecipient("x@example.org", orcpt="rfc822;x@example.org", notify=12),
    NewRecipient("y@example.org", original="Y@example.org"),
)
MESSAGE = NewMessage(
    sender="a@example.net",
    arrival_usec=1_795_364_156_025_085,
    create_time=1_795_364_157,
    recipients=RECIPIENTS,
    full_name="Full Name",
    encoding="8bit",
    smtputf8=3,
    envid="env+1 é",
    ret="HDRS",
    attributes={"rewrite_context": "local", "log_client_address": "192.0.2.1"},
    warn_time=1_795_400_000,
)
CONTENT = b"Subject: 8bit \xc3\xa9\n\n" + b"x" * 5000 + b"\n\xff\xfe\n"


def _store(spool, message=MESSAGE, content=CONTENT, queue_id=QUEUE_ID, **finish):
    writer = QueueFileWriter(spool.create(queue_id))
    writer.begin(message)
    writer.write_content(content)
    writer.finish(**finish)
    writer.commit()
    return spool.open("incoming", queue_id, write=True)


@pytest.fixture
def stored(spool):
    descriptors = []

    def store(*args, **options):
        descriptors.append(_store(spool, *args, **options))
        return descriptors[-1]

    yield store
    for descriptor in descriptors:
        os.close(descriptor)


def test_everything_comes_back(stored):
    envelope = read_envelope(stored())
    assert envelope.sender == MESSAGE.sender
    assert envelope.arrival_usec == MESSAGE.arrival_usec
    assert envelope.create_time == MESSAGE.create_time
    assert envelope.full_name == MESSAGE.full_name
    assert envelope.encoding == "8bit"
    assert envelope.smtputf8 == 3
    assert envelope.envid == "env+1 é"
    assert envelope.ret == "HDRS"
    assert envelope.attributes == MESSAGE.attributes
    assert envelope.warn_time == MESSAGE.warn_time
    assert envelope.recipient_count == 2
    assert envelope.rest == 0
    assert envelope.qmgr_flags == 12 << 1
    first, second = envelope.recipients
    assert (first.address, first.original, first.orcpt, first.notify) == ("x@example.org", "", RECIPIENTS[0].orcpt, 12)
    assert (second.address, second.original, second.orcpt, second.notify) == ("y@example.org", "Y@example.org", "", 0)


def test_content_comes_back(stored):
    descriptor = stored()
    envelope = read_envelope(descriptor)
    assert b"".join(read_content(descriptor, envelope.content_offset)) == CONTENT
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0


def test_offsets_name_the_recipients(stored):
    descriptor = stored()
    for recipient in read_envelope(descriptor).recipients:
        assert os.pread(descriptor, 2 + len(recipient.address), recipient.offset) == encode(
            b"R", recipient.address.encode()
        )


def test_the_layout_is_postfix_3_10s(stored):
    """The bytes that Postfix itself stored for the same envelope (tests/spool/fixtures/deferred)."""
    message = NewMessage(
        sender="a@example.org",
        arrival_usec=1_795_364_155_972_534,
        create_time=1_795_364_156,
        full_name="root",
        attributes={"rewrite_context": "local"},
        recipients=(NewRecipient("b@example.org", orcpt="rfc822;b@example.org"),),
    )
    descriptor = stored(message, b"Subject: plain\n\nlast without nl", attributes={"message_id": "<1@vm>"})
    content = b"N\x0eSubject: plainN\0N\x0flast without nl"
    assert os.pread(descriptor, 10_000, 0) == (
        b"C\x5f             35             252               1               0              35               0"
        b"T\x111795364155 972534A\x16create_time=1795364156A\x15rewrite_context=localF\x04rootS\ra@example.org"
        b'A"dsn_orig_rcpt=rfc822;b@example.orgO\rb@example.orgR\rb@example.orgM\0' + content + b"X\0"
        b"A\x11message_id=<1@vm>E\0"
    )


def test_recipients_from_headers_stand_behind_the_content(stored):
    message = NewMessage(sender="", arrival_usec=1, create_time=1)
    descriptor = stored(message, recipients=(NewRecipient("t@example.org"), NewRecipient("u@example.org")))
    envelope = read_envelope(descriptor)
    assert envelope.sender == ""
    assert [recipient.address for recipient in envelope.recipients] == ["t@example.org", "u@example.org"]
    assert envelope.recipients[0].offset > envelope.content_offset + envelope.data_size
    assert envelope.recipient_count == 2


def test_done_recipients_are_not_read_again(stored):
    descriptor = stored()
    first, second = read_envelope(descriptor).recipients
    mark_done(descriptor, first.offset)
    assert read_envelope(descriptor).recipients == (second,)
    mark_done(descriptor, first.offset)
    mark_done(descriptor, second.offset)
    envelope = read_envelope(descriptor)
    assert envelope.recipients == ()
    assert envelope.recipient_count == 2


def test_recipients_near_and_far_are_marked_at_once(stored):
    recipients = tuple(NewRecipient(f"{n}@{'x' * 100}.example", original=f"o{n}@example.org") for n in range(200))
    descriptor = stored(replace(MESSAGE, recipients=recipients))
    every = read_envelope(descriptor).recipients
    before = os.pread(descriptor, 1 << 20, 0)
    done = [every[n] for n in (199, 3, 4, 5, 100, 150, 151)]
    mark_done(descriptor, *[recipient.offset for recipient in done])
    assert read_envelope(descriptor).recipients == tuple(r for r in every if r not in done)
    after = os.pread(descriptor, 1 << 20, 0)
    assert [n for n in range(len(before)) if before[n] != after[n]] == sorted(r.offset for r in done)


def test_nothing_is_marked_beside_what_is_no_recipient(stored):
    descriptor = stored()
    first, _ = read_envelope(descriptor).recipients
    before = os.pread(descriptor, 100_000, 0)
    with pytest.raises(CorruptFile, match="recipient record"):
        mark_done(descriptor, first.offset, first.offset + 1)
    assert os.pread(descriptor, 100_000, 0) == before


@pytest.mark.parametrize("offset", [0, 97, 10**9])
def test_only_recipients_are_marked(stored, offset):
    descriptor = stored()
    before = os.pread(descriptor, 100_000, 0)
    with pytest.raises(CorruptFile, match="recipient record"):
        mark_done(descriptor, offset)
    assert os.pread(descriptor, 100_000, 0) == before


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_many_recipients_are_read_in_pieces(stored, limit):
    """In the envelope and behind the content, some of them done."""
    names = [f"r{index}@example.org" for index in range(30)]
    recipients = tuple(NewRecipient(name, orcpt=f"rfc822;{name}", original=f"x{name}") for name in names)
    message = NewMessage(sender="s@x.example", arrival_usec=1, create_time=1, recipients=recipients[:20])
    descriptor = stored(message, recipients=recipients[20:])
    every = read_envelope(descriptor, 100).recipients
    mark_done(descriptor, every[3].offset)
    mark_done(descriptor, every[25].offset)
    wanted = [recipient for index, recipient in enumerate(every) if index not in (3, 25)]

    envelope = read_envelope(descriptor, limit)
    pieces, rest = list(envelope.recipients), envelope.rest
    while rest:
        more, rest = read_recipients(descriptor, envelope, rest, limit)
        assert 1 <= len(more) <= limit
        pieces += more
    assert pieces == wanted


def test_a_large_message_is_stored_and_read_in_bounded_memory(stored, spool):
    chunk = b"some line of text that is of usual length, more or less\n" * 1150
    tracemalloc.start()
    writer = QueueFileWriter(spool.create("4jXZ1m485RzBBBB"))
    writer.begin(MESSAGE)
    for _ in range(100):
        writer.write_content(chunk)
    writer.finish()
    writer.commit()
    descriptor = spool.open("incoming", "4jXZ1m485RzBBBB")
    envelope = read_envelope(descriptor)
    size = sum(map(len, read_content(descriptor, envelope.content_offset)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    os.close(descriptor)
    assert size == 100 * len(chunk)
    assert peak < 1 << 20


@pytest.mark.parametrize("where", ["sender", "full_name", "envid", "attributes", "recipients"])
@pytest.mark.parametrize("evil", ["\n", "\r", "\0"], ids=["LF", "CR", "NUL"])
def test_line_ends_and_nul_get_into_no_record(spool, where, evil):
    values = {"attributes": {"a": f"x{evil}y"}, "recipients": (NewRecipient(f"x{evil}y"),)}
    message = NewMessage(**{"sender": "a", "arrival_usec": 1, "create_time": 1, where: values.get(where, f"x{evil}y")})
    with spool.create("4jXZ1m485RzBBBB") as file:
        writer = QueueFileWriter(file)
        if where == "envid":
            # xtext has a form for each of them
            writer.begin(message)
        else:
            with pytest.raises(ValueError, match="NUL, CR or LF"):
                writer.begin(message)


@pytest.mark.parametrize("text", ["", "plain", "a+b=c", "é ü", "+2B", "\t"])
def test_xtext_comes_back(text):
    assert from_xtext(to_xtext(text)) == text
    assert to_xtext(text).isascii()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-2], "ends without the record E"),
        (lambda data: data[:-1], "unexpected EOF"),
        (lambda data: data[:300], "unexpected EOF"),
        (lambda _: b"", "ends without"),
        (lambda _: b"xx", "EOF"),
        (lambda data: data[97:], "no size record"),
        (lambda data: data.replace(b"S\x0da@example.net", b"F\x0da@example.net"), "no sender"),
        (lambda data: data.replace(b"T\x10", b"F\x10"), "no arrival time"),
        (lambda data: data.replace(b"T\x10179", b"T\x10xxx"), "malformed number"),
        (lambda data: data.replace(b"A\x16create_time=", b"Z\x16create_time="), "unexpected record type"),
        (lambda data: data.replace(b"A\x16create_time=", b"A\x16create_time "), "malformed attribute"),
        (lambda data: data.replace(b"F\x09Full Name", b"S\x09Full Name"), "multiple sender"),
        (lambda data: b"C\x5f" + b"x" * 95 + data[97:], "malformed size"),
        (lambda data: b"C\x5f" + b"%-95d" % 1 + data[97:], "malformed size"),
        (lambda data: data[:2] + b"%15d %15d" % (7, 7) + data[33:], "does not end where"),
        (lambda data: data[:2] + b"%15d %15d" % (7, 0) + data[33:], "content offset 0"),
        (lambda data: data[:2] + b"%15d %15d" % (10**14, 10**14) + data[33:], "does not end where"),
    ],
)
def test_what_is_malformed_is_told(stored, change, reason):
    descriptor = stored()
    data = os.pread(descriptor, 100_000, 0)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, change(data), 0)
    with pytest.raises(CorruptFile, match=reason):
        read_envelope(descriptor)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=5), st.integers(0, 6000))
def test_a_damaged_file_gives_an_envelope_or_corrupt_file(damaged, damage, size):
    data = bytearray(damaged)
    for offset, byte in damage:
        data[offset % len(data)] = byte
    descriptor = os.memfd_create("queue file")
    try:
        os.write(descriptor, data[:size])
        try:
            envelope = read_envelope(descriptor, 10)
            for _ in read_content(descriptor, envelope.content_offset):
                pass
        except CorruptFile:
            pass
    finally:
        os.close(descriptor)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    from pyfix.spool.directories import Spool  # noqa: PLC0415 -- wanted here only

    spool = Spool(str(tmp_path_factory.mktemp("spool")))
    descriptor = _store(spool)
    data = os.pread(descriptor, 100_000, 0)
    os.close(descriptor)
    spool.close()
    return data


def test_content_that_does_not_end_is_told(stored):
    descriptor = stored()
    envelope = read_envelope(descriptor)
    os.ftruncate(descriptor, envelope.content_offset + envelope.data_size)
    with pytest.raises(CorruptFile):
        list(read_content(descriptor, envelope.content_offset))


def test_content_ends_at_the_first_record_that_is_not_text(stored):
    descriptor = stored()
    envelope = read_envelope(descriptor)
    os.pwrite(descriptor, record.END, envelope.content_offset + envelope.data_size)
    with pytest.raises(CorruptFile, match="unexpected record type b'E'"):
        list(read_content(descriptor, envelope.content_offset))


def test_content_edited_by_a_milter_is_read(stored):
    """Postfix replaces a header by a pointer to its new text behind the file's end, and one back."""
    descriptor = stored()
    envelope = read_envelope(descriptor)
    end = os.fstat(descriptor).st_size
    first = len(encode(b"N", CONTENT.split(b"\n")[0]))
    os.pwrite(descriptor, encode(b"p", b"%16d" % end)[:first], envelope.content_offset)
    back = envelope.content_offset + first
    os.pwrite(descriptor, encode(b"N", b"Subject: new") + encode(b"p", b"%15d" % back), end)
    size = len(encode(b"p", b"%16d" % end))
    assert size == first
    assert (
        b"".join(read_content(descriptor, envelope.content_offset)) == b"Subject: new\n" + CONTENT.partition(b"\n")[2]
    )


def test_non_utf8_addresses_of_other_systems_do_not_stop_the_queue(stored):
    descriptor = stored()
    data = os.pread(descriptor, 100_000, 0).replace(b"R\x0dx@", b"R\x0d\xff@")
    os.pwrite(descriptor, data, 0)
    assert read_envelope(descriptor).recipients[0].address == "\ufffd@example.org"


def test_an_aborted_file_is_gone(spool):
    writer = QueueFileWriter(spool.create(QUEUE_ID))
    writer.begin(MESSAGE)
    writer.write_content(CONTENT)
    writer.abort()
    assert list(spool.scan("incoming")) == []


def test_a_warning_is_marked_in_place(stored):
    descriptor = stored()
    size, before = os.fstat(descriptor).st_size, read_envelope(descriptor)
    mark_warned(descriptor, before)
    after = read_envelope(descriptor)
    assert (before.warn_time, after.warn_time) == (MESSAGE.warn_time, WARNED)
    assert (after.recipients, after.attributes, os.fstat(descriptor).st_size) == (
        before.recipients,
        before.attributes,
        size,
    )
    with pytest.raises(CorruptFile):
        mark_warned(descriptor, before)
    assert read_envelope(descriptor) == after


@pytest.mark.parametrize("origin", [True, False])
def test_what_the_sender_wants_to_know_comes_back(stored, origin):
    message = replace(MESSAGE, verp_delimiters="+=", attributes={"trace_flags": "1024"})
    envelope = read_envelope(stored(message), origin=origin)
    assert (envelope.verp_delimiters, envelope.trace_flags) == ("+=", 1024)
    assert "trace_flags" not in envelope.attributes
