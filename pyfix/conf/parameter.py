"""The declarations of main.cf's parameters.

They stand as plain tuples in pyfix.conf.declared, a module a subject, so that loading all of them costs two
milliseconds and a command that needs only some loads only those: :func:`find` looks in the modules in the order of
``SUBJECTS`` and stops at the first that has the name.
"""

from importlib import import_module

TYPE_CHECKING = False  # typing is not imported: it costs a command a tenth of its start
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    Kind = Literal["text", "raw", "words", "integer", "seconds", "boolean"]
    Bounds = tuple[int, int] | tuple[str, ...]
    Declaration = tuple[Kind, str, Bounds, bool, str]

TRANSPORT = "transport"
"""The module of the parameters that every transport has, ``transport_`` standing for its name."""

OBSOLETE = "obsolete"
"""The module of names that stand for nothing any more, but may still be set and referred to."""

SUBJECTS = (
    *("base", "queue", "smtpd", "rewriting", "cleanup", "local"),
    *("smtp", "services", "lmtp", "tls", "sasl", "screen", TRANSPORT, OBSOLETE),
)
"""The modules of pyfix.conf.declared, those that every program reads first."""


class Parameter:
    """A declared parameter.

    ``kind``: ``text``; ``raw``, text whose ``$name`` is expanded by whoever uses it; ``words``, a list; ``integer``;
    ``seconds``, a time; ``boolean``. ``low`` and ``high`` bound a number, or the length of a text; high 0 is no bound.
    ``choices``, where not empty, are the only words allowed. ``meaning`` is one line for people. ``subject`` is the
    module that declares it: names of OBSOLETE are not listed where people look for names to set.
    """

    __slots__ = ("choices", "default", "high", "implemented", "kind", "low", "meaning", "name", "subject")

    def __init__(self, name: str, declaration: "Declaration", subject: str) -> None:
        kind, default, bounds, implemented, meaning = declaration
        self.name = name
        self.kind: Kind = kind
        self.default = default
        self.low, self.high = 0, 0
        self.choices: tuple[str, ...] = ()
        if bounds and isinstance(bounds[0], int) and isinstance(bounds[1], int):
            self.low, self.high = bounds[0], bounds[1]
        else:
            self.choices = tuple(str(choice) for choice in bounds)
        self.implemented = implemented
        self.meaning = meaning
        self.subject = subject


def find(name: str) -> Parameter | None:
    """The parameter of that name; None when nobody declared it."""
    for subject in SUBJECTS:
        declaration = _declarations(subject).get(name)
        if declaration is not None:
            return Parameter(name, declaration, subject)
    return None


def find_service(name: str) -> Parameter | None:
    """The declaration of a transport's parameter by its full name: ``relay_destination_rate_delay``; else None."""
    declarations = _declarations(TRANSPORT)
    at = name.find("_")
    while at > 0:
        declared = TRANSPORT + name[at:]
        if declared in declarations:
            return Parameter(declared, declarations[declared], TRANSPORT)
        at = name.find("_", at + 1)
    return None


def every() -> "Iterator[Parameter]":
    """All declared parameters, in no particular order."""
    for subject in SUBJECTS:
        for name, declaration in _declarations(subject).items():
            yield Parameter(name, declaration, subject)


def _declarations(subject: str) -> "dict[str, Declaration]":
    found: dict[str, Declaration] = import_module("pyfix.conf.declared." + subject).PARAMETERS
    return found
