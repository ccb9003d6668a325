"""A framed connection with file descriptors, in an event loop.

A channel owns its socket. Descriptors that arrive belong to whoever takes the frame; those of a broken stream are
closed here.
"""

import asyncio
import errno
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable, Sequence

from pyfix.system.unix import MESSAGE_LIMIT, close_all, receive, receive_data
from pyfix.wire.varlink import Frame, Framer, FramingError


class Channel:
    """A framed connection in an event loop.

    ``on_frame`` gets each message; ``on_close`` is called once, with the error that ended the connection or None at its
    plain end or after close(). Neither is called after close() returns. Without ``fds`` no descriptor gets in.
    """

    __slots__ = (
        "_drained",
        "_framer",
        "_loop",
        "_paused",
        "_queue",
        "_receive",
        "_send_error",
        "_sock",
        "on_close",
        "on_frame",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, *, fds: bool = True) -> None:
        self._loop = loop
        self._receive = receive if fds else receive_data
        self._sock: socket.socket | None = sock
        self._framer = Framer(MESSAGE_LIMIT)
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._paused = False
        self._send_error: OSError | None = None
        self._drained: asyncio.Future[None] | None = None
        self.on_frame: Callable[[Frame], None] = _ignore_frame
        self.on_close: Callable[[OSError | FramingError | None], None] = _ignore_close
        loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._sock is None

    @property
    def sending(self) -> bool:
        """Whether the peer has yet to read, before all is in its socket's buffer."""
        return bool(self._queue)

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Sends a message (its NUL included) now or as soon as the peer reads; the descriptors stay the caller's."""
        if self._sock is None:
            return
        if self._queue:
            self._queue.append((message, tuple(map(os.dup, fds))))
            return
        sent = self._send_now(message, fds)
        if sent == 0 or (sent is not None and sent < len(message)):
            # Descriptors go with the first byte: once one byte is out they are too.
            self._queue.append((message[sent:], tuple(map(os.dup, fds)) if sent == 0 else ()))
            self._loop.add_writer(self._sock.fileno(), self._writable)

    async def drained(self) -> None:
        """Waits until the peer has read all but what its socket buffer holds, or is gone."""
        if self._queue and self._sock is not None:
            self._drained = self._drained or self._loop.create_future()
            await asyncio.shield(self._drained)

    def _wake_drained(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def _send_now(self, message: bytes, fds: Sequence[int]) -> int | None:
        """The bytes sent, or None when the connection broke."""
        assert self._sock is not None
        try:
            if fds:
                return self._sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))])
            return self._sock.send(message)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            # The peer's last words may still be unread: the reader finds the end.
            self._send_error = error
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                self._end(error)
            return None

    def _writable(self) -> None:
        while self._queue and self._sock is not None:
            message, fds = self._queue[0]
            sent = self._send_now(message, fds)
            if sent == 0:
                return
            for fd in fds:
                os.close(fd)
            if sent is None:
                self._queue.popleft()
            elif sent < len(message):
                self._queue[0] = (message[sent:], ())
                return
            else:
                self._queue.popleft()
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
        self._wake_drained()

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            data, fds = self._receive(self._sock)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            close_all(fds)
            self._end(self._send_error)
            return
        try:
            frames = self._framer.feed(data, fds)
        except FramingError as error:
            close_all(fds)
            self._end(error)
            return
        for frame in frames:
            if self.closed:  # by the frame before this one
                close_all(frame.fds)
            else:
                self.on_frame(frame)

    def pause(self) -> None:
        """Stops reading: back-pressure on the peer."""
        if self._sock is not None and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._sock.fileno())

    def resume(self) -> None:
        """Reads again."""
        if self._sock is not None and self._paused:
            self._paused = False
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def unread(self) -> bool:
        """Whether the peer has sent something that was not read yet."""
        if self._sock is None:
            return False
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return False

    def close(self) -> None:
        """Ends the connection; what is queued is dropped."""
        self.on_close = _ignore_close
        self._end(None)

    def _end(self, error: OSError | FramingError | None) -> None:
        if self._sock is None:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._sock = None
        close_all(self._framer.pending_fds())
        for _, fds in self._queue:
            close_all(fds)
        self._queue.clear()
        self._wake_drained()
        on_close, self.on_close, self.on_frame = self.on_close, _ignore_close, _ignore_frame
        on_close(error)


def _ignore_frame(frame: Frame) -> None:
    close_all(frame.fds)


def _ignore_close(_error: OSError | FramingError | None) -> None:
    return
