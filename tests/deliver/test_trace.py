"""The lines on top of a delivered message, and loops."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.deliver.trace import HEADER_LIMIT, delivered_addresses, is_loop, read_header, trace_lines


def test_all_lines_in_postfix_order() -> None:
    expected = b"Return-Path: <a@example.com>\nX-Original-To: info@example.org\nDelivered-To: ada@example.org\n"
    assert expected == trace_lines("a@example.com", "info@example.org", "ada@example.org")


def test_null_sender_and_no_recipient_lines() -> None:
    assert trace_lines("", "", "") == b"Return-Path: <>\n"


def test_local_parts_are_quoted_and_cannot_begin_a_line() -> None:
    lines = trace_lines('a b"@example.com', "x\nBcc: y@z@example.org", "\u00e9@example.org")
    assert lines == (
        b'Return-Path: <"a b\\""@example.com>\n'
        b'X-Original-To: "x?Bcc: y@z"@example.org\n'
        b"Delivered-To: \xc3\xa9@example.org\n"
    )


@pytest.mark.parametrize(
    ("message", "recipient", "expected"),
    [
        (b"Delivered-To: ada@example.org\n\nhi\n", "ada@example.org", True),
        (b"Subject: x\nDELIVERED-TO:\t ADA@EXAMPLE.ORG \n\nhi\n", "Ada@example.org", True),
        (b"Delivered-To: bob@example.org\n\nhi\n", "ada@example.org", False),
        (b"Subject: x\n\nDelivered-To: ada@example.org\n", "ada@example.org", False),
        (b"X-Delivered-To: ada@example.org\n\n", "ada@example.org", False),
        (b'Delivered-To: "a b"@example.org\n\n', "a b@example.org", True),
        (b"\nDelivered-To: ada@example.org\n", "ada@example.org", False),
        (b"Delivered-To: ada@example.org", "ada@example.org", True),
        (b"", "ada@example.org", False),
    ],
)
def test_loops(message: bytes, recipient: str, expected: bool) -> None:
    assert expected == is_loop(delivered_addresses(read_header([message])[0]), recipient)


_HEADER = b"Subject: x\nDelivered-To: a@b\nTo: y\n\nDelivered-To: c@d\n"


@given(st.lists(st.integers(0, len(_HEADER)), max_size=5))
def test_chunks_may_end_anywhere(cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(_HEADER)]
    chunks = [_HEADER[a:b] for a, b in pairwise(marks)]
    header, read = read_header(chunks)
    assert header == b"Subject: x\nDelivered-To: a@b\nTo: y"
    assert _HEADER.startswith(read)
    assert len(read) > len(header)
    assert delivered_addresses(header) == {b"a@b"}


def test_an_endless_header_is_read_to_the_limit_only() -> None:
    def endless():
        for _ in range(HEADER_LIMIT // 1000 + 2):
            yield b"X: " + b"y" * 996 + b"\n"
        raise AssertionError

    header, read = read_header(endless())
    assert read.startswith(header)
    assert len(header) == HEADER_LIMIT
