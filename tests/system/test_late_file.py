import os

import pytest

from pyfix.system.late_file import LateFile


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_there_is_no_file_before_the_first_byte(tmp_path, directory):
    file = LateFile("x", directory)
    assert list(tmp_path.iterdir()) == []
    file.write(b"one")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    file.write(b"two")
    file.overwrite(0, b"O")
    file.commit()
    assert (tmp_path / "x").read_bytes() == b"Onetwo"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o700


def test_an_empty_file_can_be_committed(tmp_path, directory):
    LateFile("x", directory).commit()
    assert (tmp_path / "x").read_bytes() == b""


def test_nothing_stays_after_abort(tmp_path, directory):
    for content in (b"", b"one"):
        file = LateFile("x", directory)
        if content:
            file.write(content)
        file.abort()
        assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_stays_what_it_is(tmp_path, directory):
    (tmp_path / "x").write_bytes(b"mine")
    file = LateFile("x", directory)
    with pytest.raises(FileExistsError):
        file.write(b"yours")
    file.abort()
    assert (tmp_path / "x").read_bytes() == b"mine"
