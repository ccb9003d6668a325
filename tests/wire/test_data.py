import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfix.wire.data import DataDecoder, DataEncoder

PIECES = st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"\0", b"x", b"\r\n.\r\n", b"\n.\n", b"text"])
WIRE = st.lists(PIECES, max_size=20).map(b"".join)


def decode(chunks, mode="normalize"):
    """Content and rest, or None for the rest if there was no end; the decoder."""
    decoder = DataDecoder(mode)
    content = b""
    for index, chunk in enumerate(chunks):
        more, rest = decoder.feed(chunk)
        content += more
        if decoder.ended:
            return content, rest + b"".join(chunks[index + 1 :]), decoder
        assert rest == b""
    return content, None, decoder


def decode_by_lines(wire, mode="normalize"):
    """The same, as the standard tells it: line by line."""
    content, after_crlf, position = b"", True, 0
    while (end := wire.find(b"\n", position)) >= 0:
        crlf = wire[position:end].endswith(b"\r")
        line = wire[position : end - crlf]
        position = end + 1
        if line == b".":
            if mode == "no" or (after_crlf and crlf):
                return content, wire[position:]
        else:
            content += line.removeprefix(b".") + b"\n"
        after_crlf = crlf
    return None


def cut(data, places):
    edges = [0, *sorted(p % (len(data) + 1) for p in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("length", range(7))
def test_no_short_string_smuggles_an_end(length):
    """Every string of these bytes ends content exactly where the standard says, whole and byte by byte."""
    for piece in itertools.product((b"\r", b"\n", b".", b"\0", b"x"), repeat=length):
        wire = b"".join(piece) + b"\r\n.\r\nQUIT\r\n"
        content, rest, whole = decode([wire])
        bytewise = decode([wire[i : i + 1] for i in range(len(wire))])
        assert (content, rest) == decode_by_lines(wire)
        assert (content, rest) == bytewise[:2]
        assert (whole.size, whole.bare_newlines) == (bytewise[2].size, bytewise[2].bare_newlines)
        assert whole.size == len(content) + content.count(b"\n")


@pytest.mark.parametrize("length", range(6))
def test_leniency_takes_bare_newlines_for_line_ends(length):
    for piece in itertools.product((b"\r", b"\n", b".", b"x"), repeat=length):
        wire = b"".join(piece) + b"\n.\nQUIT\r\n"
        assert decode([wire], "no")[:2] == decode_by_lines(wire, "no")


@settings(max_examples=200)
@given(WIRE, st.lists(st.integers(0, 200), max_size=8), st.sampled_from(["no", "note", "normalize", "reject"]))
def test_chunks_do_not_matter(wire, places, mode):
    content, rest, decoder = decode([wire], mode)
    again, rest_again, cut_decoder = decode(cut(wire, places), mode)
    assert rest == rest_again
    if rest is not None:
        assert content == again
        assert (decoder.size, decoder.bare_newlines) == (cut_decoder.size, cut_decoder.bare_newlines)


@settings(max_examples=200)
@given(st.lists(st.sampled_from([b"\n", b".", b"\r", b"\0", b"x", b"..", b"\n.\n"]), max_size=20).map(b"".join),
       st.lists(st.integers(0, 200), max_size=8), st.lists(st.integers(0, 200), max_size=8))  # fmt: skip
def test_what_was_encoded_is_decoded(content, places, other_places):
    encoder = DataEncoder()
    wire = b"".join(encoder.feed(chunk) for chunk in cut(content, places)) + encoder.finish()
    whole = content if content.endswith(b"\n") or not content else content + b"\n"
    decoded, rest, decoder = decode(cut(wire + b"MAIL", other_places))
    assert (decoded, rest, decoder.bare_newlines) == (whole, b"MAIL", 0)
    assert decoder.size == len(whole) + whole.count(b"\n")


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        pytest.param(b"", b".\r\n", id="empty"),
        pytest.param(b"a\n", b"a\r\n.\r\n", id="one line"),
        pytest.param(b"a", b"a\r\n.\r\n", id="unfinished line"),
        pytest.param(b".\n", b"..\r\n.\r\n", id="a dot"),
        pytest.param(b"a\n.b\n..\n", b"a\r\n..b\r\n...\r\n.\r\n", id="dots at line starts"),
        pytest.param(b"\n\n", b"\r\n\r\n.\r\n", id="empty lines"),
    ],
)
def test_encoding(content, wire):
    encoder = DataEncoder()
    assert encoder.feed(content) + encoder.finish() == wire


@pytest.mark.parametrize(
    ("wire", "content", "bare"),
    [
        pytest.param(b"a\nb\r\n.\r\n", b"a\nb\n", 1, id="bare LF ends a line"),
        pytest.param(b"a\n.\nb\r\n.\r\n", b"a\nb\n", 2, id="LF dot LF is dropped"),
        pytest.param(b"a\r\n.\nb\r\n.\r\n", b"a\nb\n", 1, id="CRLF dot LF is dropped"),
        pytest.param(b"a\n.\r\nb\r\n.\r\n", b"a\nb\n", 1, id="LF dot CRLF is dropped"),
        pytest.param(b"a\rb\r\n.\r\n", b"a\rb\n", 0, id="bare CR is content"),
        pytest.param(b"a\r\n.\r\r\n.\r\n", b"a\n\r\n", 0, id="CR before the end mark's CRLF"),
        pytest.param(b"a\r\r\n.\r\n", b"a\r\n", 0, id="two CRs"),
        pytest.param(b"\0\r\n.\r\n", b"\0\n", 0, id="NUL is content"),
        pytest.param(b".\nx\r\n.\r\n", b"x\n", 1, id="dot LF at the start"),
    ],
)
def test_odd_line_ends(wire, content, bare):
    decoded, rest, decoder = decode([wire])
    assert (decoded, rest, decoder.bare_newlines) == (content, b"", bare)


def test_a_decoder_keeps_no_more_than_the_beginning_of_an_end_mark():
    decoder = DataDecoder("normalize")
    for _ in range(100):
        decoder.feed(b"\r\n.\n.\r\n\n.\r" * 10)
        assert decoder.pending <= 4
