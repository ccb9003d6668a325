"""The serving half of Varlink: calls are decoded, validated and handed to plain functions or coroutines.

Calls of one connection are served one after the other, in order; connections are independent.
``org.varlink.service`` is answered on every socket. A ServiceError raised by a handler is its answer; any other
exception is a bug, which is reported to the owner and never told to the peer.

Source: varlink.org, "Method call" and "Service interface".
"""

import asyncio
import inspect
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from pyfix.service.interface import Interface, Method, Nothing, ServiceError
from pyfix.system.unix import BlockingChannel, Channel, Peer, peer_of
from pyfix.wire.varlink import Frame, FramingError

P = TypeVar("P", bound=msgspec.Struct)

Result = msgspec.Struct | None
Handler = Callable[["Call[Any]"], Result | Awaitable[Result] | AsyncIterator[msgspec.Struct]]
"""A plain function for quick answers, a coroutine for slow ones, an async generator for streams (``more``)."""

_PIPELINE_LIMIT = 16


class Connection:
    """What handlers may keep for a connection: ``state`` is theirs; ``on_close`` runs when it has ended."""

    __slots__ = ("on_close", "peer", "state")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.state: Any = None
        self.on_close: list[Callable[[], None]] = []


class Call(Generic[P]):
    """A call: its parameters, and the descriptors that came with it."""

    __slots__ = ("_fds", "connection", "parameters")

    def __init__(self, parameters: P, fds: tuple[int, ...], connection: Connection) -> None:
        self.parameters = parameters
        self.connection = connection
        self._fds: list[int] = list(fds)

    @property
    def peer(self) -> Peer:
        """Who called, by SO_PEERCRED."""
        return self.connection.peer

    def take_fd(self, index: int) -> int:
        """A passed descriptor, from now on the handler's to close. Raises InvalidParameter if there is none."""
        if index >= len(self._fds) or self._fds[index] < 0:
            raise InvalidParameter(InvalidParameter.Parameters(parameter="file descriptor"))
        fd, self._fds[index] = self._fds[index], -1
        return fd

    def close_fds(self) -> None:
        """Closes the descriptors that nobody took."""
        for fd in self._fds:
            if fd >= 0:
                os.close(fd)
        self._fds = []


class _Request(msgspec.Struct):
    method: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    oneway: bool = False
    more: bool = False


class _Named(msgspec.Struct, frozen=True):
    interface: str


class _MethodName(msgspec.Struct, frozen=True):
    method: str


class _ParameterName(msgspec.Struct, frozen=True):
    parameter: str


class InterfaceNotFound(ServiceError):
    """There is no such interface on this socket."""

    name = "org.varlink.service.InterfaceNotFound"
    Parameters = _Named


class MethodNotFound(ServiceError):
    """The interface has no such method."""

    name = "org.varlink.service.MethodNotFound"
    Parameters = _MethodName


class InvalidParameter(ServiceError):
    """A parameter is missing or of the wrong type."""

    name = "org.varlink.service.InvalidParameter"
    Parameters: ClassVar[type[_ParameterName]] = _ParameterName


class ExpectedMore(ServiceError):
    """The method streams its answer and must be called with more."""

    name = "org.varlink.service.ExpectedMore"


class _Info(msgspec.Struct, frozen=True):
    vendor: str
    product: str
    version: str
    url: str
    interfaces: tuple[str, ...]


class _Description(msgspec.Struct, frozen=True):
    description: str


_SERVICE = Interface(
    "org.varlink.service",
    "What every Varlink service answers",
    (
        Method("GetInfo", Nothing, _Info, "Tells what this service is"),
        Method("GetInterfaceDescription", _Named, _Description, "Describes an interface"),
    ),
    (InterfaceNotFound, MethodNotFound, InvalidParameter, ExpectedMore),
)


class _Entry:
    __slots__ = ("decoder", "handler", "reply")

    def __init__(self, method: Method, handler: Handler) -> None:
        self.decoder = msgspec.json.Decoder(method.parameters)
        self.handler = handler
        self.reply = method.reply


_decode_request = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode


class Implementation:
    """An interface with its handlers, and ``org.varlink.service`` beside it."""

    def __init__(self, interface: Interface, handlers: Mapping[str, Handler], version: str = "") -> None:
        self.interface = interface
        self._entries: dict[str, _Entry] = {}
        served = {i.name: i for i in (interface, _SERVICE)}
        info = _Info("pyfix", "pyfix", version, "", tuple(sorted(served)))

        def describe(call: Call[_Named]) -> _Description:
            found = served.get(call.parameters.interface)
            if found is None:
                raise InterfaceNotFound(call.parameters)
            return _Description(found.description())

        for owner, functions in (
            (interface, handlers),
            (_SERVICE, {"GetInfo": lambda _call: info, "GetInterfaceDescription": describe}),
        ):
            if {m.name for m in owner.methods} != set(functions):
                raise ValueError(f"{owner.name}: handlers do not match its methods")
            for method in owner.methods:
                self._entries[f"{owner.name}.{method.name}"] = _Entry(method, functions[method.name])

    def begin(self, frame: Frame, connection: Connection) -> tuple[_Entry, Call[Any], _Request]:
        """Decodes and validates a call. Raises ServiceError, or msgspec.DecodeError if it is no call at all."""
        request = _decode_request(frame.data)
        entry = self._entries.get(request.method)
        if entry is None:
            owner = request.method.rpartition(".")[0]
            if owner not in (self.interface.name, _SERVICE.name):
                raise InterfaceNotFound(_Named(owner))
            raise MethodNotFound(_MethodName(request.method))
        try:
            parameters = entry.decoder.decode(request.parameters)
        except msgspec.ValidationError as error:
            # The message says which field is wrong and what was expected; it holds no value.
            raise InvalidParameter(_ParameterName(str(error))) from None
        return entry, Call(parameters, frame.fds, connection), request


