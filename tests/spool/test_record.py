import itertools
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfix.spool import record
from pyfix.spool.record import (
    CorruptFile,
    RecordReader,
    TextEncoder,
    encode,
    encode_lines,
    other_attributes,
    parse_number,
)


@pytest.fixture
def stored(tmp_path):
    """Stores bytes in a file and gives a reader of it."""
    descriptors = []

    def store(data, offset=0, **options):
        path = tmp_path / str(len(descriptors))
        path.write_bytes(data)
        descriptors.append(os.open(path, os.O_RDONLY))
        return RecordReader(descriptors[-1], offset, **options)

    yield store
    for descriptor in descriptors:
        os.close(descriptor)


def _all(reader):
    return [(item.type, item.data) for item in iter(reader.read, None)]


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, b"N\0"), (1, b"N\1"), (127, b"N\x7f"), (128, b"N\x80\1"), (2048, b"N\x80\x10"), (16384, b"N\x80\x80\1")],
)
def test_length_is_written_in_groups_of_seven_bits(size, head):
    assert encode(b"N", b"x" * size) == head + b"x" * size


@pytest.mark.parametrize("size", [0, 1, 127, 128, 2047, 2048, 2049, 4096, 4097, 10_000])
def test_long_lines_are_cut_into_continued_records(stored, size):
    items = _all(stored(encode_lines([b"x" * size])))
    assert b"".join(data for _, data in items) == b"x" * size
    assert [kind for kind, _ in items] == [b"L"] * (len(items) - 1) + [b"N"]
    assert all(len(data) <= record.LINE_LIMIT for _, data in items)
    assert len(items) == max(1, -(-size // record.LINE_LIMIT))


_lines = st.binary(max_size=40) | st.integers(0, 9000).map(lambda size: b"y" * size)
_texts = st.lists(_lines.map(lambda line: line.replace(b"\n", b"")), max_size=8).map(b"\n".join)


def _cut(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@settings(max_examples=60)
@given(_texts, st.lists(st.integers(0, 100_000), max_size=6), st.booleans())
def test_text_comes_back_however_it_was_cut(text, cuts, ended):
    """A missing last line end is added, nothing else changes."""
    text += b"\n" if ended and text else b""
    encoder = TextEncoder()
    stored = b"".join([encoder.encode(part) for part in _cut(text, cuts)]) + encoder.finish()
    read = _read_text(_memory_file(stored + b"X\0"), 100)
    assert read == (text if text.endswith(b"\n") or not text else text + b"\n")


def _memory_file(data):
    descriptor = os.memfd_create("records")
    os.write(descriptor, data)
    _OPEN.append(descriptor)
    return descriptor


_OPEN = []


@pytest.fixture(autouse=True)
def _close():
    yield
    while _OPEN:
        os.close(_OPEN.pop())


def _read_text(descriptor, size):
    reader = RecordReader(descriptor)
    chunks = list(iter(lambda: reader.read_text(size), b""))
    assert reader.read().type == b"X"
    return b"".join(chunks)


def test_an_encoder_holds_no_more_than_a_line():
    encoder = TextEncoder()
    written = sum(len(encoder.encode(b"x" * 65536)) for _ in range(10))
    assert written > 10 * 65536 - record.LINE_LIMIT


def test_text_is_read_in_bounded_chunks(stored):
    line = b"x" * 78
    reader = stored(encode_lines([line] * 20_000) + b"X\0")
    chunks = list(iter(reader.read_text, b""))
    assert b"".join(chunks) == (line + b"\n") * 20_000
    assert max(map(len, chunks)) < 200_000


def test_text_that_ends_with_the_file_is_corrupt(stored):
    reader = stored(encode_lines([b"a", b"b"]))
    with pytest.raises(CorruptFile, match="ends within the message"):
        list(iter(reader.read_text, b""))


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"N", 0, "unexpected EOF reading length, record type 78"),
        (b"N\0N\x80", 2, "unexpected EOF reading length"),
        (b"N\5abc", 0, "unexpected EOF in data, record type 78 length 5"),
        (b"N\xff\xff\xff\xff\xff\x01", 0, "too many length bits"),
        (b"N\xff\xff\xff\xff\x01", 0, "illegal length"),
        (b"N\x80\x80\x80\x80\x01", 0, "illegal length 268435456"),
    ],
)
def test_broken_records_are_told_with_their_place(stored, data, offset, reason):
    with pytest.raises(CorruptFile, match=reason) as caught:
        _all(stored(data))
    assert caught.value.offset == offset


