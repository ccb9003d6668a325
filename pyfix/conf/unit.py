"""systemd's unit files: their syntax, their drop-ins, and the values in them.

The law of a unit, as systemd.syntax(7) has it:

- a line is ``[Section]``, ``Key=value``, a comment (``#`` or ``;``), or empty; a backslash at its end
  joins the next line;
- the same key given again adds to a list, or replaces a single value;
- an empty value empties the list, whatever file the earlier values stood in;
- ``NAME.d/*.conf`` are read after ``NAME``, in the order of their file names.

Nothing here reads a file: text in, values out.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_UNIT_SIZE = 1 << 20
"""Characters of a unit file that is read at all."""

_BLANK = " \t\r"
_HEADER = re.compile(r"\[([^\[\]\x00-\x1f]+)\]")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_SPAN = re.compile(r"[ \t]*([0-9]+(?:\.[0-9]+)?)[ \t]*([A-Za-z]*)[ \t]*", re.ASCII)
_SECONDS = {
    **dict.fromkeys(("us", "usec"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_BOOLEANS = {
    **dict.fromkeys(("1", "yes", "y", "true", "t", "on"), True),
    **dict.fromkeys(("0", "no", "n", "false", "f", "off"), False),
}
_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip


class UnitError(Exception):
    """A unit file that cannot be read as one: ``str(e)`` is "FILE:LINE: message"."""


class Setting(NamedTuple):
    """One ``Key=value`` and where it stands."""

    section: str
    key: str
    value: str
    # "FILE:LINE"
    source: str


class Command(NamedTuple):
    """A command of ``ExecStart=``: its words, and the prefixes (``-``, ``+`` and so on) before the first."""

    prefixes: str
    argv: tuple[str, ...]


def parse_unit(text: str, file: str) -> tuple[Setting, ...]:
    """The settings of one file in their order; raises UnitError. ``file`` is for messages."""
    if len(text) > MAX_UNIT_SIZE:
        raise UnitError(f"{file}: longer than {MAX_UNIT_SIZE} characters")
    section = ""
    settings = []
    for number, line in _logical_lines(text):
        if header := _HEADER.fullmatch(line):
            section = header[1]
            continue
        key, equals, value = line.partition("=")
        key = key.rstrip(_BLANK)
        if not equals or not _KEY.fullmatch(key):
            raise UnitError(f"{file}:{number}: neither [Section] nor Key=value: {line[:60]}")
        if not section:
            raise UnitError(f"{file}:{number}: {key}= stands before the first [Section]")
        settings.append(Setting(section, key, value.strip(_BLANK), f"{file}:{number}"))
    return tuple(settings)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number, continuations joined by a space, comments and empty lines left out."""
    joined, first = "", 0
    for number, physical in enumerate(text.split("\n"), 1):
        line = physical.strip(_BLANK)
        if line.startswith(("#", ";")):
            continue
        first = first or number
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        if whole := (joined + line).strip(_BLANK):
            yield first, whole
        joined, first = "", 0
    if last := joined.strip(_BLANK):
        yield first, last


