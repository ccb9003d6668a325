"""Calls on their way to the functions that answer them: decoded, validated, encoded. No event loop, no sockets.

``org.varlink.service`` is answered beside every interface. A ServiceError raised by a handler is its answer.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from pyfix.service.interface import Interface, Method, ServiceError
from pyfix.service.varlink import (
    SERVICE,
    Description,
    Info,
    InterfaceName,
    InterfaceNotFound,
    InvalidParameter,
    MethodName,
    MethodNotFound,
    ParameterName,
    Request,
)
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
        served = {i.name: i for i in (interface, SERVICE)}
        info = Info("pyfix", "pyfix", version, "", tuple(sorted(served)))

        def describe(call: Call[InterfaceName]) -> Description:
            found = served.get(call.parameters.interface)
            if found is None:
                raise InterfaceNotFound(call.parameters)
            return Description(found.description())

        for owner, functions in (
            (interface, handlers),
            (SERVICE, {"GetInfo": lambda _call: info, "GetInterfaceDescription": describe}),
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
            if owner not in (self.interface.name, SERVICE.name):
                raise InterfaceNotFound(InterfaceName(owner))
            raise MethodNotFound(MethodName(request.method))
        try:
            parameters = entry.decoder.decode(request.parameters)
        except msgspec.ValidationError as error:
            # The message says which field is wrong and what was expected; it holds no value.
            raise InvalidParameter(ParameterName(str(error))) from None
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
