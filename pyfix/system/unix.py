"""Unix sockets that carry framed messages with file descriptors.

A channel owns its socket. Descriptors that arrive belong to whoever takes the frame; those of a broken stream are
closed here.
"""

import errno
import os
import resource
import socket
import struct
import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from pyfix.wire.varlink import Frame, Framer, FramingError

MESSAGE_LIMIT = 2 * 1024 * 1024
"""Bytes in a message: room for an envelope of 1,000 long recipients."""

DESCRIPTORS_IN_MESSAGE = 8
"""Descriptors that can come with a message."""

_READ_SIZE = 32 * 1024
_ANCILLARY_SIZE = socket.CMSG_SPACE(DESCRIPTORS_IN_MESSAGE * 4)
# Plain numbers: enum's operators cost more than the rest of a receive().
_TRUNCATED = int(socket.MSG_CTRUNC)
_PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
_TIMED_OUT = "timed out"
_PATH_LIMIT = 107
_BACKLOG_PAUSE = 0.02
# What a peer can see of a full backlog or a service that is being restarted: worth a moment's patience.
CONNECT_AGAIN = (errno.EAGAIN, errno.ECONNREFUSED, errno.ENOENT)


class Peer(NamedTuple):
    """Who is at the other end, by SO_PEERCRED: the process that called connect()."""

    pid: int
    uid: int
    gid: int


def descriptor_limit() -> int:
    """How many descriptors this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


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


def connect_patiently(path: str, patience: float) -> socket.socket:
    """As connect(), but waits up to ``patience`` seconds for a full backlog. That nobody listens is told at once."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_BACKLOG_PAUSE)


class BlockingChannel:
    """A framed connection for commands and forked workers. ``timeout`` is in seconds, None for ever."""

    def __init__(self, sock: socket.socket, timeout: float | None) -> None:
        # The kernel keeps the time: Python would call poll() before everything else.
        sock.settimeout(None)
        if timeout is not None:
            limit = struct.pack("ll", int(timeout), int(timeout % 1 * 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._sock = sock
        self._framer = Framer(MESSAGE_LIMIT)
        self._frames: deque[Frame] = deque()

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Sends a message, its NUL included. Raises OSError, TimeoutError among them."""
        try:
            sent = socket.send_fds(self._sock, [message], list(fds)) if fds else 0
            if sent < len(message):  # even sendall(b"") fails where the peer has answered and gone
                self._sock.sendall(message[sent:])
        except BlockingIOError:
            raise TimeoutError(_TIMED_OUT) from None

    def receive(self) -> Frame | None:
        """The next message, None at the end. Raises OSError (TimeoutError among them) and FramingError."""
        while not self._frames:
            try:
                data, fds = receive(self._sock)
            except BlockingIOError:
                raise TimeoutError(_TIMED_OUT) from None
            if not data:
                close_all(fds)
                return None
            try:
                self._frames.extend(self._framer.feed(data, fds))
            except FramingError:
                close_all(fds)
                raise
        return self._frames.popleft()

    def abandoned(self) -> bool:
        """Whether the peer has gone, and has left nothing to read."""
        try:
            return not self._frames and not self._sock.recv(1, _PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Ends the connection."""
        self._sock.close()
        close_all(self._framer.pending_fds())
        while self._frames:
            close_all(self._frames.popleft().fds)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """What is there to read, and the descriptors that came with it. Raises OSError."""
    data, ancillary, flags, _ = sock.recvmsg(_READ_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
    if not ancillary:
        return data, []
    numbers = array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(payload[: len(payload) // 4 * 4])
    fds = numbers.tolist()
    if flags & _TRUNCATED:
        close_all(fds)
        raise OSError(errno.EMFILE, "descriptors were lost")
    return data, fds


def receive_data(sock: socket.socket) -> tuple[bytes, list[int]]:
    """What is there to read. Descriptors that come with it are not taken: the kernel closes them. Raises OSError."""
    return sock.recv(_READ_SIZE), []


def close_all(fds: Sequence[int]) -> None:
    """Closes descriptors."""
    for fd in fds:
        os.close(fd)
