"""A durable file that is made when its first bytes are written.

Making a file can wait for the file system's journal as long as an fsync does. A writer that holds a small file's
bytes until the end makes, writes and flushes it at once, in a thread, and its event loop waits for nothing. What never
got that far has never been on the disk.
"""

from pyfix.system.durable import Data, DurableFile


class LateFile(DurableFile):
    """As DurableFile, but ``write`` and ``commit`` make the file, and raise what making it raises."""

    __slots__ = ("_made",)

    def __init__(self, name: str, directory: int | None = None) -> None:
        self.name = name
        self.directory = directory
        self.size = 0
        self._descriptor = -1
        self._made = False

    def _make(self) -> None:
        if not self._made:
            self._made = True
            super().__init__(self.name, self.directory)

    def write(self, data: Data) -> None:
        """Make the file if need be, and add all of ``data``; on error the file is removed."""
        self._make()
        super().write(data)

    def commit(self, mode: int = 0o700) -> None:
        """Make the file durable, with its name and with ``mode``, and close it; on error it is removed."""
        self._make()
        super().commit(mode)
