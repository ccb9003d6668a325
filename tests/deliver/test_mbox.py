"""The mbox form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.deliver.mbox import escape, from_line


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("ada@example.com", b"From ada@example.com  Sun Nov  1 05:06:07 2026\n"),
        ("", b"From MAILER-DAEMON  Sun Nov  1 05:06:07 2026\n"),
        ("a b@example.com", b'From "a b"@example.com  Sun Nov  1 05:06:07 2026\n'),
    ],
)
def test_from_line(sender: str, expected: bytes) -> None:
    assert expected == from_line(sender, (2026, 11, 1, 5, 6, 7, 6))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b"\n"),
        (b"x\n", b"x\n\n"),
        (b"x", b"x\n\n"),
        (b"From x\nFrom y\n>From z\n", b">From x\n>From y\n>From z\n\n"),
        (b"a\n\nFrom the start\n", b"a\n\n>From the start\n\n"),
        (b"a From b\nFrom\n", b"a From b\nFrom\n\n"),
        (b"a\nFrom ", b"a\n>From \n\n"),
    ],
)
def test_escape(content: bytes, expected: bytes) -> None:
    assert expected == b"".join(escape([content]))


def reference(content: bytes) -> bytes:
    lines = [b">" + line if line.startswith(b"From ") else line for line in content.split(b"\n")]
    text = b"\n".join(lines)
    return text + (b"\n" if not text or text.endswith(b"\n") else b"\n\n")


_PIECES = st.lists(st.sampled_from([b"From ", b"\n", b"F", b"ro", b"m ", b"x", b">"]), max_size=5).map(b"".join)


@given(st.lists(_PIECES, max_size=6))
def test_chunks_may_end_anywhere(chunks: list[bytes]) -> None:
    assert reference(b"".join(chunks)) == b"".join(escape(chunks))
