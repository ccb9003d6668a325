import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.mail.header import HeaderScanner, find_message_id

LIMIT = 102400


def scan(chunks, limit=LIMIT):
    """The fields and the rest, scanned from chunks."""
    scanner = HeaderScanner(limit)
    fields = []
    rest = b""
    for chunk in chunks:
        if scanner.ended:
            rest += chunk
        else:
            fields += scanner.feed(chunk)
            rest = scanner.rest
    if not scanner.ended:
        fields += scanner.close()
        rest = scanner.rest
    return [field.text for field in fields], rest, bool(rest) and not rest.startswith(b"\n")


CASES = {
    "nothing": (b"", [], b"", False),
    "only a separator": (b"\n", [], b"\n", False),
    "two separators": (b"\n\nx\n", [], b"\n\nx\n", False),
    "usual": (b"A: b\nC: d\n\nbody\n", [b"A: b\n", b"C: d\n"], b"\nbody\n", False),
    "no body": (b"A: b\n", [b"A: b\n"], b"", False),
    "no line end": (b"A: b", [b"A: b\n"], b"", False),
    "folded": (b"A: b\n\tc\n \nD: e\n\n", [b"A: b\n\tc\n \n", b"D: e\n"], b"\n", False),
    "folded at the end": (b"A: b\n c", [b"A: b\n c\n"], b"", False),
    "empty value": (b"A:\nB:\n\n", [b"A:\n", b"B:\n"], b"\n", False),
    "space before the colon": (b"A : b\nC\t :d\n\n", [b"A: b\n", b"C:d\n"], b"\n", False),
    "space in the name": (b"A: b\nBad name: x\n", [b"A: b\n"], b"Bad name: x\n", True),
    "no name": (b": x\n\n", [], b": x\n\n", True),
    "a name above ASCII": (b"\xe9: x\n\n", [], b"\xe9: x\n\n", True),
    "not a header": (b"no header\n\nbody\n", [], b"no header\n\nbody\n", True),
    "not a header, no line end": (b"garbage", [], b"garbage", True),
    "leading space": (b" A: b\nC: d\n", [], b" A: b\nC: d\n", True),
    "mailbox line": (b"From joe Mon\nA: b\n\n", [b"X-Mailbox-Line: From joe Mon\n", b"A: b\n"], b"\n", False),
    "quoted mailbox line": (b">>from x\nA: b\n\n", [b"X-Mailbox-Line: >>from x\n", b"A: b\n"], b"\n", False),
    "two mailbox lines": (b"From a\n>From b\nA: b\n", [b"X-Mailbox-Line: From a\n"], b">From b\nA: b\n", True),
    "mailbox line alone": (b"From a", [b"X-Mailbox-Line: From a\n"], b"", False),
    "late mailbox line": (b"A: b\nFrom x\nC: d\n", [b"A: b\n"], b"From x\nC: d\n", True),
    "from": (b"From: x\n\n", [b"From: x\n"], b"\n", False),
    "NUL, CR and 8 bits": (b"A: \0\r\xff\n\r\n", [b"A: \0\r\xff\n"], b"\r\n", True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_header_scanned_in_pieces(case, step):
    content, fields, rest, missing = case
    chunks = [content[i : i + step] for i in range(0, len(content), step)]
    assert scan(chunks) == (fields, rest, missing)


def test_names_are_in_lower_case_and_bodies_behind_the_colon():
    (field, _) = HeaderScanner(LIMIT).feed(b"MESSAGE-Id:\n <x@y>\nA: b\n\n")
    assert (field.name, field.body) == (b"message-id", b"\n <x@y>\n")


@pytest.mark.parametrize("step", [1, 7, 64, 100_000])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"A: " + b"x" * 200 + b"\n y\nB: c\n\nz", b"A: " + b"x" * 47 + b"\n"),
        (b"A:" + b"\n x" * 100 + b"\nB: c\n\nz", (b"A:" + b"\n x" * 100)[:50] + b"\n"),
        (b"A: " + b"x" * 47 + b"\n y\nB: c\n\nz", b"A: " + b"x" * 47 + b"\n"),
    ],
    ids=["line", "lines", "line end at the limit"],
)
def test_a_field_is_cut_at_the_limit(content, expected, step):
    chunks = [content[i : i + step] for i in range(0, len(content), step)]
    assert scan(chunks, limit=50) == ([expected, b"B: c\n"], b"\nz", False)


def test_an_endless_name_is_no_field():
    assert scan([b"x" * 40, b"x" * 40, b": y\n"], limit=50) == ([], b"x" * 80 + b": y\n", True)


def test_a_field_that_never_ends_is_not_kept():
    scanner = HeaderScanner(1000)
    fields = []
    for _ in range(1000):
        fields += scanner.feed(b"A: b" + b"x" * 996)
    assert [len(field.text) for field in fields] == [1001]
    assert scanner._pending_size == 0


@given(
    st.lists(
        st.sampled_from([b"A: b", b"From ", b"\n", b" ", b"\t", b":", b"x", b"\r", b"Subject", b">"]), max_size=20
    ),
    st.data(),
)
def test_splitting_content_anywhere_makes_no_difference(pieces, data):
    content = b"".join(pieces)
    limit = data.draw(st.sampled_from([5, 12, LIMIT]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    chunks = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    fields, rest, _ = scan(chunks, limit)
    assert (fields, rest) == scan([bytes([byte]) for byte in content], limit)[:2]
    assert all(text.endswith(b"\n") and b"\n\n" not in text for text in fields)
    if limit == LIMIT and b"From " not in content and b" :" not in content and b"\t:" not in content:
        assert b"".join(fields) + rest in {content, content + b"\n"}


def test_what_counts_is_the_field_as_it_was_written():
    """Blanks before the colon are taken off; in one piece more of such a field was kept than in many."""
    content = b"Subject  :A: b"
    for chunks in ([content], [bytes([byte]) for byte in content]):
        assert scan(chunks, 12)[0] == [b"Subject:A:\n"]


@pytest.mark.parametrize("piece", [b"A: b\n", b"A", b"A: b\n c", b"\n x", b"From ", b" "])
@pytest.mark.parametrize("step", [1, 50_000])
def test_time_grows_with_the_header_and_not_faster(piece, step):
    def cost(size):
        content = b"X:" + piece * (size // len(piece))
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            scan([content[i : i + step] for i in range(0, len(content), step)])
            best = min(best, time.process_time() - start)
        return best

    size = 5_000 if step == 1 else 50_000
    cost(size)
    # Linear is eight times as much, quadratic sixty-four, in a moment without disturbance.
    assert any(cost(8 * size) <= 24 * cost(size) + 0.02 for _ in range(5))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Subject: x\nMessage-ID: <1@x>\n\nMessage-Id: <2@x>\n", "<1@x>"),
        (b"message-id:\n <1@x>\n", "<1@x>"),
        (b"Message-Id: <1@x>\nMessage-Id: <2@x>\n\n", "<1@x>"),
        (b"Message-Id: <1@x> <2@x>\n\n", ""),
        (b"Message-Id: <1@x\n", ""),
        (b"Message-Id: <1\x00@x>\n\n", ""),
        (b"Subject: x\n\nMessage-Id: <1@x>\n", ""),
        (b"", ""),
    ],
)
def test_the_message_id_of_a_message(content, expected):
    for step in (1, 7, 5000):
        assert find_message_id([content[i : i + step] for i in range(0, len(content), step)], 1000) == expected


def test_no_endless_header_is_searched_for_a_message_id():
    def content():
        yield b"X: x\n" * 201
        raise AssertionError

    assert find_message_id(content(), 1000) == ""
