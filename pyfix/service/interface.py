"""Varlink interfaces declared from msgspec structs, and the interface text made from them.

A service module declares its parameter and reply structs, then one :class:`Interface`. The text that
``varlinkctl introspect`` shows is generated here, so that types and text cannot disagree.

Source: varlink.org, "Interface Definition".
"""

import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

Fd = Annotated[int, msgspec.Meta(ge=0, le=7, description="index of a file descriptor that came with the message")]
"""A parameter that names a passed file descriptor by its place among those of the message."""


class Method(msgspec.Struct, frozen=True):
    """A method of an interface: its name, the structs of its parameters and its reply, and a sentence on it."""

    name: str
    parameters: type[msgspec.Struct]
    reply: type[msgspec.Struct]
    doc: str


class Nothing(msgspec.Struct, frozen=True):
    """The parameters or the reply of a method that has none."""


class ServiceError(Exception):
    """An error that a service answers with; subclasses declare its Varlink name and its fields.

    ``name`` is the full Varlink name (``io.pyfix.Cleanup.Refused``). Every argument is a string or a number
    that may be shown to the caller: never the text of an exception.
    """

    name: typing.ClassVar[str]
    Parameters: typing.ClassVar[type[msgspec.Struct]] = Nothing

    def __init__(self, parameters: msgspec.Struct | None = None) -> None:
        self.parameters = parameters if parameters is not None else Nothing()
        super().__init__(f"{self.name} {msgspec.to_builtins(self.parameters)}")


class Interface(msgspec.Struct, frozen=True):
    """A Varlink interface, for example ``io.pyfix.Cleanup``."""

    name: str
    doc: str
    methods: tuple[Method, ...]
    errors: tuple[type[ServiceError], ...] = ()

    def description(self) -> str:
        """The interface in Varlink's own language, as ``GetInterfaceDescription`` answers it."""
        structs = [s for m in self.methods for s in (m.parameters, m.reply)] + [e.Parameters for e in self.errors]
        lines = [f"# {self.doc}", f"interface {self.name}"]
        for struct in _named_structs(structs):
            lines += ["", *_comment(struct), f"type {struct.__name__} {_fields(struct)}"]
        for method in self.methods:
            lines += ["", f"# {method.doc}"]
            lines += [f"method {method.name}{_fields(method.parameters)} -> {_fields(method.reply)}"]
        for error in self.errors:
            lines += ["", *_comment(error), f"error {error.name.rpartition('.')[2]} {_fields(error.Parameters)}"]
        return "\n".join(lines) + "\n"


def _comment(documented: type) -> list[str]:
    return [f"# {(documented.__doc__ or '').strip().splitlines()[0]}"]


def _fields(struct: type[msgspec.Struct]) -> str:
    hints = typing.get_type_hints(struct, include_extras=True)
    return "(" + ", ".join(f"{name}: {_type_text(hints[name])}" for name in struct.__struct_fields__) + ")"


def _type_text(hint: Any) -> str:
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return "?" + _type_text(next(a for a in arguments if a is not type(None)))
    if origin is typing.Literal:
        return "(" + ", ".join(arguments) + ")"
    if origin in (tuple, list):
        return "[]" + _type_text(arguments[0])
    if origin is dict:
        return "[string]" + _type_text(arguments[1])
    scalars = {bool: "bool", int: "int", float: "float", str: "string"}
    return scalars.get(hint) or str(hint.__name__)


def _named_structs(structs: list[type[msgspec.Struct]]) -> list[type[msgspec.Struct]]:
    """The structs used inside others, each once, those used by others first."""
    found: dict[type[msgspec.Struct], None] = {}
    for struct in structs:
        for hint in typing.get_type_hints(struct, include_extras=True).values():
            for inner in _structs_in(hint):
                for deeper in [*_named_structs([inner]), inner]:
                    found[deeper] = None
    return list(found)


def _structs_in(hint: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for argument in typing.get_args(hint):
        yield from _structs_in(argument)
