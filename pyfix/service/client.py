"""The calling half of Varlink, in an event loop, with pooled connections.

A pooled connection may have been closed by a service that went idle: a call that the service never read is sent again
on a new connection, once.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from pyfix.service.calling import CALL_TIMEOUT, CONNECT_PATIENCE, CONNECT_PAUSE, Codec, Unavailable
from pyfix.service.interface import Interface, ServiceError
from pyfix.system.channel import Channel
from pyfix.system.unix import CONNECT_AGAIN, connect
from pyfix.wire.varlink import Frame, FramingError

_POOL_LIMIT = 64


class ClientSession:
    """A connection of one's own, for transactions. Calls may be sent ahead; replies come in order."""

    __slots__ = ("_channel", "_client", "_loop", "_pending", "_timer")

    def __init__(self, client: "Client", channel: Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._channel = channel
        self._loop = loop
        # method, reply, and when it was called
        self._pending: deque[tuple[str, asyncio.Future[Any], float]] = deque()
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
            _fail(future, Unavailable(f"{self._client.path}: connection lost"))
            return future
        self._pending.append((method, future, self._loop.time()))
        self._channel.send(self._client.codec.encode(method, parameters), fds)
        if self._timer is None and self._client.timeout is not None:
            self._timer = self._loop.call_later(self._client.timeout, self._look_at_clock)
        return future

    async def call(self, method: str, parameters: msgspec.Struct, fds: Sequence[int] = ()) -> Any:
        """Sends a call and waits for its reply."""
        return await self.send(method, parameters, fds)

    def oneway(self, method: str, parameters: msgspec.Struct, fds: Sequence[int] = ()) -> None:
        """Sends a call that gets no reply."""
        self._channel.send(self._client.codec.encode(method, parameters, b'"oneway":true,'), fds)

    def release(self) -> None:
        """Gives a connection back for reuse; with calls in flight it is closed."""
        if self._pending or self._channel.closed:
            self.close()
        else:
            self._client.keep(self)

    def close(self) -> None:
        """Ends the connection; the service sees an abort."""
        self._channel.close()
        self._fail(f"{self._client.path}: connection closed")

    def _on_frame(self, frame: Frame) -> None:
        if not self._pending:
            self.close()
            return
        method, future, _ = self._pending.popleft()
        if future.done():
            return
        try:
            future.set_result(self._client.codec.decode(method, frame.data)[0])
        except (ServiceError, Unavailable) as error:
            _fail(future, error)

    def _on_close(self, error: OSError | FramingError | None) -> None:
        unread = isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)
        self._client.drop(self)
        self._fail(f"{self._client.path}: {error or 'connection lost'}", Unread if unread else Unavailable)

    def _look_at_clock(self) -> None:
        """Ends a session whose oldest call has waited for too long. One timer serves for many calls."""
        self._timer = None
        timeout = self._client.timeout
        if not self._pending or timeout is None:
            return
        left = self._pending[0][2] + timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_at_clock)
        else:
            self._channel.close()
            self._fail(f"{self._client.path}: no answer within {timeout} s")

    def _fail(self, message: str, kind: type[Unavailable] = Unavailable) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._pending:
            _, future, _ = self._pending.popleft()
            if not future.done():
                _fail(future, kind(message))


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # a call sent ahead may have nobody waiting: that is no mistake


class Unread(Unavailable):
    """The service went away with the call still unread: it may be sent again."""


class Client:
    """Calls one interface of one role. ``timeout`` is for each call, in seconds, None for ever."""

    def __init__(self, interface: Interface, path: str, timeout: float | None = CALL_TIMEOUT) -> None:
        self.codec = Codec(interface)
        self.path = path
        self.timeout = timeout
        self._idle: list[ClientSession] = []

    async def session(self) -> ClientSession:
        """A connection, reused or new. Raises Unavailable."""
        return self.idle() or await self.connect()

    def idle(self) -> ClientSession | None:
        """A connection that is there and free."""
        while self._idle:
            session = self._idle.pop()
            if not session.closed:
                return session
        return None

    async def call(self, method: str, parameters: msgspec.Struct, fds: Sequence[int] = ()) -> Any:
        """Calls and returns the reply struct. Raises the interface's errors, or Unavailable."""
        session = await self.session()
        try:
            reply = await session.send(method, parameters, fds)
        except Unread:
            session = await self.connect()
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

    def tell(self, method: str, parameters: msgspec.Struct) -> bool:
        """Sends a call that gets no reply where a connection is there and free: whether one was."""
        session = self.idle()
        if session is None:
            return False
        session.oneway(method, parameters)
        session.release()
        return True

    async def oneway(self, method: str, parameters: msgspec.Struct) -> None:
        """Sends a call that gets no reply. A lost one is nobody's loss; raises Unavailable if there is no service."""
        if not self.tell(method, parameters):
            session = await self.connect()
            session.oneway(method, parameters)
            session.release()

    async def connect(self) -> ClientSession:
        """A new connection. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        patience = CONNECT_PATIENCE
        while True:
            try:
                return ClientSession(self, Channel(loop, connect(self.path), fds=False), loop)
            except OSError as error:
                if error.errno not in CONNECT_AGAIN or patience <= 0:
                    raise Unavailable(f"connect to {self.path}: {error.strerror}") from None
            await asyncio.sleep(CONNECT_PAUSE)
            patience -= CONNECT_PAUSE

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
