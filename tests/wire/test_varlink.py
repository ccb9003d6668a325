"""Framing: messages come out whole however the bytes arrive, with the descriptors that are theirs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.wire.varlink import Frame, Framer, FramingError

bodies = st.lists(st.binary(max_size=40).filter(lambda b: b"\0" not in b), max_size=8)


@given(bodies, st.data())
def test_messages_survive_any_split(messages, data):
    """However a stream is cut, the same messages come out."""
    stream = b"".join(m + b"\0" for m in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    framer = Framer(1000)
    frames = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if end > start:
            frames += framer.feed(stream[start:end])
    assert [f.data for f in frames] == messages


def test_descriptors_belong_to_the_message_that_starts_last():
    framer = Framer(1000)
    assert framer.feed(b"a\0b\0", [7]) == [Frame(b"a", ()), Frame(b"b", (7,))]


def test_descriptors_wait_for_the_end_of_their_message():
    framer = Framer(1000)
    assert framer.feed(b"a\0b", [7]) == [Frame(b"a", ())]
    assert framer.pending_fds() == (7,)
    assert framer.feed(b"b\0c\0", [8]) == [Frame(b"bb", (7,)), Frame(b"c", (8,))]
    assert framer.pending_fds() == ()


@pytest.mark.parametrize("chunk", [b"rest\0", b"rest"], ids=["ends", "goes on"])
def test_descriptors_in_the_middle_of_a_message_are_refused(chunk):
    framer = Framer(1000)
    framer.feed(b"begin")
    with pytest.raises(FramingError):
        framer.feed(chunk, [7])


@pytest.mark.parametrize("chunks", [[b"12345\0"], [b"123", b"45"], [b"1\0" + b"2" * 5]])
def test_a_message_over_the_limit_is_refused_before_its_end(chunks):
    framer = Framer(4)
    with pytest.raises(FramingError):
        for chunk in chunks:
            framer.feed(chunk)
