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

_CHUNK = 65536


class NotAPipe(ValueError):
    """A descriptor that is something else."""


class PipeReader:
    """Reads a pipe to its end.

    ``on_data`` gets what arrives, ``on_end`` is called once, at the end, with the error that was the end or None. The
    descriptor is the reader's from now on, unless NotAPipe is raised.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        on_data: Callable[[bytes], None],
        on_end: Callable[[OSError | None], None],
    ) -> None:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            raise NotAPipe("not a pipe")
        self._loop = loop
        self._fd = fd
        self._on_data = on_data
        self._on_end = on_end
        self._own_out, self._own_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            moved = os.splice(self._fd, self._own_in, _CHUNK, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
            data = os.read(self._own_out, moved) if moved else b""
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._on_data(data)
        else:
            self._end(None)

    def _end(self, error: OSError | None) -> None:
        self.close()
        self._on_end(error)

    def close(self) -> None:
        """Reads no more; ``on_end`` is not called."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            for fd in (self._fd, self._own_out, self._own_in):
                os.close(fd)
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
