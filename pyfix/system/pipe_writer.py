"""Content on its way into a pipe from an event loop, as fast as the other end takes it."""

import asyncio
import os
from collections.abc import Callable


class PipeWriter:
    """Writes to a pipe, and keeps what it does not take yet.

    ``fd`` does not block; it is the writer's from now on. ``on_full`` is called when the pipe takes no more; nobody
    needs to read before. Whoever writes should stop while ``held`` is not zero, until ``on_room`` is called. When
    nobody reads any more what is written is dropped: the reader has its reasons, and tells them otherwise.
    ``held`` is how many bytes the pipe did not take yet.
    """

    __slots__ = ("_chunks", "_ending", "_fd", "_loop", "_on_full", "_on_room", "_waiting", "held")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        on_room: Callable[[], None],
        on_full: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_room = on_room
        self._on_full = on_full
        self._chunks: list[bytes] = []
        self.held = 0
        self._waiting = False
        self._ending = False

    def write(self, data: bytes) -> None:
        """Writes what the pipe takes now, and keeps the rest."""
        if self._fd < 0:
            return
        self._chunks.append(data)
        self.held += len(data)
        if not self._waiting:
            self._flush()

    def finish(self) -> None:
        """Closes the pipe as soon as it has taken everything."""
        self._ending = True
        if not self._chunks:
            self.close()

    def close(self) -> None:
        """Closes the pipe; what is held is dropped."""
        self._chunks.clear()
        self.held = 0
        if self._fd >= 0:
            self._wait(wanted=False)
            os.close(self._fd)
            self._fd = -1

    def _flush(self) -> None:
        try:
            while self._chunks:
                data = self._chunks[0]
                written = os.write(self._fd, data)
                self.held -= written
                if written < len(data):
                    self._chunks[0] = data[written:]
                else:
                    self._chunks.pop(0)
        except BlockingIOError:
            self._wait(wanted=True)
            self._on_full()
            return
        except BrokenPipeError:
            self.close()
        else:
            self._wait(wanted=False)
            if self._ending:
                self.close()

    def _writable(self) -> None:
        self._flush()
        if not self._chunks:
            self._on_room()

    def _wait(self, *, wanted: bool) -> None:
        if wanted and not self._waiting:
            self._loop.add_writer(self._fd, self._writable)
        elif self._waiting and not wanted:
            self._loop.remove_writer(self._fd)
        self._waiting = wanted
