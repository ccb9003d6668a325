"""Both halves of Varlink for code without an event loop: commands, and forked workers."""

import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from pyfix.service.calling import CALL_TIMEOUT, CONNECT_PATIENCE, Codec, Unavailable
from pyfix.service.dispatch import Connection, Implementation, close_fds, decode_request, encode_error, encode_reply
from pyfix.service.interface import Interface, ServiceError
from pyfix.system.unix import BlockingChannel, connect_patiently, peer_of
from pyfix.wire.varlink import FramingError


class BlockingClient:
    """One connection for code without an event loop. Raises Unavailable where Client does."""

    def __init__(self, interface: Interface, path: str, timeout: float | None = CALL_TIMEOUT) -> None:
        self._codec = Codec(interface)
        self._path = path
        try:
            sock = connect_patiently(path, CONNECT_PATIENCE)
        except OSError as error:
            raise Unavailable(f"connect to {path}: {error.strerror}") from None
        self._channel = BlockingChannel(sock, timeout)

    def send(self, method: str, parameters: msgspec.Struct, fds: Sequence[int] = ()) -> None:
        """Sends a call ahead; read its reply with receive()."""
        self._transmit(self._codec.encode(method, parameters), fds)

    def receive(self, method: str) -> Any:
        """The reply of the oldest call sent ahead, which was of this method."""
        return self._codec.decode(method, self._receive())[0]

    def call(self, method: str, parameters: msgspec.Struct, fds: Sequence[int] = ()) -> Any:
        """Calls and returns the reply struct."""
        self.send(method, parameters, fds)
        return self.receive(method)

    def stream(self, method: str, parameters: msgspec.Struct) -> Iterator[Any]:
        """Calls with more; yields each reply."""
        self._transmit(self._codec.encode(method, parameters, b'"more":true,'), ())
        continues = True
        while continues:
            reply, continues = self._codec.decode(method, self._receive())
            yield reply

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def _transmit(self, message: bytes, fds: Sequence[int]) -> None:
        try:
            self._channel.send(message, fds)
        except OSError as error:
            raise Unavailable(f"{self._path}: {error}") from None

    def _receive(self) -> bytes:
        try:
            frame = self._channel.receive()
        except (OSError, FramingError) as error:
            raise Unavailable(f"{self._path}: {error}") from None
        if frame is None:
            raise Unavailable(f"{self._path}: connection lost")
        for fd in frame.fds:
            os.close(fd)
        return frame.data


def serve_blocking(implementation: Implementation, sock: socket.socket, idle_timeout: float | None) -> None:
    """Serves a connection until its peer closes it or ``idle_timeout`` seconds pass between calls.

    The last call of a peer that has gone is not carried out. Handlers are plain functions. Exceptions other than
    ServiceError are bugs and propagate.
    """
    connection = Connection(peer_of(sock))
    channel = BlockingChannel(sock, idle_timeout)
    try:
        while (frame := channel.receive()) is not None:
            fds = list(frame.fds)
            if channel.abandoned():
                # Nobody will know that it was done: a queue manager that was ended meanwhile asks for it again.
                close_fds(fds)
                return
            try:
                request = decode_request(frame.data)
                entry, call = implementation.begin(request, fds, connection)
                reply = encode_reply(entry.handler(call))  # type: ignore[arg-type] # plain functions only, see above
            except ServiceError as error:
                reply = encode_error(error)
            finally:
                close_fds(fds)
            if not request.oneway:
                channel.send(reply)
    except (OSError, FramingError, msgspec.DecodeError):
        # The peer went away, fell silent or talks nonsense: the end of this connection and of nothing else.
        return
    finally:
        for callback in connection.on_close:
            callback()
        channel.close()
