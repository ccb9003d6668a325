"""Pipes to and from other processes in an event loop: content on its way.

The reading side trusts nobody: whoever holds the other end of a pipe shares its status flags with this process and can
make it blocking again at any moment. So nothing is read from it directly. splice(2) moves what is there into a pipe
of our own, never waiting whatever the flags say.

Source: splice(2), pipe(7).
"""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable
from functools import cache

_CHUNK = 65536
# Chunks that are read at a time: others want to be served as well.
_TURN = 4


class NotAPipe(ValueError):
    """A descriptor that is something else."""


class _Basin:
    """A pipe of this process's own, empty between calls, through which everything comes in."""

    def __init__(self) -> None:
        self._out = self._in = -1

    def read(self, fd: int) -> bytes:
        """What is in the pipe ``fd``, a chunk of it; nothing at its end. Raises BlockingIOError and OSError."""
        if self._in < 0:
            self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        moved = os.splice(fd, self._in, _CHUNK, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
        try:
            return os.read(self._out, moved) if moved else b""
        except BaseException:
            # What is in there now must not come out as part of another message.
            ends, self._out, self._in = (self._out, self._in), -1, -1
            for end in ends:
                os.close(end)
            raise


@cache
def _basin() -> _Basin:
    return _Basin()


class PipeReader:
    """Reads a pipe to its end.

    ``on_data`` gets what arrives, ``on_end`` is called once, at the end, with the error that was the end or None.
    Nothing is called before start(). The descriptor is the reader's from now on, unless NotAPipe is raised.
    """

    __slots__ = ("_fd", "_loop", "_on_data", "_on_end", "_read", "_waiting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        on_data: Callable[[bytes], None],
        on_end: Callable[[OSError | None], None],
    ) -> None:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            raise NotAPipe("not a pipe")
        self._read = _basin().read
        self._loop = loop
        self._fd = fd
        self._on_data = on_data
        self._on_end = on_end
        self._waiting = False

    def start(self) -> None:
        """Reads what is there, at once, and the rest as it comes."""
        self._readable()
        if self._fd >= 0:
            self._waiting = True
            self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        for _ in range(_TURN):
            try:
                data = self._read(self._fd)
            except BlockingIOError:
                return
            except OSError as error:
                self._end(error)
                return
            if not data:
                self._end(None)
                return
            self._on_data(data)
            if self._fd < 0:
                return

    def _end(self, error: OSError | None) -> None:
        self.close()
        self._on_end(error)

    def close(self) -> None:
        """Reads no more; ``on_end`` is not called."""
        if self._fd >= 0:
            if self._waiting:
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def open_pipe() -> tuple[int, int]:
    """The reading and the writing end of a new pipe; the writing end does not block."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)
    return reading, writing


async def write_pipe(fd: int, chunks: Iterable[bytes]) -> bool:
    """Writes all chunks, waiting while the pipe is full; whether there was somebody to read them to the end.

    ``fd`` does not block and stays the caller's. Raises OSError, and what the iterator raises.
    """
    loop = asyncio.get_running_loop()
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:
                    await _writable(loop, fd)
    except BrokenPipeError:
        return False
    return True


async def _writable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    ready: asyncio.Future[None] = loop.create_future()

    def on_writable() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(fd, on_writable)
    try:
        await ready
    finally:
        loop.remove_writer(fd)
