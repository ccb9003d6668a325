import os

import pytest

from pyfix.spool.inspection import counts, problems


def test_a_new_queue_is_as_it_should_be(spool):
    assert problems(spool.root, None) == []
    assert problems(spool.root, os.getuid()) == []


def test_what_is_missing_open_to_others_or_somebody_elses_is_named(spool):
    root = spool.root
    os.rmdir(f"{root}/hold")
    os.rmdir(f"{root}/defer")
    with open(f"{root}/defer", "x"):
        pass
    os.chmod(f"{root}/active", 0o770)
    assert problems(root, None) == [
        f"{root}/active can be written to by others (mode 0770)",
        f"{root}/hold does not exist",
        f"{root}/defer is not a directory",
    ]
    assert f"{root} belongs to user {os.getuid()}, not to 12345" in problems(root, 12345)


@pytest.mark.parametrize(("name", "message"), [("missing", "does not exist"), ("file", "is not a directory")])
def test_no_queue_at_all(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    assert problems(f"{tmp_path}/{name}", None) == [f"queue_directory {tmp_path}/{name} {message}"]


def test_messages_are_counted_by_queue(spool):
    for name in ("4dVBkT0Qz8z1", "4dVBkT0Qz8z2"):
        path = spool.make_room("deferred", name)
        os.close(os.open(f"{spool.root}/{path}", os.O_CREAT | os.O_WRONLY, 0o700))
    os.close(os.open(f"{spool.root}/incoming/4dVBkT0Qz8z3", os.O_CREAT | os.O_WRONLY, 0o600))
    assert counts(spool) == {"maildrop": 0, "incoming": 0, "active": 0, "deferred": 2, "hold": 0}
