import os
import shutil
import stat
import tracemalloc
from pathlib import Path

import pytest

from pyfix.spool.directories import ALL_DIRECTORIES, Spool
from pyfix.spool.queue_id import QueueIds
from pyfix.system.durable import WriteError

QUEUE_ID = "4jXZ1m485RzD2qY"
OTHER_ID = "0A1B2C3D4E"


@pytest.fixture
def root(spool):
    return Path(spool.root)


def _put(spool, queue, queue_id=QUEUE_ID, data=b"mail"):
    file = spool.create(queue_id, queue)
    file.write(data)
    file.commit()


def _ids(spool, queue):
    return sorted(found.queue_id for found in spool.scan(queue))


def test_directories_are_for_the_owner_alone(spool, root):
    spool.make_directories()
    assert {path.name for path in root.iterdir()} == set(ALL_DIRECTORIES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()} == {0o700}


def test_names_are_as_in_postfix(spool):
    assert spool.path("incoming", QUEUE_ID) == f"incoming/{QUEUE_ID}"
    assert spool.path("deferred", QUEUE_ID) == f"deferred/8/{QUEUE_ID}"
    assert spool.path("defer", OTHER_ID) == f"defer/0/{OTHER_ID}"


@pytest.mark.parametrize("bad", ["../x", "", "a/b", ".", "x" * 300, "4jXZ1m485RzD2qY\n"])
def test_what_is_no_queue_id_reaches_no_file(spool, bad):
    for act in (
        lambda: spool.path("incoming", bad),
        lambda: spool.create(bad),
        lambda: spool.open("incoming", bad),
        lambda: spool.find("incoming", bad),
        lambda: spool.move(bad, "incoming", "active"),
        lambda: spool.remove("incoming", bad),
        lambda: spool.set_retry_time("deferred", bad, 1),
    ):
        with pytest.raises(ValueError, match="queue ID"):
            act()


def test_what_is_no_queue_is_refused(spool):
    with pytest.raises(ValueError, match="not a queue"):
        spool.path("../etc", QUEUE_ID)
    with pytest.raises(ValueError, match="not a queue"):
        spool.scan("..")


def test_a_message_moves_whole(spool, root):
    _put(spool, "incoming")
    spool.move(QUEUE_ID, "incoming", "active")
    spool.move(QUEUE_ID, "active", "deferred")
    assert (root / f"deferred/8/{QUEUE_ID}").read_bytes() == b"mail"
    assert _ids(spool, "incoming") == _ids(spool, "active") == []
    assert spool.queue_of(QUEUE_ID) == "deferred"


def test_moving_what_is_not_there_is_told(spool):
    with pytest.raises(FileNotFoundError):
        spool.move(QUEUE_ID, "incoming", "active")
    with pytest.raises(FileNotFoundError):
        spool.set_retry_time("active", QUEUE_ID, 1)
    with pytest.raises(FileNotFoundError):
        spool.open("active", QUEUE_ID)
    assert not spool.remove("active", QUEUE_ID)


def test_lost_directories_are_made_again(spool, root):
    """An administrator's rm -r of an empty directory stops nothing."""
    _put(spool, "incoming")
    shutil.rmtree(root / "deferred")
    spool.move(QUEUE_ID, "incoming", "deferred")
    shutil.rmtree(root / "incoming")
    _put(spool, "incoming", OTHER_ID)
    assert _ids(spool, "deferred") == [QUEUE_ID]
    assert _ids(spool, "incoming") == [OTHER_ID]


@pytest.mark.parametrize("place", ["deferred", "deferred/8", "deferred/8/E"])
def test_files_are_found_under_another_hash_depth(spool, root, place):
    (root / place).mkdir(parents=True, exist_ok=True)
    path = root / place / QUEUE_ID
    path.write_bytes(b"mail")
    path.chmod(0o700)
    assert _ids(spool, "deferred") == [QUEUE_ID]
    os.close(spool.open("deferred", QUEUE_ID))
    spool.set_retry_time("deferred", QUEUE_ID, 12345)
    assert path.stat().st_mtime == 12345
    spool.move(QUEUE_ID, "deferred", "active")
    assert _ids(spool, "active") == [QUEUE_ID]


def test_a_hashed_setting_of_another_kind(spool, root):
    flat = Spool(spool.root, (), 1)
    _put(spool, "deferred")
    assert flat.find("deferred", QUEUE_ID) == f"deferred/8/{QUEUE_ID}"
    deep = Spool(spool.root, ("deferred", "incoming"), 2)
    assert deep.path("incoming", OTHER_ID) == f"incoming/0/A/{OTHER_ID}"
    flat.close()
    deep.close()


def test_what_is_being_written_is_not_there_yet(spool):
    with spool.create(QUEUE_ID) as file:
        file.write(b"half")
        assert spool.find("incoming", QUEUE_ID) is None
        with pytest.raises(FileNotFoundError):
            spool.open("incoming", QUEUE_ID)
        assert [found.ready for found in spool.scan("incoming")] == [False]


