"""A FUSE file that is a disk with a memory: every write and flush is logged in order, and so are marks.

Run as ``disk.py MOUNTPOINT SIZE LOG``. MOUNTPOINT/disk is to be loop-mounted. What is written to MOUNTPOINT/mark
becomes a mark between the writes that were finished before it and those that come after it. The log is a sequence of
pickled tuples: ("write", offset, data), ("flush", 0, b""), ("mark", 0, text).
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


class Disk(Operations):
    """Two files: the disk and the marks. One thread, so that there is one order of things."""

    def __init__(self, size, log):
        self._blocks = bytearray(size)
        self._log = log

    def _note(self, kind, offset, data):
        pickle.dump((kind, offset, data), self._log)
        self._log.flush()

    def getattr(self, path, _handle=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path not in ("/disk", "/mark"):
            raise FuseOSError(errno.ENOENT)
        size = len(self._blocks) if path == "/disk" else 0
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size}

    def readdir(self, _path, _handle):
        return [".", "..", "disk", "mark"]

    def open(self, _path, _flags):
        return 0

    def truncate(self, _path, _length, _handle=None):
        return 0

    def read(self, path, size, offset, _handle):
        return bytes(self._blocks[offset : offset + size]) if path == "/disk" else b""

    def write(self, path, data, offset, _handle):
        if path == "/disk":
            self._blocks[offset : offset + len(data)] = data
            self._note("write", offset, data)
        else:
            self._note("mark", 0, data)
        return len(data)

    def fsync(self, _path, _data_only, _handle):
        self._note("flush", 0, b"")
        return 0


def main():
    mountpoint, size, log = sys.argv[1:]
    # The disk ends with the test, whatever ends the test.
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    with open(log, "wb") as file:
        FUSE(Disk(int(size), file), mountpoint, foreground=True, nothreads=True, big_writes=True, max_write=131072)


if __name__ == "__main__":
    main()
