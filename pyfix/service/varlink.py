"""What all Varlink services have in common: the messages of a call, and the interface ``org.varlink.service``.

Source: varlink.org, "Method call" and "Service interface".
"""

from typing import ClassVar

import msgspec

from pyfix.service.interface import Interface, Method, Nothing, ServiceError


class Request(msgspec.Struct):
    """A call as it comes over the wire."""

    method: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    oneway: bool = False
    more: bool = False


class Reply(msgspec.Struct):
    """A reply as it comes over the wire; ``error`` is empty for one that is none."""

    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    error: str = ""
    continues: bool = False


class InterfaceName(msgspec.Struct, frozen=True):
    """An interface's name."""

    interface: str


class MethodName(msgspec.Struct, frozen=True):
    """A method's full name."""

    method: str


class ParameterName(msgspec.Struct, frozen=True):
    """A parameter, and what is wrong with it."""

    parameter: str


class InterfaceNotFound(ServiceError):
    """There is no such interface on this socket."""

    name = "org.varlink.service.InterfaceNotFound"
    Parameters = InterfaceName


class MethodNotFound(ServiceError):
    """The interface has no such method."""

    name = "org.varlink.service.MethodNotFound"
    Parameters = MethodName


class InvalidParameter(ServiceError):
    """A parameter is missing or of the wrong type."""

    name = "org.varlink.service.InvalidParameter"
    Parameters: ClassVar[type[ParameterName]] = ParameterName


class ExpectedMore(ServiceError):
    """The method streams its answer and must be called with more."""

    name = "org.varlink.service.ExpectedMore"


class Info(msgspec.Struct, frozen=True):
    """What a service is."""

    vendor: str
    product: str
    version: str
    url: str
    interfaces: tuple[str, ...]


class Description(msgspec.Struct, frozen=True):
    """An interface in Varlink's own language."""

    description: str


SERVICE = Interface(
    "org.varlink.service",
    "What every Varlink service answers",
    (
        Method("GetInfo", Nothing, Info, "Tells what this service is"),
        Method("GetInterfaceDescription", InterfaceName, Description, "Describes an interface"),
    ),
    (InterfaceNotFound, MethodNotFound, InvalidParameter, ExpectedMore),
)
"""The interface that is answered beside every other."""
