"""FUSE files that are disks with a memory: every write and flush is logged in one order, and so are marks.

Run as ``disk.py MOUNTPOINT LOG SIZE...``. MOUNTPOINT/0, 1 ... are to be loop-mounted. What is written to
MOUNTPOINT/mark becomes a mark between the writes that were finished before it and those that come after it. Once
anything was written to MOUNTPOINT/broken, each write and flush fails. The log is a sequence of pickled tuples:
("write", disk, offset, data), ("flush", disk, 0, b""), ("mark", 0, 0, text).
"""

import ctypes
import errno
import pickle
import signal
import stat
import sys

try:
    from fusepy import FUSE, FuseOSError, Operations
except ImportError:
    from fuse import FUSE, FuseOSError, Operations  # the same library, as PyPI has it

_SET_PARENT_DEATH_SIGNAL = 1
_CONTROLS = frozenset(("/broken", "/mark"))


class Disks(Operations):
    """The disks and the marks. One thread, so that there is one order of things."""

    def __init__(self, sizes, log):
        self._disks = {f"/{number}": (number, bytearray(size)) for number, size in enumerate(sizes)}
        self._log = log
        self._broken = False

    def _note(self, kind, disk, offset, data):
        pickle.dump((kind, disk, offset, data), self._log)
        self._log.flush()

    def getattr(self, path, _handle=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path not in self._disks and path not in _CONTROLS:
            raise FuseOSError(errno.ENOENT)
        size = len(self._disks[path][1]) if path in self._disks else 0
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size}

    def readdir(self, _path, _handle):
        return [".", "..", *(path[1:] for path in (*_CONTROLS, *self._disks))]

    def open(self, _path, _flags):
        return 0

    def truncate(self, _path, _length, _handle=None):
        return 0

    def read(self, path, size, offset, _handle):
        return bytes(self._disks[path][1][offset : offset + size]) if path in self._disks else b""

    def write(self, path, data, offset, _handle):
        if path in self._disks:
            self._check()
            number, blocks = self._disks[path]
            blocks[offset : offset + len(data)] = data
            self._note("write", number, offset, data)
        elif path == "/mark":
            self._note("mark", 0, 0, data)
        else:
            self._broken = True
        return len(data)

    def fsync(self, path, _data_only, _handle):
        self._check()
        self._note("flush", self._disks[path][0], 0, b"")
        return 0

    def _check(self):
        if self._broken:
            raise FuseOSError(errno.EIO)


def main():
    mountpoint, log, *sizes = sys.argv[1:]
    # The disks end with the test, whatever ends the test.
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    with open(log, "wb") as file:
        disks = Disks([int(size) for size in sizes], file)
        FUSE(disks, mountpoint, foreground=True, nothreads=True, big_writes=True, max_write=131072)


if __name__ == "__main__":
    main()
