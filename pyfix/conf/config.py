"""The configuration: parameters' values as main.cf, the command line and the defaults say.

    conf = load_config()                        # pyfix.system.configuration
    conf.integer("message_size_limit")

Every look-up raises ConfigError, with file and line, for a value that is malformed or out of bounds, and KeyError for a
name that is neither declared nor set: that is a bug in the caller.
"""

from pyfix.conf.error import ConfigError, ValueTrouble
from pyfix.conf.expand import expand, names_in
from pyfix.conf.parameter import TRANSPORT, Parameter, every, find, find_service
from pyfix.conf.value import UNITS, check_bounds, check_choice, parse_boolean, parse_integer, parse_seconds, split_words

TYPE_CHECKING = False  # typing is not imported: it costs a command a tenth of its start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pyfix.conf.main_cf import Assignment

    Fact = Callable[["Config"], str]

_FILE_VALUED = "myorigin"

__all__ = ["Config", "ConfigError", "Problem"]


class Problem:
    """Something in the configuration that has no effect; ``str()`` is a warning without the word."""

    __slots__ = ("file", "line", "message", "parameter")

    def __init__(self, file: str, line: int, parameter: str, message: str) -> None:
        self.file = file
        self.line = line
        self.parameter = parameter
        self.message = message

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class Config:
    """Values of parameters.

    ``facts`` give the defaults that depend on the machine: its name, its addresses. ``first_line`` reads the first line
    of a file, for a myorigin that names one, as Debian allows; it raises ConfigError.
    """

    def __init__(
        self,
        directory: str,
        assignments: "Iterable[Assignment]" = (),
        facts: "Mapping[str, Fact] | None" = None,
        first_line: "Callable[[str], str] | None" = None,
    ) -> None:
        self.directory = directory
        self._set = {assignment.name: assignment for assignment in assignments}  # the last one counts
        self._facts = dict(facts or {})
        self._first_line = first_line
        self._texts: dict[str, str] = {}
        self._expanding: list[str] = []
        self._integers: dict[str, int] = {}
        self._referred: frozenset[str] | None = None
        self._words: dict[str, tuple[str, ...]] = {}

    def text(self, name: str) -> str:
        """The value with every ``$name`` expanded; of a ``raw`` parameter, the value as it stands."""
        known = self._texts.get(name)
        if known is None:
            known = self._expanded(name)
            self._texts[name] = known
        return known

    def integer(self, name: str) -> int:
        """The value as a number within the declared bounds."""
        known = self._integers.get(name)
        if known is None:
            text = self.text(name)
            try:
                known = parse_integer(text)
                self._check_bounds(name, known, text)
            except ValueTrouble as trouble:
                raise self._error(name, trouble) from None
            self._integers[name] = known
        return known

    def seconds(self, name: str) -> int:
        """The value as a time in seconds within the declared bounds."""
        known = self._integers.get(name)
        if known is None:
            text = self.text(name)
            try:
                known = parse_seconds(text, self._default_unit(name))
                self._check_bounds(name, known, text)
            except ValueTrouble as trouble:
                raise self._error(name, trouble) from None
            self._integers[name] = known
        return known

    def boolean(self, name: str) -> bool:
        """The value as a truth value."""
        try:
            return parse_boolean(self.text(name))
        except ValueTrouble as trouble:
            raise self._error(name, trouble) from None

    def words(self, name: str) -> tuple[str, ...]:
        """The value as a list, split at commas and white space, ``{ }`` groups kept whole with their braces."""
        known = self._words.get(name)
        if known is None:
            text = self.text(name)
            try:
                known = split_words(text)
                parameter = self._declared(name)
                if parameter is not None and parameter.choices:
                    for word in known:
                        check_choice(word, parameter.choices)
            except ValueTrouble as trouble:
                raise self._error(name, trouble) from None
            self._words[name] = known
        return known

    def service_text(self, name: str, service: str) -> str:
        """A transport's own value: ``service_text("destination_rate_delay", "relay")``; defaults as postconf(5)."""
        return self.text(f"{service}_{name}")

    def service_integer(self, name: str, service: str) -> int:
        """As :meth:`service_text`, a number."""
        return self.integer(f"{service}_{name}")

    def service_seconds(self, name: str, service: str) -> int:
        """As :meth:`service_text`, a time in seconds."""
        return self.seconds(f"{service}_{name}")

    def is_set(self, name: str) -> bool:
        """Whether main.cf or the command line gives the parameter a value, if only an empty one."""
        return name in self._set

    def names_set(self) -> tuple[str, ...]:
        """The names that main.cf or the command line gives a value, in the order of their first mention."""
        return tuple(self._set)

    def unexpanded(self, name: str) -> str:
        """The value as it was written, else the default as it was declared; KeyError for an unknown name."""
        assignment = self._set.get(name)
        return assignment.value if assignment is not None else self.default(name)

    def default(self, name: str) -> str:
        """The default as it was declared, or as the machine gives it; KeyError for an unknown name."""
        fact = self._facts.get(name)
        if fact is not None:
            return fact(self)
        parameter = self._declared(name)
        if parameter is None:
            raise KeyError(name)
        return parameter.default

    def error(self, name: str, message: str, hint: str = "") -> ConfigError:
        """What to raise when a parameter's value turns out to be wrong later than here."""
        return self._error(name, ValueTrouble(message, hint))

    def is_used(self, name: str) -> bool:
        """Whether a name is declared, belongs to a transport, or is referred to by another value."""
        return self._declared(name) is not None or name in self._references

    def expand(self, name: str, value: str) -> str:
        """A value that a parameter could have, expanded as its own would be."""
        parameter = self._declared(name)
        if parameter is not None and parameter.kind == "raw":
            return value
        try:
            return expand(value, self._text_or_empty)
        except ValueTrouble as trouble:
            raise self._error(name, trouble) from None

    def set_but_unimplemented(self) -> tuple[Problem, ...]:
        """What is set and has no effect: known names that pyfix does not implement, and names that nothing uses."""
        problems = []
        for name, assignment in self._set.items():
            parameter = self._declared(name)
            if not self.is_used(name):
                message = f"unused parameter: {name}={assignment.value}"
            elif parameter is not None and not parameter.implemented:
                message = f"parameter {name} is not implemented by this version of pyfix and has no effect"
            else:
                continue
            problems.append(Problem(assignment.file, assignment.line, name, message))
        return tuple(problems)

    def check(self) -> None:
        """Looks at every value that is set, and at the defaults that refer to others.

        ConfigError for the first wrong one. Parameters that are not implemented are not looked at.
        """
        for name in self._set:
            parameter = self._declared(name)
            if parameter is None or parameter.implemented:
                self._check(name, parameter)
        for parameter in every():
            if parameter.implemented and "$" in parameter.default and parameter.subject != TRANSPORT:
                self._check(parameter.name, parameter)

    @property
    def _references(self) -> frozenset[str]:
        """The names that main.cf's values refer to, and the restriction classes."""
        if self._referred is None:
            names = {name for assignment in self._set.values() for name in names_in(assignment.value)}
            if self.is_set("smtpd_restriction_classes"):
                names.update(self.words("smtpd_restriction_classes"))
            self._referred = frozenset(names)
        return self._referred

    def _check(self, name: str, parameter: Parameter | None) -> None:
        kind = "text" if parameter is None else parameter.kind
        look_up: dict[str, Callable[[str], object]] = {
            "boolean": self.boolean,
            "integer": self.integer,
            "seconds": self.seconds,
            "words": self.words,
        }
        look_up.get(kind, self.text)(name)

    def _declared(self, name: str) -> Parameter | None:
        return find(name) or find_service(name)

    def _expanded(self, name: str) -> str:
        if name in self._expanding:
            cycle = " -> ".join([*self._expanding[self._expanding.index(name) :], name])
            raise self._error(name, ValueTrouble(f"the value refers to itself: {cycle}", "break the circle"))
        parameter = self._declared(name)
        self._expanding.append(name)
        try:
            written = self.unexpanded(name)
            if parameter is not None and parameter.kind == "raw":
                return written
            text = expand(written, self._text_or_empty)
            if name == _FILE_VALUED and text.startswith("/") and self._first_line is not None:
                text = self._first_line(text)
            if parameter is not None and parameter.kind == "text":
                _check_text(text, parameter)
        except ValueTrouble as trouble:
            raise self._error(name, trouble) from None
        finally:
            self._expanding.pop()
        return text

    def _text_or_empty(self, name: str) -> str:
        try:
            return self.text(name)
        except KeyError:
            return ""

    def _check_bounds(self, name: str, number: int, text: str) -> None:
        parameter = self._declared(name)
        if parameter is not None:
            check_bounds(number, parameter.low, parameter.high, text)

    def _default_unit(self, name: str) -> str:
        """The unit of a time that is written without one: that of the default."""
        default = self.default(name) if self._declared(name) is not None else ""
        if default.startswith("$") and not default.endswith(("}s", "}h")):
            default = expand(default, self._text_or_empty)
        return default[-1:] if default[-1:] in UNITS else "s"

    def _error(self, name: str, trouble: ValueTrouble) -> ConfigError:
        assignment = self._set.get(name)
        file, line = (assignment.file, assignment.line) if assignment is not None else ("", 0)
        return ConfigError(trouble.message, file=file, line=line, parameter=name, hint=trouble.hint)


def _check_text(text: str, parameter: Parameter) -> None:
    if parameter.choices:
        check_choice(text, parameter.choices)
    elif len(text) < parameter.low:
        raise ValueTrouble("the value must not be empty" if parameter.low == 1 else f'"{text}" is too short')
    elif parameter.high and len(text) > parameter.high:
        raise ValueTrouble(f'"{text[:40]}" is too long', f"at most {parameter.high} characters")
