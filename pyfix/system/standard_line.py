"""Standard input and output as a line of bytes to whoever runs this program, in an event loop.

Their status flags are shared with the caller and stay as they are: input is read when there is some, and output is
waited for, since this process has nobody else to serve.
"""

import asyncio
import os
import stat
from collections.abc import Callable

_READ_SIZE = 65536


class StandardLine:
    """The line; ``closed`` is set by close(). Calls what listen() was given only when the loop runs again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = asyncio.Event()
        self._loop = loop
        # select(2) and its like know no regular files: these are always ready.
        self._always_ready = stat.S_ISREG(os.fstat(0).st_mode)
        self._wanted = False
        self._ended = False

    def listen(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """Says who gets what comes in, and who is told of its end."""
        self._on_data = on_data
        self._on_end = on_end

    def write(self, data: bytes) -> None:
        """Sends bytes."""
        try:
            while data:
                data = data[os.write(1, data) :]
        except BrokenPipeError:
            self._end()

    def close(self) -> None:
        """No more is read or sent."""
        self._ended = True
        self.read(wanted=False)
        self.closed.set()

    def read(self, *, wanted: bool) -> None:
        """Goes on reading, or stops."""
        if wanted == self._wanted or (wanted and self._ended):
            return
        self._wanted = wanted
        if self._always_ready:
            self._loop.call_soon(self._readable)
        elif wanted:
            self._loop.add_reader(0, self._readable)
        else:
            self._loop.remove_reader(0)

    def _readable(self) -> None:
        if not self._wanted:
            return
        data = os.read(0, _READ_SIZE)
        if not data:
            self._end()
            return
        self._on_data(data)
        if self._always_ready and self._wanted:
            self._loop.call_soon(self._readable)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.read(wanted=False)
            self._loop.call_soon(self._tell_end)

    def _tell_end(self) -> None:
        self._on_end()