class Unit:
    """A unit: the settings of its file and of its drop-ins, in the order in which they were read.

    Values that cannot be read as what the key asks for raise UnitError, which names file and line.
    """

    def __init__(self, name: str, settings: Iterable[Setting]) -> None:
        self.name = name
        self.settings = tuple(settings)

    def entries(self, section: str, key: str) -> list[Setting]:
        """What the key was set to since it was last emptied."""
        found: list[Setting] = []
        for setting in self.settings:
            if (setting.section, setting.key) == (section, key):
                if setting.value:
                    found.append(setting)
                else:
                    found.clear()
        return found

    def values(self, section: str, key: str) -> tuple[str, ...]:
        """A key that may be given several times, one text each."""
        return tuple(setting.value for setting in self.entries(section, key))

    def words(self, section: str, key: str) -> tuple[str, ...]:
        """A key that may be given several times with several words each, quotes and escapes undone."""
        return tuple(w for s in self.entries(section, key) for w in split_words(s.value, s.source))

    def text(self, section: str, key: str, default: str = "") -> str:
        """A key of one value."""
        entries = self.entries(section, key)
        return _without_specifiers(entries[-1]) if entries else default

    def boolean(self, section: str, key: str, *, default: bool) -> bool:
        """A key of yes or no."""
        text = self.text(section, key)
        if text and text not in _BOOLEANS:
            raise UnitError(f"{self._source(section, key)}: {key}={text}: neither yes nor no")
        return _BOOLEANS.get(text, default)

    def seconds(self, section: str, key: str, default: float) -> float:
        """A time span; ``infinity`` is the float of that name."""
        text = self.text(section, key)
        if not text:
            return default
        try:
            return parse_time_span(text)
        except ValueError as error:
            raise UnitError(f"{self._source(section, key)}: {key}={text}: {error}") from error

    def integer(self, section: str, key: str, default: int, *, base: int = 10) -> int:
        """A number without sign; base 8 for modes."""
        text = self.text(section, key)
        if not text:
            return default
        digits = "01234567" if base == 8 else "0123456789"
        if len(text) > 10 or text.strip(digits):
            raise UnitError(f"{self._source(section, key)}: {key}={text}: not a number")
        return int(text, base)

    def commands(self, section: str, key: str) -> tuple[Command, ...]:
        """Command lines."""
        return tuple(_command(setting) for setting in self.entries(section, key))

    def _source(self, section: str, key: str) -> str:
        entries = self.entries(section, key)
        return entries[-1].source if entries else self.name


def _without_specifiers(setting: Setting) -> str:
    """The value with ``%%`` read as a percent sign; what else ``%`` may name is not known here."""
    halves = setting.value.split("%%")
    if any("%" in half for half in halves):
        raise UnitError(f"{setting.source}: {setting.key}={setting.value}: specifiers (%) are not supported")
    return "%".join(halves)


def _command(setting: Setting) -> Command:
    words = split_words(_without_specifiers(setting), setting.source)
    program = words[0].lstrip("-@+!:") if words else ""
    if not program:
        raise UnitError(f"{setting.source}: {setting.key}= names no program")
    return Command(words[0][: len(words[0]) - len(program)], (program, *words[1:]))


def parse_time_span(text: str) -> float:
    """Seconds of "90", "1min 30s", "100ms" or "infinity"; raises ValueError."""
    if text == "infinity":
        return float("inf")
    total, position = 0.0, 0
    while position < len(text):
        match = _SPAN.match(text, position)
        if not match or match[2] not in _SECONDS:
            raise ValueError("not a time span")
        total += float(match[1]) * _SECONDS[match[2]]
        position = match.end()
    return total


def split_words(text: str, source: str) -> tuple[str, ...]:
    """Words as systemd splits them: at blanks outside quotes, with C escapes undone; raises UnitError."""
    words: list[str] = []
    word: str | None = None
    quote, position = "", 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\":
            plain, position = _escape(text, position, source)
            word = (word or "") + plain
        elif quote:
            if character == quote:
                quote = ""
            else:
                word = (word or "") + character
        elif character in "\"'":
            quote, word = character, word or ""
        elif character in _BLANK:
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + character
    if quote:
        raise UnitError(f"{source}: a quote is not closed: {text[:60]}")
    return tuple(words if word is None else [*words, word])


def _escape(text: str, position: int, source: str) -> tuple[str, int]:
    """The character that an escape stands for, and the position after it."""
    kind = text[position : position + 1]
    if kind in _ESCAPES and kind:
        return _ESCAPES[kind], position + 1
    digits = text[position + 1 : position + 3]
    if kind == "x" and re.fullmatch("[0-9A-Fa-f]{2}", digits) and digits != "00":
        return chr(int(digits, 16)), position + 3
    raise UnitError(f"{source}: unknown escape \\{kind}: {text[:60]}")
