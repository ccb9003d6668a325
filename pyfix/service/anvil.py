"""io.pyfix.Anvil: connection and request counts by client."""

from typing import Literal

from msgspec import Struct

from pyfix.service.interface import Interface, Method, Nothing


class Client(Struct, frozen=True):
    """A client of a service, for example "smtp" and "192.0.2.1"."""

    service: str
    address: str


class Counts(Struct, frozen=True):
    """A client's counts."""

    # connections open now
    count: int
    # connections within anvil_rate_time_unit
    rate: int


class Event(Struct, frozen=True):
    """Something a client did."""

    service: str
    address: str
    kind: Literal["message", "recipient", "newtls", "auth"]


class Rate(Struct, frozen=True):
    """Events of that kind within anvil_rate_time_unit."""

    rate: int


INTERFACE = Interface(
    "io.pyfix.Anvil",
    "Counts what clients do",
    (
        Method("Connect", Client, Counts, "A client connected; this connection's end disconnects all it has announced"),
        Method("Disconnect", Client, Nothing, "A client disconnected"),
        Method("Count", Event, Rate, "A client sent a message, named a recipient, or began TLS or AUTH"),
        Method("Look", Client, Counts, "Reads the counts without changing them"),
    ),
)
