"""The short way to an envelope and the long one find the same."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pyfix.spool import queue_file
from pyfix.spool.directories import Spool
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.ordinary import ordinary_envelope
from pyfix.spool.queue_file import ENVELOPE_TYPES, EnvelopeReader, QueueFileWriter, mark_done, read_envelope
from pyfix.spool.record import MESSAGE as MESSAGE_START
from pyfix.spool.record import CorruptFile, RecordReader

QUEUE_ID = "4jXZ1m485RzD2qY"
BOB = NewRecipient("bob@example.com", orcpt="rfc822;bob@example.com")
MESSAGE = NewMessage(
    sender="ada@example.org",
    arrival_usec=1_795_364_156_025_085,
    create_time=1_795_364_157,
    recipients=(BOB,),
    encoding="8bit",
    attributes={"log_ident": "smtpd", "rewrite_context": "remote", "log_client_address": "192.0.2.1"},
)
EXTRAS = {
    "original": {"recipients": (replace(BOB, original="Bob@example.com"),)},
    "no_orcpt": {"recipients": (NewRecipient("bob@example.com"),)},
    "null_sender": {"sender": ""},
    "no_encoding": {"encoding": ""},
    "utf8": {"sender": "ä@example.org", "smtputf8": 1},
    "no_attributes": {"attributes": {}},
}
OTHERS = {
    "two": {"recipients": (BOB, replace(BOB, address="eve@example.com"))},
    "nobody": {"recipients": ()},
    "notify": {"recipients": (replace(BOB, notify=2),)},
    "long_address": {"recipients": (NewRecipient(f"{'x' * 130}@example.com"),)},
    "warning": {"warn_time": 1_795_400_000},
    "envid": {"envid": "x"},
    "ret": {"ret": "HDRS"},
    "full_name": {"full_name": "Ada"},
    "verp": {"verp_delimiters": "+="},
    "verify": {"attributes": {"trace_flags": "512"}},
}


def stored(directory, message, content=b"Subject: x\n\nHi\n", **finish):
    """A queue file's bytes."""
    spool = Spool(str(directory))
    spool.make_directories(("incoming",))
    writer = QueueFileWriter(spool.create(QUEUE_ID))
    writer.begin(message)
    writer.write_content(content)
    writer.finish(**finish)
    writer.commit()
    spool.close()
    path = directory / "incoming" / QUEUE_ID
    data = path.read_bytes()
    path.unlink()
    return data


def read(data):
    """What the long way finds."""
    with open(os.memfd_create("queue file"), "r+b", buffering=0) as file:
        file.write(data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(queue_file, "ordinary_envelope", lambda _data: None)
            try:
                return read_envelope(file.fileno(), 10, origin=False)
            except CorruptFile:
                return None


@pytest.mark.parametrize("extra", [{}, *EXTRAS.values()], ids=["plain", *EXTRAS])
def test_what_is_ordinary_is_found(tmp_path, extra):
    data = stored(tmp_path, replace(MESSAGE, **extra), attributes={"message_id": "<1@example.org>"})
    assert ordinary_envelope(data) == read(data) is not None


def test_a_text_of_any_length_is_read_as_it_is(tmp_path):
    for length in range(1, 128):  # the byte that tells it may be any sign
        text = "x" * length
        bob = NewRecipient(text, original=f"{text[1:]}y", orcpt=f"rfc822;{text}")
        data = stored(tmp_path, replace(MESSAGE, sender=text, recipients=(bob,), attributes={"log_ident": text}))
        found = ordinary_envelope(data)
        assert found == read(data) or (found is None and length > 100)


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
def test_other_messages_go_the_long_way(tmp_path, other):
    data = stored(tmp_path, replace(MESSAGE, **other))
    assert ordinary_envelope(data) is None
    assert read(data) is not None


def test_other_files_go_the_long_way(tmp_path):
    data = stored(tmp_path, MESSAGE)
    assert ordinary_envelope(data[:-2]) is None
    assert ordinary_envelope(stored(tmp_path, MESSAGE, recipients=(BOB,))) is None
    with open(os.memfd_create("queue file"), "r+b", buffering=0) as file:
        file.write(data)
        mark_done(file.fileno(), read(data).recipients[0].offset)
        file.seek(0)
        assert ordinary_envelope(file.read()) is None


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    directory = tmp_path_factory.mktemp("spool")
    return [stored(directory, replace(MESSAGE, **extra)) for extra in ({}, *EXTRAS.values())]


_PLACES = st.integers(0, 700)
_PIECES = st.binary(max_size=3) | st.sampled_from(
    [
        b"A\x0dcreate_time=7",
        b"A\x0dencoding=7bit",
        b"A\x03a=b",
        b"S\x01x",
        b"T\x031 1",
        b"w\x00",
        b"R\x03a@b",
        b" ",
        b"9",
    ]
)


def spoiled(data, changes):
    """The bytes with some pieces put in or put over."""
    for place, overwritten, piece in changes:
        start = place % len(data)
        data = data[:start] + piece + data[start + len(piece) * overwritten :]
    return data


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(EXTRAS)), st.lists(st.tuples(_PLACES, st.booleans(), _PIECES), max_size=3))
def test_both_ways_agree_on_any_file(samples, number, changes):
    data = spoiled(samples[number], changes)
    found = ordinary_envelope(data)
    assert found is None or found == read(data)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    recipients = [BOB, replace(BOB, original="Bob@example.com"), NewRecipient("x@y"), replace(BOB, notify=1)]
    message = replace(MESSAGE, recipients=tuple(recipients[n * n % 4] for n in range(30)), attributes={})
    return stored(tmp_path_factory.mktemp("spool"), message)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 35), st.lists(st.tuples(st.integers(0, 2500), st.booleans(), _PIECES), max_size=3))
def test_recipients_alike_are_read_as_others_are(large, limit, changes):
    data = spoiled(large, changes)
    assert recipients_of(data, limit, ENVELOPE_TYPES) == recipients_of(data, limit, frozenset([*ENVELOPE_TYPES]))


def recipients_of(data, limit, types):
    """Recipients, and where there are more; or why there are none. They are read one by one where types are others."""
    with open(os.memfd_create("queue file"), "r+b", buffering=0) as file:
        file.write(data)
        state = EnvelopeReader(RecordReader(file.fileno()), limit, types, origin=False)
        try:
            state.read_segment(MESSAGE_START)
        except CorruptFile as error:
            return str(error)
        return state.recipients, state.rest