def test_pointers_are_followed_and_padding_is_skipped(stored):
    #        0        6    9    14        20
    data = b"A\3a=1" + b"p\00212" + b"N\1x" + b"N\1y" + b"w\2zzE\0"
    data = encode(b"A", b"a=1") + encode(b"p", b"12") + encode(b"N", b"x") + encode(b"N", b"y") + encode(b"w", b"zz")
    assert _all(stored(data)) == [(b"A", b"a=1"), (b"N", b"y")]
    assert [kind for kind, _ in _all(stored(data, raw=True))] == [b"A", b"p", b"N", b"N", b"w"]


def test_a_pointer_to_zero_leads_nowhere(stored):
    assert _all(stored(encode(b"p", b"%15d" % 0) + encode(b"N", b"x"))) == [(b"N", b"x")]


@pytest.mark.parametrize("first", [b"", encode(b"N", b"x")], ids=["alone", "with text"])
def test_pointers_in_a_circle_are_noticed(stored, first):
    data = encode(b"A", b"a=b") + first + encode(b"p", b"5")
    with pytest.raises(CorruptFile, match=r"too many reverse jump|in a circle"):
        _all(stored(data))
    with pytest.raises(CorruptFile, match=r"too many reverse jump|in a circle"):
        reader = stored(data, 5)
        while reader.read_text():
            pass


@pytest.mark.parametrize("target", [b"", b"-1", b"0x10", b"1 2", b"9" * 30, b"+5", b"1_0"])
def test_malformed_pointers_are_told(stored, target):
    with pytest.raises(CorruptFile, match="malformed pointer"):
        _all(stored(encode(b"p", target)))


def test_a_pointer_beyond_the_end_reads_nothing(stored):
    assert _all(stored(encode(b"p", b"999999"))) == []


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_give_records_or_corrupt_file(data):
    descriptor = _memory_file(data)
    for read in (RecordReader.read, RecordReader.read_text):
        reader = RecordReader(descriptor)
        try:
            while read(reader):
                pass
        except CorruptFile:
            pass


def _until_corrupt(records):
    found = []
    try:
        for item in records:
            found.append(tuple(item))  # noqa: PERF401 -- what came before the error counts
    except CorruptFile as error:
        return found, str(error)
    return found, ""


_RECORDS = st.lists(st.builds(encode, st.sampled_from([b"A", b"N", b"R", b"w", b"p"]), st.binary(max_size=200)))


@settings(max_examples=200, deadline=None)
@given(_RECORDS.map(b"".join) | st.binary(max_size=300), st.booleans())
def test_records_are_what_reading_gives(data, raw):
    descriptor = _memory_file(data)
    one_by_one = iter(RecordReader(descriptor, raw=raw).read, None)
    assert _until_corrupt(RecordReader(descriptor, raw=raw).records()) == _until_corrupt(one_by_one)


@pytest.mark.parametrize("size", [0, 1, 127 - len("other=")])
def test_other_attributes_are_passed_over(stored, size):
    other = encode(b"A", b"other=" + b"A" * size)
    data = other + encode(b"A", b"own=1") + other + other + encode(b"S", b"x") + other + encode(b"E", b"")
    found = stored(data).records(other_attributes([b"own", b"another"]))
    assert [item[1:] for item in found] == [(b"A", b"own=1"), (b"S", b"x"), (b"E", b"")]


def test_an_attribute_that_is_cut_short_is_not_passed_over(stored):
    with pytest.raises(CorruptFile, match="unexpected EOF in data"):
        list(stored(b"A\x09other=1").records(other_attributes([b"own"])))


@pytest.mark.parametrize(
    ("data", "number"),
    [(b"             12", 12), (b"0", 0), (b"", None), (b" ", None), (b"-1", None), (b"+1", None), (b"1_0", None),
     (b"1" * 19, None), (b"\xd9\xa1", None), (b"12\n", None)],
)  # fmt: skip
def test_numbers(data, number):
    assert parse_number(data) == number
