"""Files that are read again when they changed."""

from pyfix.system.watched_file import WatchedFile


def test_a_file_is_read_when_it_changed(tmp_path):
    path = tmp_path / "f"
    watched = WatchedFile(str(path), 10)
    assert watched.changed() == ""
    assert watched.changed() is None
    path.write_text("one")
    assert watched.changed() == "one"
    assert watched.changed() is None
    path.write_bytes(b"longer than ten bytes \xff")
    assert watched.changed() == "longer tha"
    path.unlink()
    assert watched.changed() == ""


def test_what_is_no_file_is_empty(tmp_path):
    assert WatchedFile(str(tmp_path), 10).changed() == ""
