import errno
import os
import select

import pytest

from pyfix.system import kernel_sync
from pyfix.system.kernel_sync import KernelSync, push


@pytest.fixture
def kernel():
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


def all_ended(kernel, number):
    ended = []
    while len(ended) < number:
        ended += kernel.ended(at_least=1)
    return sorted(ended)


def test_files_are_synced_and_told_by_their_tags(kernel, files):
    for descriptor in files:
        os.write(descriptor, b"x" * 5000)
    for _ in range(3):
        tags = [2**63 + number for number in range(len(files))]
        assert kernel.begin(zip(files, tags, strict=True)) == len(files)
        assert all_ended(kernel, len(files)) == [(tag, 0) for tag in tags]


def test_an_end_can_be_waited_for_without_asking(kernel, files):
    assert kernel.ended() == []
    assert kernel.begin([(files[0], 1)]) == 1
    readable, _, _ = select.select([kernel.fileno()], [], [], 10)
    assert readable == [kernel.fileno()]
    assert kernel.ended() == [(1, 0)]
    assert select.select([kernel.fileno()], [], [], 0)[0] == []


def test_what_is_taken_is_the_first_of_them(kernel, files):
    """A descriptor that cannot be synced stops the rest, which are the caller's business."""
    reading, writing = os.pipe()
    assert kernel.begin([(files[0], 1), (reading, 2), (files[1], 3)]) == 1
    assert all_ended(kernel, 1) == [(1, 0)]
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        kernel.begin([(reading, 2)])
    os.close(reading)
    os.close(writing)


def test_a_file_that_is_closed_meanwhile_is_synced(kernel, tmp_path):
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"x")
    kernel.begin([(descriptor, 1)])
    os.close(descriptor)
    assert all_ended(kernel, 1) == [(1, 0)]


def test_a_machine_without_it_is_told_from_others(monkeypatch):
    monkeypatch.setattr(kernel_sync.platform, "machine", lambda: "pdp11")
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