def encode_reply(reply: msgspec.Struct | None, *, continues: bool = False) -> bytes:
    """A reply as it goes over the wire."""
    parameters = b"{}" if reply is None else _encode(reply)
    return (b'{"continues":true,"parameters":' if continues else b'{"parameters":') + parameters + b"}\0"


def encode_error(error: ServiceError) -> bytes:
    """An error reply as it goes over the wire."""
    return b'{"error":"%s","parameters":%s}\0' % (error.name.encode(), _encode(error.parameters))


class Server:
    """Serves one interface on the connections it is given.

    ``on_bug`` gets exceptions that no handler foresaw. ``active`` is the number of calls being served; ``served``
    counts all calls.
    """

    def __init__(self, implementation: Implementation, on_bug: Callable[[BaseException], None]) -> None:
        self.implementation = implementation
        self.on_bug = on_bug
        self.active = 0
        self.served = 0
        self._sessions: set[_Session] = set()

    def accept(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """Serves a connected, non-blocking Unix socket from now on."""
        self._sessions.add(_Session(self, loop, sock))

    def forget(self, session: "_Session") -> None:
        """Drops a session that has ended."""
        self._sessions.discard(session)

    def quiet(self) -> bool:
        """Whether no call is being served or waits to be read: closing now loses nothing."""
        return self.active == 0 and not any(s.channel.unread() for s in self._sessions)

    async def finished(self) -> None:
        """Waits until the calls that are being served are answered."""
        tasks = [s.task for s in self._sessions if s.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def close(self) -> None:
        """Ends all connections."""
        for session in list(self._sessions):
            session.end()


class _Session:
    __slots__ = ("_busy", "_connection", "_loop", "_server", "_waiting", "channel", "task")

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._server = server
        self._loop = loop
        self._connection = Connection(peer_of(sock))
        self._waiting: deque[Frame] = deque()
        self._busy = False
        self.task: asyncio.Task[None] | None = None
        self.channel = Channel(loop, sock)
        self.channel.on_frame = self._on_frame
        self.channel.on_close = self._on_close

    def _on_frame(self, frame: Frame) -> None:
        if self._busy:
            self._waiting.append(frame)
            if len(self._waiting) >= _PIPELINE_LIMIT:
                self.channel.pause()
            return
        self._serve(frame)

    def _serve(self, frame: Frame) -> None:
        call: Call[Any] | None = None
        server = self._server
        server.served += 1
        try:
            entry, call, request = server.implementation.begin(frame, self._connection)
            result = entry.handler(call)
            if inspect.isawaitable(result) or hasattr(result, "__aiter__"):
                self._busy = True
                server.active += 1
                self.task = self._loop.create_task(self._finish(call, entry, result, request))
                return
            if not request.oneway:
                self.channel.send(encode_reply(result))
        except ServiceError as error:
            self.channel.send(encode_error(error))
        except msgspec.DecodeError:
            self.end()
        except Exception as error:  # noqa: BLE001 -- a bug must not pass for an answer; its owner decides
            server.on_bug(error)
            self.end()
        if call is not None:
            call.close_fds()
        else:
            _close_fds(frame.fds)

    async def _finish(self, call: Call[Any], entry: _Entry, result: Any, request: _Request) -> None:
        try:
            if not hasattr(result, "__aiter__"):
                reply = encode_reply(await result)
            elif request.more:
                async for part in result:
                    self.channel.send(encode_reply(part, continues=True))
                reply = encode_reply(entry.reply())
            else:
                reply = encode_error(ExpectedMore())
            if not request.oneway:
                self.channel.send(reply)
        except ServiceError as error:
            self.channel.send(encode_error(error))
        except Exception as error:  # noqa: BLE001 -- as above
            self._server.on_bug(error)
            self.end()
        finally:
            call.close_fds()
            self._busy = False
            self._server.active -= 1
            self.task = None
        while self._waiting and not self._busy:
            self._serve(self._waiting.popleft())
        self.channel.resume()

    def end(self) -> None:
        self.channel.close()
        self._on_close(None)

    def _on_close(self, _error: OSError | FramingError | None) -> None:
        self._server.forget(self)
        while self._waiting:
            _close_fds(self._waiting.popleft().fds)
        callbacks, self._connection.on_close = self._connection.on_close, []
        for callback in callbacks:
            callback()


def _close_fds(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


def serve_blocking(implementation: Implementation, sock: socket.socket, idle_timeout: float | None) -> None:
    """Serves a connection until its peer closes it or ``idle_timeout`` seconds pass between calls.

    Handlers are plain functions. Exceptions other than ServiceError are bugs and propagate.
    """
    connection = Connection(peer_of(sock))
    channel = BlockingChannel(sock, idle_timeout)
    try:
        while (frame := channel.receive()) is not None:
            try:
                entry, call, request = implementation.begin(frame, connection)
            except ServiceError as error:
                _close_fds(frame.fds)
                channel.send(encode_error(error))
                continue
            try:
                reply = encode_reply(entry.handler(call))  # type: ignore[arg-type] # plain functions only, see above
            except ServiceError as error:
                reply = encode_error(error)
            finally:
                call.close_fds()
            if not request.oneway:
                channel.send(reply)
    except (OSError, FramingError, msgspec.DecodeError):
        # The peer went away, fell silent or talks nonsense: the end of this connection and of nothing else.
        return
    finally:
        for callback in connection.on_close:
            callback()
        channel.close()
