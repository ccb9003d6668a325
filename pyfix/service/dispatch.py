"""Calls on their way to the functions that answer them: decoded, validated, encoded. No event loop, no sockets.

``org.varlink.service`` is answered beside every interface. A ServiceError raised by a handler is its answer.

Source: varlink.org, "Method call" and "Service interface".
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from pyfix.service.interface import Interface, Method, Nothing, ServiceError
from pyfix.system.unix import Peer

P = TypeVar("P", bound=msgspec.Struct)

Result = msgspec.Struct | None
Handler = Callable[["Call[Any]"], Result | Awaitable[Result] | AsyncIterator[msgspec.Struct]]
"""A plain function for quick answers, a coroutine for slow ones, an async generator for streams (``more``)."""


class Connection:
    """What handlers may keep for a connection: ``state`` is theirs; ``on_close`` runs when it has ended."""

    __slots__ = ("on_close", "peer", "state")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.state: Any = None
        self.on_close: list[Callable[[], None]] = []


class Call(Generic[P]):
    """A call: its parameters, and the descriptors that came with it, -1 for one that was taken."""

    __slots__ = ("connection", "fds", "parameters")

    def __init__(self, parameters: P, fds: list[int], connection: Connection) -> None:
        self.parameters = parameters
        self.connection = connection
        self.fds = fds

    @property
    def peer(self) -> Peer:
        """Who called, by SO_PEERCRED."""
        return self.connection.peer

    def take_fd(self, index: int) -> int:
        """A passed descriptor, from now on the handler's to close. Raises InvalidParameter if there is none."""
        if index >= len(self.fds) or self.fds[index] < 0:
            raise InvalidParameter(InvalidParameter.Parameters(parameter="file descriptor"))
        fd, self.fds[index] = self.fds[index], -1
        return fd


class Request(msgspec.Struct):
    """A call as it comes over the wire."""

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


class Entry:
    """A method with its handler, and how its parameters are read."""

    __slots__ = ("decoder", "handler", "reply")

    def __init__(self, method: Method, handler: Handler) -> None:
        self.decoder = msgspec.json.Decoder(method.parameters)
        self.handler = handler
        self.reply = method.reply


decode_request = msgspec.json.Decoder(Request).decode
"""The request in a message; raises msgspec.DecodeError if it is none."""
_encode = msgspec.json.Encoder().encode


class Implementation:
    """An interface with its handlers, and ``org.varlink.service`` beside it."""

    def __init__(self, interface: Interface, handlers: Mapping[str, Handler], version: str = "") -> None:
        self.interface = interface
        self._entries: dict[str, Entry] = {}
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
                self._entries[f"{owner.name}.{method.name}"] = Entry(method, functions[method.name])

    def begin(self, request: Request, fds: list[int], connection: Connection) -> tuple[Entry, Call[Any]]:
        """Validates a call. Raises ServiceError."""
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
        return entry, Call(parameters, fds, connection)


def encode_reply(reply: msgspec.Struct | None, *, continues: bool = False) -> bytes:
    """A reply as it goes over the wire."""
    parameters = b"{}" if reply is None else _encode(reply)
    return (b'{"continues":true,"parameters":' if continues else b'{"parameters":') + parameters + b"}\0"


def encode_error(error: ServiceError) -> bytes:
    """An error reply as it goes over the wire."""
    return b'{"error":"%s","parameters":%s}\0' % (error.name.encode(), _encode(error.parameters))


def close_fds(fds: Iterable[int]) -> None:
    """Closes the descriptors that nobody took."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)
