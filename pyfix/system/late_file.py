"""A durable file that is made when its first bytes are written.

Of a small message, whose bytes are held until the end, what never got that far has never been on the disk.
"""

from pyfix.system.durable import Data, DurableFile


class LateFile(DurableFile):
    """As DurableFile, but ``write``, ``seal`` and ``commit`` make the file, and raise what making it raises."""

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

    def seal(self) -> int:
        """Make the file, if need be, and make it visible: the descriptor, which is to be synced next."""
        self._make()
        return super().seal()
