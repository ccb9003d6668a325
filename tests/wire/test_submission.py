"""sendmail's input as content."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.wire.submission import HEADER_LIMIT, LINE_LIMIT, RecipientFields, SubmissionText


def content(*chunks: bytes, fix: str = "always", dot_ends: bool = True) -> bytes:
    text = SubmissionText(fix, dot_ends=dot_ends)
    return b"".join([*map(text.feed, chunks), text.finish()])


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        (b"", b""),
        (b"Subject: x\n\nhi\n", b"Subject: x\n\nhi\n"),
        (b"no line end", b"no line end"),
        (b"a\n.\nb\n", b"a\n"),
        (b".\nb\n", b""),
        (b"a\n.", b"a\n"),
        (b".", b""),
        (b"a\n..\n.b\n", b"a\n..\n.b\n"),
        (b"a\r\n.\r\nb", b"a\n"),
        (b"a\n.\r", b"a\n.\r"),
        (b"a\r\n", b"a\n"),
        (b"a\r\r\nb\r\rc\r\n", b"a\nb\r\rc\n"),
        (b"a\nb\r\n", b"a\nb\n"),
        (b"From x y\nSubject: z\n", b"Subject: z\n"),
        (b">>From x\nFrom y\nSubject: z\nFrom here\n", b"Subject: z\nFrom here\n"),
        (b"From x", b"From x"),
        (b"From " + b"x" * LINE_LIMIT + b"\n", b"From " + b"x" * LINE_LIMIT + b"\n"),
    ],
)
def test_text(given_text: bytes, expected: bytes) -> None:
    assert expected == content(given_text)


@pytest.mark.parametrize(
    ("given_text", "fix", "expected"),
    [
        (b"a\r\nb\nc\r\n", "strict", b"a\nb\nc\n"),
        (b"a\nb\r\n", "strict", b"a\nb\r\n"),
        (b"a\r\nb\r\n", "never", b"a\r\nb\r\n"),
    ],
)
def test_line_ends(given_text: bytes, fix: str, expected: bytes) -> None:
    assert expected == content(given_text, fix=fix)


def test_a_dot_ends_nothing_with_i() -> None:
    assert content(b"a\n.\nb\n", dot_ends=False) == b"a\n.\nb\n"


def reference(data: bytes, fix: str, *, dot_ends: bool) -> bytes:
    """The same, a line at a time."""
    lines = data.split(b"\n")
    last = lines.pop()
    kept: list[bytes] = []
    fixing = {"always": True, "never": False}.get(fix)
    for line in lines:
        if fixing is None:
            fixing = line.endswith(b"\r")
        if not kept and re.match(rb">*From ", line):
            continue
        text = line.rstrip(b"\r") if fixing else line
        if dot_ends and text == b".":
            return b"".join(kept)
        kept.append(text + b"\n")
    return b"".join(kept) + (b"" if dot_ends and last == b"." else last)


_PIECE = st.sampled_from([b"From ", b"\n", b".", b"\r", b"\r\n", b"x", b">", b"\n.\n", b"Fro"])


@given(
    st.lists(st.lists(_PIECE, max_size=5).map(b"".join), max_size=6),
    st.sampled_from(["always", "strict", "never"]),
    st.booleans(),
)
def test_chunks_may_end_anywhere(chunks: list[bytes], fix: str, dot_ends: bool) -> None:
    expected = reference(b"".join(chunks), fix, dot_ends=dot_ends)
    assert expected == content(*chunks, fix=fix, dot_ends=dot_ends)


def test_what_comes_after_the_end_does_not_count() -> None:
    text = SubmissionText("always", dot_ends=True)
    assert text.feed(b"a\n.\nb\n") == b"a\n"
    assert text.ended
    assert text.feed(b"c\n") == b""
    assert text.finish() == b""


def test_a_flood_of_carriage_returns_takes_no_time() -> None:
    assert content(b"a" + b"\r" * 200_000 + b"b\n") == b"a" + b"\r" * 200_000 + b"b\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"To: x\n\n", [b" x\n"]),
        (b"Subject: x\nBCC : y\n\nhi\n", [b" y\n"]),
        (b"Resent-Cc:y", [b"y\n"]),
        (b"To:\n x,\n\ty\nCc: z\n\n", [b"\n x,\n\ty\n", b" z\n"]),
        (b"To:", [b"\n"]),
        (b"Subject: x\n\nTo: y\n", []),
        (b"\nTo: y\n", []),
        (b"not a field\nTo: y\n\n", []),
        (b" To: x\nTo: y\n\n", []),
        (b"X-To: y\n\n", []),
        (b"", []),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_recipient_fields(text: bytes, expected: list[bytes], size: int) -> None:
    fields = RecipientFields()
    for start in range(0, len(text), size):
        fields.feed(text[start : start + size])
    fields.finish()
    assert expected == fields.bodies


def test_a_header_without_end_is_searched_to_the_limit() -> None:
    fields = RecipientFields()
    fields.feed(b"X: y\n" * (HEADER_LIMIT // 5 + 1))
    fields.feed(b"To: z\n")
    fields.finish()
    assert fields.bodies == []
