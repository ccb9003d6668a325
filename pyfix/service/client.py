"""The calling half of Varlink: pooled connections for event loops, one connection for commands and forked workers.

A call that finds nobody, loses its connection or takes too long raises Unavailable. A pooled connection may have been
closed by a service that went idle: a call that the service never read is sent again on a new connection, once.
"""

import asyncio
import errno
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from pyfix.service.interface import Interface, Method, ServiceError
from pyfix.service.server import ExpectedMore, InterfaceNotFound, InvalidParameter, MethodNotFound
from pyfix.system.unix import CONNECT_AGAIN, BlockingChannel, Channel, connect
from pyfix.wire.varlink import Frame, FramingError

CALL_TIMEOUT = 100.0
"""Seconds; a service that takes longer is in trouble. Postfix: ipc_timeout is 3600s, a tenth of an hour is too long."""

_CONNECT_PATIENCE = 5.0
_CONNECT_PAUSE = 0.02
_POOL_LIMIT = 64


class Unavailable(Exception):
    """The service could not be reached, or was lost before it answered. ``args[0]`` says so, for the log."""


class _Reply(msgspec.Struct):
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    error: str = ""
    continues: bool = False


_decode_reply = msgspec.json.Decoder(_Reply).decode
_encode = msgspec.json.Encoder().encode


def socket_path(role: str, interface: str) -> str:
    """Where a role offers an interface: ``/run/pyfix/ROLE/INTERFACE``, below $PYFIX_RUNTIME where that is set."""
    return f"{os.environ.get('PYFIX_RUNTIME') or '/run/pyfix'}/{role}/{interface}"


