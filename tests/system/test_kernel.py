import errno
import os
import select

import pytest

from pyfix.system import kernel
from pyfix.system.kernel import KernelSync, file_system, push, rename_new


@pytest.fixture
def syncs():
    try:
        made = KernelSync(8)
    except OSError as error:
        pytest.skip(f"this kernel does not sync on its own: {error.strerror}")
    yield made
    made.close()


@pytest.fixture
def files(tmp_path):
    made = [os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT) for number in range(8)]
    yield made
    for descriptor in made:
        os.close(descriptor)


def all_ended(syncs, number):
    ended = []
    while len(ended) < number:
        ended += syncs.ended(at_least=1)
    return sorted(ended)


def test_files_are_synced_and_told_by_their_tags(syncs, files):
    for descriptor in files:
        os.write(descriptor, b"x" * 5000)
    for _ in range(3):
        tags = [2**63 + number for number in range(len(files))]
        assert syncs.begin(zip(files, tags, strict=True)) == len(files)
        assert all_ended(syncs, len(files)) == [(tag, 0) for tag in tags]


def test_an_end_can_be_waited_for_without_asking(syncs, files):
    assert syncs.ended() == []
    assert syncs.begin([(files[0], 1)]) == 1
    readable, _, _ = select.select([syncs.fileno()], [], [], 10)
    assert readable == [syncs.fileno()]
    assert syncs.ended() == [(1, 0)]
    assert select.select([syncs.fileno()], [], [], 0)[0] == []


def test_what_is_taken_is_the_first_of_them(syncs, files):
    """A descriptor that cannot be synced stops the rest, which are the caller's business."""
    reading, writing = os.pipe()
    assert syncs.begin([(files[0], 1), (reading, 2), (files[1], 3)]) == 1
    assert all_ended(syncs, 1) == [(1, 0)]
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        syncs.begin([(reading, 2)])
    os.close(reading)
    os.close(writing)


def test_a_file_that_is_closed_meanwhile_is_synced(syncs, tmp_path):
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"x")
    syncs.begin([(descriptor, 1)])
    os.close(descriptor)
    assert all_ended(syncs, 1) == [(1, 0)]


def test_a_machine_without_it_is_told_from_others(monkeypatch):
    monkeypatch.setattr(kernel.platform, "machine", lambda: "pdp11")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
        KernelSync(8)


def test_pushing_hands_a_file_to_the_disk(files):
    os.write(files[0], b"x")
    push(files[0])


def test_what_cannot_be_pushed_is_an_error():
    reading, writing = os.pipe()
    with pytest.raises(OSError, match=os.strerror(errno.ESPIPE)):
        push(reading)
    os.close(reading)
    os.close(writing)


def test_a_new_name_is_one_that_was_free(tmp_path):
    (tmp_path / "a").write_text("a")
    rename_new(str(tmp_path / "a"), str(tmp_path / "b"))
    (tmp_path / "a").write_text("another")
    with pytest.raises(FileExistsError):
        rename_new(str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(FileNotFoundError):
        rename_new(str(tmp_path / "none"), str(tmp_path / "c"))
    assert (tmp_path / "b").read_text() == "a"


def test_a_file_system_is_of_a_kind():
    with open("/proc/self/stat") as file:
        assert file_system(file.fileno()) == 0x9FA0
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        file_system(-1)
