"""Power cuts: record what disks are told while a system works, then rebuild them as they may be after a cut.

At a cut everything that was written to a disk before its last completed flush is on it. Of what was written since, any
part may be, block by block. ``crash_states`` makes such disks; each is mounted, which replays the file system's
journal, and is given to a check together with the marks made before the cut.
"""

import contextlib
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_BLOCK = 4096
_START, _FLUSHED = b"start", b"flushed"
_PATIENCE = 10


class FileSystem(NamedTuple):
    """A kind of file system: how it is made, how large, how it is mounted."""

    name: str
    make: tuple[str, ...]
    size: int
    options: str


EXT4 = FileSystem("ext4", ("mkfs.ext4", "-q", "-F", "-J", "size=4"), 32 << 20, "loop")
# mkfs.xfs has its own opinion of disks as small as this. Without a uuid check an image may be mounted beside another.
XFS = FileSystem("xfs", ("mkfs.xfs", "-q", "-f", "-K", "--unsupported", "-l", "size=10m"), 64 << 20, "loop,nouuid")
FILE_SYSTEMS = {"ext4": EXT4, "xfs": XFS}


def unsupported(file_system):
    """Why disks of this kind cannot be made or mounted here; empty if they can."""
    if not shutil.which(file_system.make[0]):
        return f"no {file_system.make[0]}"
    kernel = Path("/proc/filesystems").read_text().split()
    if file_system.name not in kernel:
        subprocess.run(["modprobe", file_system.name], capture_output=True)
        if file_system.name not in Path("/proc/filesystems").read_text().split():
            return f"this kernel has no {file_system.name}"
    return ""


class Event(NamedTuple):
    kind: str
    disk: int
    offset: int
    data: bytes


class CrashState(NamedTuple):
    """File systems after a cut, mounted at ``roots``, and the marks made before the cut."""

    roots: list[Path]
    marks: list[bytes]
    # which event the cut came before, and what became of the writes since the last flushes
    point: int
    variant: str


def run(*command):
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
def mounted(image, root, options="loop"):
    root.mkdir(exist_ok=True)
    run("mount", "-o", options, image, root)
    try:
        yield
    finally:
        run("umount", root)


@contextlib.contextmanager
def _disks(mountpoint, log, sizes):
    mountpoint.mkdir()
    script = Path(__file__).with_name("disk.py")
    with open(log.with_suffix(".err"), "wb") as errors:
        process = subprocess.Popen([sys.executable, script, mountpoint, log, *map(str, sizes)], stderr=errors)
    try:
        end = time.monotonic() + _PATIENCE
        while not (mountpoint / "mark").exists():
            assert process.poll() is None, log.with_suffix(".err").read_text()
            assert time.monotonic() < end, "the FUSE disks did not come up"
            time.sleep(0.02)
        yield
    finally:
        subprocess.run(["umount", "-l", mountpoint], check=False, capture_output=True)
        process.terminate()
        process.wait(10)


class Recording:
    """Disks under observation: fresh file systems at ``roots``, and what they are told."""

    def __init__(self, directory, file_system, roots):
        self._directory = directory
        self._log = directory / "log"
        self.file_system = file_system
        self.roots = [Path(root) for root in roots]
        self._mark = -1

    @contextlib.contextmanager
    def running(self):
        fuse, kind = self._directory / "fuse", self.file_system
        with contextlib.ExitStack() as stack:
            stack.enter_context(_disks(fuse, self._log, [kind.size] * len(self.roots)))
            for number, root in enumerate(self.roots):
                run(*kind.make, fuse / str(number))
                stack.enter_context(mounted(fuse / str(number), root, kind.options))
            self._mark = os.open(fuse / "mark", os.O_WRONLY)
            stack.callback(os.close, self._mark)
            yield self

    def start(self):
        """What was done until now no power cut interrupts."""
        self.flush()
        self.mark(_START)

    def mark(self, text):
        """Puts a mark between what was written until now and what comes; threads may call it."""
        # at offset 0 always: the file has no length
        os.pwrite(self._mark, text, 0)

    def break_disks(self):
        """From now on each write and flush fails."""
        (self._directory / "fuse/broken").write_bytes(b"x")

    def flush(self):
        """Has everything written that is still in memory, on one disk after the other."""
        for root in self.roots:
            run("sync", "--file-system", root)
            self.mark(_FLUSHED)

    def events(self):
        """What the disks were told."""
        with open(self._log, "rb") as file, contextlib.suppress(EOFError):
            while True:
                yield Event(*pickle.load(file))


