"""Breaking long lines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfix.wire.folding import LineFolder


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        (b"", b""),
        (b"1234\n", b"1234\n"),
        (b"12345\n", b"1234\n 5\n"),
        (b"12345678\n", b"1234\n 567\n 8\n"),
        (b"1234567\n8\n", b"1234\n 567\n8\n"),
        (b"12345678", b"1234\n 567\n 8"),
        (b"\n\n1234\n\n", b"\n\n1234\n\n"),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_long_lines_are_continued_after_a_space(text, folded, step):
    folder = LineFolder(4)
    assert b"".join(folder.fold(text[i : i + step]) for i in range(0, len(text), step)) == folded


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=8), st.sampled_from([2, 3, 5]))
def test_folding_keeps_every_byte_and_the_limit(chunks, limit):
    folder = LineFolder(limit)
    folded = b"".join(map(folder.fold, chunks))
    assert all(len(line) <= limit for line in folded.split(b"\n"))
    assert folded.replace(b"\n ", b"") == b"".join(chunks)
    whole = LineFolder(limit)
    assert whole.fold(b"".join(chunks)) == folded


def test_no_limit_folds_nothing():
    line = b"x" * 100_000
    assert LineFolder(0).fold(line) is line
