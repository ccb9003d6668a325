"""Power cuts: record what a disk was told while a driver worked, then rebuild the disk as it may be after a cut.

At a cut everything that was written before the last completed flush is on the disk. Of what was written since, any
part may be, block by block. ``crash_states`` makes such disks; each is mounted, which replays the journal, and given
to a check together with the marks made before the cut.
"""

import contextlib
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

DISK_SIZE = 16 << 20
_BLOCK = 4096
_START = b"start"


class Event(NamedTuple):
    kind: str
    offset: int
    data: bytes


class CrashState(NamedTuple):
    """A file system after a cut, mounted at ``root``, and the marks made before the cut."""

    root: Path
    marks: list[bytes]
    # which event the cut came before, and what became of the writes since the last flush
    point: int
    variant: str


_PATIENCE = 10


def _run(*command: object) -> None:
    """Run a command; for a while again where the machine is busy (indexers look into mounts, loop devices run out)."""
    end = time.monotonic() + _PATIENCE
    while True:
        done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
        busy = "busy" in done.stderr or "failed to setup loop device" in done.stderr
        assert busy, f"{command}: {done.stderr}"
        assert time.monotonic() < end, f"{command}: {done.stderr}"
        time.sleep(0.1)


@contextlib.contextmanager
def _mounted(image: Path, root: Path) -> Iterator[None]:
    root.mkdir(exist_ok=True)
    _run("mount", "-o", "loop", image, root)
    try:
        yield
    finally:
        _run("umount", root)


@contextlib.contextmanager
def _disk(mountpoint: Path, log: Path) -> Iterator[None]:
    mountpoint.mkdir()
    script = Path(__file__).with_name("disk.py")
    with open(log.with_suffix(".err"), "wb") as errors:
        process = subprocess.Popen([sys.executable, script, mountpoint, str(DISK_SIZE), log], stderr=errors)
    try:
        end = time.monotonic() + 10
        while not (mountpoint / "disk").exists():
            assert process.poll() is None, log.with_suffix(".err").read_text()
            assert time.monotonic() < end, "the FUSE disk did not come up"
            time.sleep(0.02)
        yield
    finally:
        subprocess.run(["umount", "-l", mountpoint], check=False, capture_output=True)
        process.terminate()
        process.wait(10)


class Driver(Protocol):
    """What works on the file system mounted at ``root``."""

    def prepare(self, root: Path) -> None:
        """Do what no power cut interrupts."""

    def drive(self, root: Path, mark: Callable[[bytes], None]) -> None:
        """Work, and tell with ``mark(text)`` what was promised; threads may call it."""


def record(directory: Path, driver: Driver) -> list[Event]:
    """What the disk was told while the driver worked on a fresh ext4."""
    log = directory / "log"
    with _disk(directory / "fuse", log):
        disk = directory / "fuse/disk"
        _run("mkfs.ext4", "-q", "-F", "-J", "size=4", disk)
        mark = os.open(directory / "fuse/mark", os.O_WRONLY)
        try:
            with _mounted(disk, directory / "recorded"):
                driver.prepare(directory / "recorded")
                os.sync()
                _mark(mark, _START)
                driver.drive(directory / "recorded", lambda text: _mark(mark, text))
        finally:
            os.close(mark)
    with open(log, "rb") as file:
        return list(_events(file))


def _mark(descriptor: int, text: bytes) -> None:
    # at offset 0 always: the file has no length
    os.pwrite(descriptor, text, 0)


def _events(file) -> Iterator[Event]:
    with contextlib.suppress(EOFError):
        while True:
            yield Event(*pickle.load(file))


def crash_states(directory: Path, events: list[Event], count: int, seed: int) -> Iterator[CrashState]:
    """``count`` states after cuts at various points, half of them right after a mark, each mounted in its turn."""
    chance = random.Random(seed)
    start = next(index for index, event in enumerate(events) if event.data == _START and event.kind == "mark")
    # what is on the disk for certain, up to the events[:known]
    durable, known = bytearray(DISK_SIZE), 0
    made = 0
    for point in _points(events, start, count, chance):
        flushed = max((i for i in range(known, point) if events[i].kind == "flush"), default=known)
        for event in events[known:flushed]:
            _apply(durable, event)
        known = flushed
        pending = [event for event in events[known:point] if event.kind == "write"]
        marks = [event.data for event in events[start + 1 : point] if event.kind == "mark"]
        for variant in ("none", "all", "some")[: count - made]:
            disk = bytearray(durable)
            for event in _survivors(pending, variant, chance):
                _apply(disk, event)
            made += 1
            # A file of its own each time: someone's new mount namespace may hold on to a file system that was unmounted
            # here, and a second mount of the same image would show that one, as it was.
            image = directory / f"image{made}"
            image.write_bytes(disk)
            with _mounted(image, directory / "crashed"):
                yield CrashState(directory / "crashed", marks, point, variant)
            image.unlink()


def _points(events: list[Event], start: int, count: int, chance: random.Random) -> list[int]:
    wanted = -(-count // 3)
    after_marks = [index + 1 for index in range(start + 1, len(events)) if events[index].kind == "mark"]
    points = set(chance.sample(after_marks, min(len(after_marks), wanted // 2)))
    others = [point for point in range(start + 1, len(events) + 1) if point not in points]
    points.update(chance.sample(others, wanted - len(points)))
    return sorted(points)


def _survivors(pending: list[Event], variant: str, chance: random.Random) -> list[Event]:
    if variant == "none":
        return []
    if variant == "all":
        return pending
    blocks = [
        Event("write", event.offset + start, event.data[start : start + _BLOCK])
        for event in pending
        for start in range(0, len(event.data), _BLOCK)
    ]
    return [block for block in blocks if chance.random() < 0.5]


def _apply(disk: bytearray, event: Event) -> None:
    if event.kind == "write":
        disk[event.offset : event.offset + len(event.data)] = event.data
