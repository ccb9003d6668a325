"""Directories watched for files that appear: inotify, and systemd's idea of a directory that is not empty.

Source: inotify(7), systemd.path(5).
"""

import ctypes
import os
import struct

_HEADER = struct.Struct("iIII")
_READ_SIZE = 65536

# from <sys/inotify.h>
_IN_ATTRIB, _IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE = 0x4, 0x8, 0x80, 0x100
_IN_Q_OVERFLOW, _IN_IGNORED, _IN_ONLYDIR = 0x4000, 0x8000, 0x01000000
# A queue file becomes visible by a change of its mode: hence IN_ATTRIB.
_APPEARED = _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Some directories behind one descriptor, which is readable when something may have appeared in one of them.

    For a selector or ``loop.add_reader(watch.fileno(), ...)``. A directory that is removed is no longer watched.
    """

    def __init__(self) -> None:
        """Opens the descriptor; raises OSError (EMFILE: fs.inotify.max_user_instances)."""
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._directories: dict[int, str] = {}

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def add(self, directory: str) -> None:
        """Watches a directory; raises OSError (FileNotFoundError, NotADirectoryError ...)."""
        path = ctypes.c_char_p(os.fsencode(directory))
        self._directories[_checked(_libc.inotify_add_watch(self._fd, path, _APPEARED | _IN_ONLYDIR))] = directory

    def watches(self, directory: str) -> bool:
        """Whether the directory is watched, and was not removed since as far as changed() has seen."""
        return directory in self._directories.values()

    def changed(self) -> frozenset[str]:
        """The directories in which something may have appeared since the last call; never blocks."""
        found: set[str] = set()
        while events := self._read():
            position = 0
            while position < len(events):
                watch, mask, _, length = _HEADER.unpack_from(events, position)
                position += _HEADER.size + length
                if mask & _IN_Q_OVERFLOW:
                    found.update(self._directories.values())
                elif watch in self._directories:
                    found.add(self._directories[watch])
                    if mask & _IN_IGNORED:
                        del self._directories[watch]
        return frozenset(found)

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self._fd)


def holds_files(directory: str) -> bool:
    """Whether DirectoryNotEmpty= holds: something is there that is neither hidden nor a backup (``name~``)."""
    try:
        with os.scandir(directory) as entries:
            return any(not entry.name.startswith(".") and not entry.name.endswith("~") for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