class _Image:
    """What is on a disk for certain, in a file of its own, and what was written since."""

    def __init__(self, path, size):
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 -- closed by close()
        self._file.truncate(size)
        self._path = path
        self.pending = []

    def tell(self, event):
        if event.kind == "write":
            self.pending.append(event)
        else:
            _apply(self._file, self.pending)
            self.pending = []

    def copy(self, path, survivors):
        """The disk after a cut that some of the pending writes survived."""
        run("cp", "--sparse=always", "--reflink=auto", self._path, path)
        with open(path, "r+b", buffering=0) as file:
            _apply(file, survivors)

    def close(self):
        self._file.close()


def _apply(file, events):
    for event in events:
        os.pwrite(file.fileno(), event.data, event.offset)


def crash_states(
    directory, recording, count, seed, points=None, variants=("none", "all", "some")
) -> Iterator[CrashState]:
    """``count`` states after cuts, half of them right after a mark, and after each flush, each mounted in its turn.

    ``variants``: what becomes of pending writes. ``points``: how to choose the cuts, given all events and the index of
    the first.
    """
    chance = random.Random(seed)
    events = list(recording.events())
    start = next(index for index, event in enumerate(events) if event.kind == "mark" and event.data == _START)
    cuts = points(events, start) if points else _points(events, start, -(-count // len(variants)), chance)
    kind = recording.file_system
    images = [_Image(directory / f"disk{number}", kind.size) for number in range(len(recording.roots))]
    made = told = 0
    marks: list[bytes] = []
    try:
        for point in cuts:
            for index in range(told, point):
                event = events[index]
                if event.kind != "mark":
                    images[event.disk].tell(event)
                elif index > start and event.data != _FLUSHED:
                    marks.append(event.data)
            told = point
            for variant in variants[: count - made]:
                made += 1
                with _crashed(
                    directory, kind, images, made, [_survivors(i.pending, variant, chance) for i in images]
                ) as roots:
                    yield CrashState(roots, list(marks), point, variant)
    finally:
        for image in images:
            image.close()


@contextlib.contextmanager
def _crashed(directory, kind, images, number, survivors):
    # A file of its own each time: someone's new mount namespace may hold on to a file system that was unmounted
    # here, and a second mount of the same image would show that one, as it was.
    paths = [directory / f"crashed{number}.{disk}" for disk in range(len(images))]
    roots = [directory / f"root{disk}" for disk in range(len(images))]
    with contextlib.ExitStack() as stack:
        for image, path, root, writes in zip(images, paths, roots, survivors, strict=True):
            stack.callback(path.unlink, missing_ok=True)
            image.copy(path, writes)
            stack.enter_context(mounted(path, root, kind.options))
        yield roots


def _points(events, start, wanted, chance):
    marks = [index for index in range(start + 1, len(events)) if events[index].kind == "mark"]
    after_marks = [index + 1 for index in marks]
    flushed = [index + 1 for index in marks if events[index].data == _FLUSHED]
    points = {*flushed, *chance.sample(after_marks, min(len(after_marks), wanted // 2))}
    others = [point for point in range(start + 1, len(events) + 1) if point not in points]
    points.update(chance.sample(others, max(0, min(len(others), wanted - len(points)))))
    return sorted(points)


def _survivors(pending, variant, chance):
    if variant == "none":
        return []
    if variant == "all":
        return pending
    blocks = [
        Event("write", event.disk, event.offset + start, event.data[start : start + _BLOCK])
        for event in pending
        for start in range(0, len(event.data), _BLOCK)
    ]
    return [block for block in blocks if chance.random() < 0.5]
