"""Order in the queue directories; that it is Postfix's order is shown in tests/commands/test_postsuper.py."""

import os
import stat

import pytest

from pyfix.spool.directories import Spool
from pyfix.spool.queue_id import is_queue_id, with_inode
from pyfix.spool.structure import QUEUES, Structure

NOW = 2_000_000_000
LONG, SHORT, OTHER = "4jXZ1m485RzD2qY", "0A1B2C3D4E", "0A1B2F"


class World:
    def __init__(self, spool):
        self.spool = spool
        self.warnings = []

    def put(self, path, mode=0o700, mtime=NOW, data=b"mail"):
        full = os.path.join(self.spool.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(data)
        os.chmod(full, mode)
        os.utime(full, (mtime, mtime))
        return os.stat(full).st_ino

    def places(self):
        root = self.spool.root
        return sorted(
            os.path.relpath(os.path.join(top, name), root) for top, _, files in os.walk(root) for name in files
        )

    def order(self, queues=QUEUES, *, purge=False, places=True, long_names=False):
        work = Structure(self.spool, self.warnings.append, NOW, purge=purge, places=places, long_names=long_names)
        work.put_in_order(queues)
        return work


@pytest.fixture
def world(spool):
    return World(spool)


def test_files_go_where_they_belong_and_empty_directories_go(world):
    for path in (f"deferred/{LONG}", "incoming/8/E/4jXZ1m485RzD2qZ", f"defer/8/E/{LONG}", f"trace/8/{LONG}"):
        world.put(path, 0o700 if "e/8" not in path and "r/8" not in path else 0o600)
    world.order()
    assert world.places() == [f"defer/8/{LONG}", f"deferred/8/{LONG}", "incoming/4jXZ1m485RzD2qZ", f"trace/{LONG}"]
    assert not os.path.exists(f"{world.spool.root}/incoming/8")
    assert os.path.exists(f"{world.spool.root}/defer/8")
    assert world.warnings == []


def test_another_depth_is_obeyed(world):
    world.put(f"deferred/8/{LONG}")
    World(Spool(world.spool.root, ("deferred",), 2)).order()
    assert world.places() == [f"deferred/8/E/{LONG}"]


def test_short_ids_follow_the_inode_with_their_logs(world):
    inode = world.put(f"deferred/0/{SHORT}")
    for log in ("defer/0", "bounce", "trace"):
        world.put(f"{log}/{SHORT}", 0o600)
    work = world.order()
    new = f"0A1B2{inode:X}"
    assert world.places() == sorted([f"defer/0/{new}", f"deferred/0/{new}", f"bounce/{new}", f"trace/{new}"])
    assert (work.mismatches, work.renamed, work.changed_names) == (1, 1, True)
    assert not world.order().changed_names


def test_names_that_are_exchanged_lose_no_mail(world):
    """Each is named as the other should be."""
    first, second = world.put("hold/a", data=b"1"), world.put("hold/b", data=b"2")
    hold = f"{world.spool.root}/hold"
    os.rename(f"{hold}/a", f"{hold}/0A1B2{second:X}")
    os.rename(f"{hold}/b", f"{hold}/0A1B2{first:X}")
    assert world.order().renamed == 2
    for inode, data in ((first, b"1"), (second, b"2")):
        with open(f"{hold}/0A1B2{inode:X}", "rb") as file:
            assert file.read() == data


def test_what_was_interrupted_is_completed(world):
    inode = world.put("hold/x")
    name = f"0A1B2{inode:X}"
    os.rename(f"{world.spool.root}/hold/x", f"{world.spool.root}/hold/{name}#FIX")
    world.put(f"bounce/{name}#FIX", 0o600)
    world.put("hold/0A1B2FFFFFFFF#FIX")
    assert world.order().renamed == 1
    assert world.places() == sorted([f"bounce/{name}", f"hold/{name}", "hold/0A1B2FFFFFFFF#FIX"])
    assert world.warnings == ["name/inode mismatch: hold/0A1B2FFFFFFFF#FIX"]


def test_long_ids_are_left_alone_unless_they_are_meant(world):
    inode = world.put(f"hold/{LONG}")
    assert not world.order().changed_names
    assert world.order(long_names=True).renamed == 1
    assert world.places() == [f"hold/{with_inode(LONG, inode)}"]


@pytest.mark.parametrize("name", [LONG, SHORT])
@pytest.mark.parametrize("inode", [1, 4242, 2**40 - 1])
def test_names_made_of_inodes_are_queue_ids(name, inode):
    made = with_inode(name, inode)
    assert is_queue_id(made)
    assert with_inode(made, inode) == made


def test_purge_removes_what_is_old_and_was_never_accepted(world):
    old = NOW - 86_401
    world.put(f"incoming/{LONG}", 0o600, old)
    world.put("incoming/123.45", 0o600, old)
    world.put("incoming/124.45", 0o600, NOW - 86_000)
    world.put(f"hold/{LONG}", 0o700, old)
    world.put(f"defer/8/{LONG}", 0o600, old)
    world.order(purge=True, places=False)
    assert world.places() == [f"defer/8/{LONG}", f"hold/{LONG}", "incoming/124.45"]
    assert world.warnings == ["bogus file name: incoming/124.45"]


def test_what_is_no_file_goes(world):
    root = world.spool.root
    os.symlink("/etc/passwd", f"{root}/hold/{LONG}")
    os.mkfifo(f"{root}/incoming/{SHORT}")
    os.makedirs(f"{root}/deferred/alien")
    os.makedirs(f"{root}/deferred/stranger/x")
    os.makedirs(f"{root}/maildrop/1")
    world.put(f"maildrop/1/{LONG}")
    world.order()
    assert world.places() == [f"maildrop/1/{LONG}"]
    assert sorted(world.warnings) == [
        "remove subdirectory deferred/stranger: Directory not empty",
        "remove subdirectory maildrop/1: Directory not empty",
    ]
    assert stat.S_ISDIR(os.stat(f"{root}/deferred/stranger/x").st_mode)


def test_files_that_are_being_written_keep_their_names(world):
    world.put(f"incoming/{SHORT}", 0o600)
    world.order(purge=True)
    assert world.places() == [f"incoming/{SHORT}"]
