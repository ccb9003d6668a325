import os

import pytest

from pyfix.system.journal_reader import FileTail


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def open_tail(path):
    """Opens the tail of the file, which need not be there before."""
    tails = []

    def open_it():
        path.touch()
        tails.append(FileTail(str(path)))
        return tails[-1]

    yield open_it
    for tail in tails:
        tail.close()


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def test_the_end_of_a_log_file_and_what_is_appended(path, open_tail):
    append(path, "one\ntwo\nthr")
    tail = open_tail()
    assert tail.recent(100) == ["one", "two"]
    assert tail.whole
    assert tail.read(100) == []
    append(path, "ee\nfour\n")
    assert tail.read(100) == ["three", "four"]
    assert tail.read(100) == []


def test_of_a_long_file_the_last_whole_lines_are_recent(path, open_tail):
    append(path, "".join(f"line {number}\n" for number in range(100)))
    tail = open_tail()
    assert tail.recent(20) == ["line 98", "line 99"]
    assert not tail.whole
    append(path, "more\n")
    assert tail.read(100) == ["more"]


def test_much_at_once_comes_in_parts(path, open_tail):
    tail = open_tail()
    assert tail.recent(10) == []
    append(path, "12345\n67890\n")
    assert [tail.read(8), tail.read(8)] == [["12345"], ["67890"]]


def test_a_line_without_end_does_not_grow_without_bound(path, open_tail):
    append(path, "x" * 1000)
    tail = open_tail()
    for _ in range(100):
        assert tail.read(10) == []
    append(path, "\n")
    assert tail.read(10) == ["x" * 10]


def test_a_file_that_replaces_it_is_followed(path, open_tail):
    append(path, "old\n")
    tail = open_tail()
    assert tail.recent(100) == ["old"]
    append(path, "last\n")
    path.rename(path.with_suffix(".1"))
    assert tail.read(100) == ["last"]
    assert tail.read(100) == []  # the new one is not there yet
    append(path, "new\n")
    assert [*tail.read(100), *tail.read(100)] == ["new"]
    assert os.path.exists(path.with_suffix(".1"))


def test_bytes_that_are_no_text_are_replaced(path, open_tail):
    path.write_bytes(b"\xff\n")
    assert open_tail().recent(10) == ["\ufffd"]
