"""Small files of the system that change now and then: read again when they did."""

import os
import stat


class WatchedFile:
    """A text file. ``limit`` bytes of it are read; a file that is not there is empty."""

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> str | None:
        """Its text, if it is not the one that was read last."""
        try:
            found = os.stat(self.path)
            mark = (found.st_ino, found.st_size, found.st_mtime_ns)
            if mark == self._seen:
                return None
            text = self._read() if stat.S_ISREG(found.st_mode) else ""
        except OSError:
            mark, text = (0, 0, 0), ""
            if mark == self._seen:
                return None
        self._seen = mark
        return text

    def _read(self) -> str:
        with open(self.path, "rb") as file:
            return file.read(self._limit).decode("utf-8", "replace")
