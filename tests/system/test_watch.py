import os
import select
from pathlib import Path

import pytest

from pyfix.system.watch import Watch, holds_files


@pytest.fixture
def watch():
    watch = Watch()
    yield watch
    watch.close()


def readable(watch):
    return bool(select.select([watch], [], [], 0)[0])


def test_tells_the_directory_in_which_a_file_appeared(watch, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        watch.add(str(tmp_path / name))
    assert not readable(watch)
    (tmp_path / "two" / "file").write_text("")
    assert readable(watch)
    assert watch.changed() == {str(tmp_path / "two")}
    assert not readable(watch)


@pytest.mark.parametrize("how", ["rename", "link", "chmod", "write"])
def test_sees_a_file_however_it_becomes_visible(watch, tmp_path, how):
    directory = tmp_path / "maildrop"
    directory.mkdir()
    (directory / "known").write_text("")
    (tmp_path / "outside").write_text("")
    watch.add(str(directory))
    match how:
        case "rename":
            (tmp_path / "outside").rename(directory / "new")
        case "link":
            os.link(tmp_path / "outside", directory / "new")
        case "chmod":
            (directory / "known").chmod(0o700)
        case "write":
            (directory / "known").write_text("more")
    assert watch.changed() == {str(directory)}


def test_a_file_that_goes_is_nothing_to_look_at(watch, tmp_path):
    (tmp_path / "file").write_text("")
    watch.add(str(tmp_path))
    (tmp_path / "file").unlink()
    assert watch.changed() == set()


def test_a_removed_directory_is_forgotten(watch, tmp_path):
    directory = tmp_path / "gone"
    directory.mkdir()
    watch.add(str(directory))
    assert watch.watches(str(directory))
    directory.rmdir()
    assert watch.changed() == {str(directory)}
    assert not watch.watches(str(directory))


def test_an_event_queue_that_overflowed_means_every_directory(watch, tmp_path):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        watch.add(str(tmp_path / name))
    known = [tmp_path / "one" / name for name in ("a", "b")]
    for file in known:
        file.write_text("")
    for _ in range(limit // 2 + 2):  # two files in turn, because like events are merged
        for file in known:
            os.chmod(file, 0o600)
    assert watch.changed() == {str(tmp_path / "one"), str(tmp_path / "two")}


@pytest.mark.parametrize(("name", "error"), [("missing", FileNotFoundError), ("file", NotADirectoryError)])
def test_only_directories_are_watched(watch, tmp_path, name, error):
    (tmp_path / "file").write_text("")
    with pytest.raises(error):
        watch.add(str(tmp_path / name))


@pytest.mark.parametrize(
    ("names", "expected"),
    [((), False), (("4bX",), True), ((".hidden", "backup~"), False), ((".hidden", "4bX"), True)],
    ids=["empty", "a file", "hidden and backup", "hidden and a file"],
)
def test_a_directory_is_empty_when_systemd_says_so(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).write_text("")
    assert holds_files(str(tmp_path)) is expected


def test_a_missing_directory_holds_nothing(tmp_path):
    assert not holds_files(str(tmp_path / "missing"))
