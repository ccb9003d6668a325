import os
import subprocess
import sys

import lmdb
import pytest

from pyfix.tables.table import TableError, open_table

SCRIPT = """
import lmdb, sys
path, ending, *words = sys.argv[1:]
ending = ending.replace("NUL", "\\0")
environment = lmdb.open(path, subdir=False, lock=False)
with environment.begin(write=True) as transaction:
    for key, value in zip(words[::2], words[1::2], strict=True):
        transaction.put((key + ending).encode(), (value + ending).encode())
"""


def make(path, entries, ending=b""):
    """Writes the file in another process: LMDB does not open one twice in the same."""
    arguments = [
        sys.executable,
        "-c",
        SCRIPT,
        str(path),
        ending.decode(),
        *(x for pair in entries.items() for x in pair),
    ]
    subprocess.run([a.replace("\0", "NUL") for a in arguments], check=True)


@pytest.mark.parametrize("ending", [b"", b"\0"], ids=["plain", "with NUL"])
@pytest.mark.parametrize("type_name", ["lmdb", "hash", "btree"])
def test_look_up(tmp_path, ending, type_name):
    make(tmp_path / "map.lmdb", {"key": "value", "é": "ü"}, ending)
    table = open_table(f"{type_name}:{tmp_path}/map")
    assert [table.look_up(key) for key in ("key", "KEY", "É", "ke", "", "x" * 600, "key\0")] == [
        "value", "value", "ü", None, None, None, None,
    ]  # fmt: skip
    assert os.listdir(tmp_path) == ["map.lmdb"]


def test_a_file_that_is_not_there_yet(tmp_path):
    table = open_table(f"hash:{tmp_path}/map")
    with pytest.raises(TableError, match=r"map\.lmdb: No such file"):
        table.look_up("key")
    make(tmp_path / "map.lmdb", {"key": "value"})
    assert table.look_up("key") == "value"


def test_a_file_that_takes_anothers_place(tmp_path):
    make(tmp_path / "map.lmdb", {"key": "old"})
    table = open_table(f"lmdb:{tmp_path}/map")
    assert table.look_up("key") == "old"
    make(tmp_path / "new", {"key": "new"})
    os.rename(tmp_path / "new", tmp_path / "map.lmdb")
    assert table.look_up("key") == "new"


def test_a_file_that_is_changed_in_place(tmp_path):
    make(tmp_path / "map.lmdb", {"key": "old"})
    table = open_table(f"lmdb:{tmp_path}/map")
    assert table.look_up("key") == "old"
    make(tmp_path / "map.lmdb", {"key": "new"})
    assert table.look_up("key") == "new"


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_a_file_that_is_no_database(tmp_path, content):
    (tmp_path / "map.lmdb").write_bytes(content)
    table = open_table(f"lmdb:{tmp_path}/map")
    for _again in range(2):
        with pytest.raises(TableError, match=r"map\.lmdb"):
            table.look_up("key")


def test_close(tmp_path):
    make(tmp_path / "map.lmdb", {"key": "value"})
    table = open_table(f"lmdb:{tmp_path}/map")
    before = len(os.listdir("/proc/self/fd"))
    table.look_up("key")
    table.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert table.look_up("key") == "value"
    table.close()


def test_a_value_that_is_not_utf8(tmp_path):
    environment = lmdb.open(str(tmp_path / "map.lmdb"), subdir=False, lock=False)
    with environment.begin(write=True) as transaction:
        transaction.put(b"key", b"\xff")
    environment.close()
    with pytest.raises(TableError, match="not UTF-8"):
        open_table(f"lmdb:{tmp_path}/map").look_up("key")
