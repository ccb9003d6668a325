"""Unix sockets that carry framed messages with file descriptors: for event loops and for blocking code.

A channel owns its socket. Descriptors that arrive belong to whoever takes the frame; those of a broken stream are
closed here.
"""

import asyncio
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from pyfix.wire.varlink import Frame, Framer, FramingError

MESSAGE_LIMIT = 2 * 1024 * 1024
"""Bytes in a message: room for an envelope of 1,000 long recipients."""

_FDS_LIMIT = 8
_READ_SIZE = 32 * 1024
_ANCILLARY_SIZE = socket.CMSG_SPACE(_FDS_LIMIT * 4)
_PATH_LIMIT = 107
# What a peer can see of a full backlog or a service that is being restarted: worth a moment's patience.
CONNECT_AGAIN = (errno.EAGAIN, errno.ECONNREFUSED, errno.ENOENT)


class Peer(NamedTuple):
    """Who is at the other end, by SO_PEERCRED: the process that called connect()."""

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Peer:
    """The credentials of a connected Unix socket's peer."""
    return Peer(*struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """A name for ``path`` that fits into a socket address, valid within the context."""
    if len(os.fsencode(path)) <= _PATH_LIMIT:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def connect(path: str) -> socket.socket:
    """A non-blocking socket connected to ``path``. Raises OSError; EAGAIN when the backlog is full."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with short_path(path) as name:
            sock.connect(name)
    except OSError:
        sock.close()
        raise
    return sock


class Channel:
    """A framed connection in an event loop.

    ``on_frame`` gets each message; ``on_close`` is called once, with the error that ended the connection or None at its
    plain end or after close(). Neither is called after close() returns.
    """

    __slots__ = ("_framer", "_loop", "_paused", "_queue", "_send_error", "_sock", "on_close", "on_frame")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._framer = Framer(MESSAGE_LIMIT)
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._paused = False
        self._send_error: OSError | None = None
        self.on_frame: Callable[[Frame], None] = _ignore_frame
        self.on_close: Callable[[OSError | FramingError | None], None] = _ignore_close
        loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._sock is None

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

    def _send_now(self, message: bytes, fds: Sequence[int]) -> int | None:
        """The bytes sent, or None when the connection broke."""
        assert self._sock is not None
        try:
            if fds:
                return socket.send_fds(self._sock, [message], list(fds))
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

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            data, fds = _receive(self._sock)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            _close_all(fds)
            self._end(self._send_error)
            return
        try:
            frames = self._framer.feed(data, fds)
        except FramingError as error:
            _close_all(fds)
            self._end(error)
            return
        for frame in frames:
            if self.closed:  # by the frame before this one
                _close_all(frame.fds)
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
        _close_all(self._framer.pending_fds())
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        on_close, self.on_close, self.on_frame = self.on_close, _ignore_close, _ignore_frame
        on_close(error)


class BlockingChannel:
    """A framed connection for commands and forked workers. ``timeout`` is in seconds, None for ever."""

    def __init__(self, sock: socket.socket, timeout: float | None) -> None:
        sock.settimeout(timeout)
        self._sock = sock
        self._framer = Framer(MESSAGE_LIMIT)
        self._frames: deque[Frame] = deque()

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Sends a message, its NUL included. Raises OSError, TimeoutError among them."""
        sent = socket.send_fds(self._sock, [message], list(fds)) if fds else 0
        self._sock.sendall(message[sent:])

    def receive(self) -> Frame | None:
        """The next message, None at the end. Raises OSError (TimeoutError among them) and FramingError."""
        while not self._frames:
            data, fds = _receive(self._sock)
            if not data:
                _close_all(fds)
                return None
            try:
                self._frames.extend(self._framer.feed(data, fds))
            except FramingError:
                _close_all(fds)
                raise
        return self._frames.popleft()

    def close(self) -> None:
        """Ends the connection."""
        self._sock.close()
        _close_all(self._framer.pending_fds())
        while self._frames:
            _close_all(self._frames.popleft().fds)


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    data, ancillary, flags, _ = sock.recvmsg(_READ_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
    if not ancillary:
        return data, []
    fds = [
        fd
        for level, kind, payload in ancillary
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
        for (fd,) in struct.iter_unpack("i", payload[: len(payload) // 4 * 4])
    ]
    if flags & socket.MSG_CTRUNC:
        _close_all(fds)
        raise OSError(errno.EMFILE, "descriptors were lost")
    return data, fds


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _ignore_frame(frame: Frame) -> None:
    _close_all(frame.fds)


def _ignore_close(_error: OSError | FramingError | None) -> None:
    return