def test_a_taken_id_is_refused(spool):
    _put(spool, "incoming")
    with pytest.raises(FileExistsError):
        spool.create(QUEUE_ID)


def test_descriptors_are_read_only_unless_asked(spool):
    _put(spool, "incoming")
    descriptor = spool.open("incoming", QUEUE_ID)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_only_regular_files_are_mail(spool, root, kind):
    path = root / "incoming" / QUEUE_ID
    if kind == "symlink":
        path.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(path, 0o700)
    else:
        path.mkdir()
    assert spool.find("incoming", QUEUE_ID) is None
    assert _ids(spool, "incoming") == []
    with pytest.raises(OSError, match=r"queue file|symbolic|directory"):
        spool.open("incoming", QUEUE_ID)


def test_quarantine_keeps_the_bytes_for_the_administrator(spool, root):
    _put(spool, "active", data=b"garbage")
    spool.quarantine("active", QUEUE_ID)
    path = root / "corrupt" / QUEUE_ID
    assert path.read_bytes() == b"garbage"
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_the_retry_time_is_told_by_scan(spool):
    _put(spool, "deferred")
    spool.set_retry_time("deferred", QUEUE_ID, 2_000_000_000)
    (found,) = spool.scan("deferred")
    assert (found.mtime, found.ready) == (2_000_000_000, True)


def test_scan_takes_bounded_memory(spool, root):
    ids = QueueIds(pid=1)
    for number in range(5000):
        queue_id = ids.new(1_795_364_156_000_000 + number * 200)
        path = root / spool.make_room("deferred", queue_id)
        path.touch(0o700)
    tracemalloc.start()
    count = sum(1 for _ in spool.scan("deferred"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    assert peak < 100_000


def _age(root, path, seconds=1000):
    os.utime(root / path, (seconds, seconds))


def test_repair_moves_active_mail_back(spool):
    _put(spool, "active")
    repaired = spool.repair(2000)
    assert repaired.reactivated == (QUEUE_ID,)
    assert _ids(spool, "incoming") == [QUEUE_ID]
    assert _ids(spool, "active") == []


def test_repair_removes_what_was_never_accepted(spool, root):
    for queue in ("incoming", "maildrop", "hold"):
        (root / queue / QUEUE_ID).touch(0o600)
        _age(root, f"{queue}/{QUEUE_ID}")
    assert spool.repair(2000).removed == (QUEUE_ID,) * 3
    assert not any((root / queue / QUEUE_ID).exists() for queue in ("incoming", "maildrop", "hold"))


def test_repair_leaves_alone_what_may_be_mail(spool, root):
    _put(spool, "incoming")
    _put(spool, "maildrop", OTHER_ID)
    _age(root, f"incoming/{QUEUE_ID}")
    _age(root, f"maildrop/{OTHER_ID}")
    (root / "incoming/strange-name").write_bytes(b"?")
    (root / "incoming/strange-name").chmod(0o700)
    with spool.create("4jXZ1m485RzBBBB") as writing:
        _age(root, "incoming/4jXZ1m485RzBBBB")
        repaired = spool.repair(2000)
        assert repaired.removed == ()
        assert repaired.bogus == ("incoming/strange-name",)
        writing.commit()
    assert _ids(spool, "incoming") == sorted([QUEUE_ID, "4jXZ1m485RzBBBB"])
    assert _ids(spool, "maildrop") == [OTHER_ID]


def test_repair_removes_postfix_temporary_files_only_after_a_day(spool, root):
    """They have names of their own and no lock."""
    (root / "maildrop/123456.7890").touch(0o600)
    _age(root, "maildrop/123456.7890", 1000)
    assert spool.repair(2000).removed == ()
    assert spool.repair(1000 + 86_401).removed == ("123456.7890",)


def test_free_space_is_that_of_the_file_system(spool):
    space = spool.free_space()
    status = os.statvfs(spool.root)
    assert space.bytes == pytest.approx(status.f_bavail * status.f_frsize, rel=0.1)
    assert space.inodes > 0


def test_free_space_is_that_of_the_queue_where_it_is_a_mount_of_its_own(spool, root):
    """As in the sandbox of a role, whose root is an empty file system."""
    (root / "incoming").rmdir()
    (root / "incoming").symlink_to("/proc")
    assert spool.free_space().bytes == 0
    (root / "incoming").unlink()
    with pytest.raises(FileNotFoundError):
        spool.free_space()


def test_a_file_in_the_place_of_a_directory_is_told(spool, root):
    _put(spool, "incoming")
    (root / "deferred/8").write_bytes(b"")
    with pytest.raises(WriteError):
        spool.move(QUEUE_ID, "incoming", "deferred")
    assert _ids(spool, "incoming") == [QUEUE_ID]