class _Codec:
    """What client code needs to know of an interface."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self._methods = {m.name: (f"{interface.name}.{m.name}", self._decoder(m)) for m in interface.methods}
        generic: tuple[type[ServiceError], ...] = (ExpectedMore, InterfaceNotFound, InvalidParameter, MethodNotFound)
        self._errors = {e.name: e for e in (*interface.errors, *generic)}

    @staticmethod
    def _decoder(method: Method) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(method.reply)

    def encode(self, method: str, parameters: msgspec.Struct, flag: bytes = b"") -> bytes:
        return b'{"method":"%s",%s"parameters":%s}\0' % (self._methods[method][0].encode(), flag, _encode(parameters))

    def decode(self, method: str, data: bytes) -> tuple[Any, bool]:
        """The reply and whether more follow. Raises the ServiceError that it is, Unavailable if it is neither."""
        try:
            reply = _decode_reply(data)
            if not reply.error:
                return self._methods[method][1].decode(reply.parameters), reply.continues
            known = self._errors.get(reply.error)
            if known is not None:
                raise known(msgspec.json.decode(reply.parameters, type=known.Parameters))
        except msgspec.DecodeError as error:
            raise Unavailable(f"{self.interface.name}: bad reply: {error}") from None
        raise Unavailable(f"{self.interface.name}: unknown error {reply.error}")


class ClientSession:
    """A connection of one's own, for transactions. Calls may be sent ahead; replies come in order."""

    __slots__ = ("_channel", "_client", "_loop", "_pending", "_timer")

    def __init__(self, client: "Client", channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._channel = channel
        self._loop = loop
        self._pending: deque[tuple[str, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        channel.on_frame = self._on_frame
        channel.on_close = self._on_close

    @property
    def closed(self) -> bool:
        """Whether the service has ended the connection."""
        return self._channel.closed

    def send(self, method: str, parameters: msgspec.Struct, fds: Sequence[int] = ()) -> asyncio.Future[Any]:
        """Sends a call; the future gets its reply, a ServiceError or Unavailable. Descriptors stay the caller's."""
        future = self._loop.create_future()
        if self._channel.closed:
            future.set_exception(Unavailable(f"{self._client.path}: connection lost"))
            return future
        self._pending.append((method, future))
        self._channel.send(self._client.codec.encode(method, parameters), fds)
        if self._timer is None and self._client.timeout is not None:
            self._timer = self._loop.call_later(self._client.timeout, self._timed_out)
        return future

    async def call(self, method: str, parameters: msgspec.Struct, fds: Sequence[int] = ()) -> Any:
        """Sends a call and waits for its reply."""
        return await self.send(method, parameters, fds)

    def release(self) -> None:
        """Gives a connection back for reuse; with calls in flight it is closed."""
        if self._pending or self._channel.closed:
            self.close()
        else:
            self._stop_timer()
            self._client.keep(self)

    def close(self) -> None:
        """Ends the connection; the service sees an abort."""
        self._channel.close()
        self._fail(f"{self._client.path}: connection closed")

    def _on_frame(self, frame: Frame) -> None:
        for fd in frame.fds:  # no service answers with descriptors
            os.close(fd)
        if not self._pending:
            self.close()
            return
        method, future = self._pending.popleft()
        if not self._pending:
            self._stop_timer()
        if future.done():
            return
        try:
            future.set_result(self._client.codec.decode(method, frame.data)[0])
        except (ServiceError, Unavailable) as error:
            _fail(future, error)

    def _on_close(self, error: OSError | FramingError | None) -> None:
        unread = isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)
        self._client.drop(self)
        self._fail(f"{self._client.path}: {error or 'connection lost'}", _Unread if unread else Unavailable)

    def _timed_out(self) -> None:
        self._timer = None
        self._channel.close()
        self._fail(f"{self._client.path}: no answer within {self._client.timeout} s")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, message: str, kind: type[Unavailable] = Unavailable) -> None:
        self._stop_timer()
        while self._pending:
            _, future = self._pending.popleft()
            if not future.done():
                _fail(future, kind(message))


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # a call sent ahead may have nobody waiting: that is no mistake


class _Unread(Unavailable):
    """The service went away with the call still unread: it may be sent again."""


class Client:
    """Calls one interface of one role. ``timeout`` is for each call, in seconds, None for ever."""

    def __init__(self, interface: Interface, path: str, timeout: float | None = CALL_TIMEOUT) -> None:
        self.codec = _Codec(interface)
        self.path = path
        self.timeout = timeout
        self._idle: list[ClientSession] = []

    async def session(self) -> ClientSession:
        """A connection, reused or new. Raises Unavailable."""
        while self._idle:
            session = self._idle.pop()
            if not session.closed:
                return session
        return await self._connect()

    async def call(self, method: str, parameters: msgspec.Struct, fds: Sequence[int] = ()) -> Any:
        """Calls and returns the reply struct. Raises the interface's errors, or Unavailable."""
        session = await self.session()
        try:
            reply = await session.send(method, parameters, fds)
        except _Unread:
            session = await self._connect()
            try:
                reply = await session.send(method, parameters, fds)
            except BaseException:
                session.release()
                raise
        except BaseException:
            session.release()
            raise
        session.release()
        return reply

    async def oneway(self, method: str, parameters: msgspec.Struct) -> None:
        """Sends a call that gets no reply. A lost one is nobody's loss; raises Unavailable if there is no service."""
        session = await self.session()
        session._channel.send(self.codec.encode(method, parameters, b'"oneway":true,'))  # noqa: SLF001 -- its other half
        session.release()

    async def _connect(self) -> ClientSession:
        loop = asyncio.get_running_loop()
        patience = _CONNECT_PATIENCE
        while True:
            try:
                return ClientSession(self, Channel(loop, connect(self.path)), loop)
            except OSError as error:
                if error.errno not in CONNECT_AGAIN or patience <= 0:
                    raise Unavailable(f"connect to {self.path}: {error.strerror}") from None
            await asyncio.sleep(_CONNECT_PAUSE)
            patience -= _CONNECT_PAUSE

    def keep(self, session: ClientSession) -> None:
        """Takes a session back for reuse."""
        if len(self._idle) < _POOL_LIMIT:
            self._idle.append(session)
        else:
            session.close()

    def drop(self, session: ClientSession) -> None:
        """Forgets a session that was closed by the service."""
        if session in self._idle:
            self._idle.remove(session)

    def close(self) -> None:
        """Closes the idle connections."""
        while self._idle:
            self._idle.pop().close()


class BlockingClient:
    """One connection for code without an event loop. Raises Unavailable where Client does."""

    def __init__(self, interface: Interface, path: str, timeout: float | None = CALL_TIMEOUT) -> None:
        self._codec = _Codec(interface)
        self._path = path
        deadline = time.monotonic() + _CONNECT_PATIENCE
        while True:
            try:
                sock = connect(path)
                break
            except OSError as error:
                # Nobody listens: the system is down, and a person is waiting. Only a full backlog is worth a pause.
                if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                    raise Unavailable(f"connect to {path}: {error.strerror}") from None
            time.sleep(_CONNECT_PAUSE)
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
