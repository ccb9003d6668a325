r"""Expansion of ``$name`` in parameter values.

    $$                                       a dollar sign
    $name  ${name}  $(name)                  the value of the parameter, empty when there is none
    ${name?text}  ${name?{text}}             text when the value is not empty
    ${name:text}  ${name:{text}}             text when the value is empty
    ${name?{text}:{text}}                    either
    ${{text} == {text} ? {text} : {text}}    a comparison: == != < <= >= >, and the same with the ending "level"

Every text is expanded in turn, and only the one that is chosen. White space around ``{text}`` is ignored. Values that
are all digits compare as numbers, others as strings; the "level" operators compare compatibility levels.

Source: postconf(5), COMPATIBILITY_README.
"""

from pyfix.conf.error import ValueTrouble

TYPE_CHECKING = False  # typing is not imported: it costs a command a tenth of its start
if TYPE_CHECKING:
    from collections.abc import Callable

    Value = Callable[[str], str]

MAX_LENGTH = 1_000_000
"""An expansion that grows beyond this is refused."""

_MAX_DEPTH = 50
_DOLLAR_HINT = "write $$ for a dollar sign"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_MAX_DIGITS = 30
_OPERATORS = ("==", "!=", "<=", ">=", "<", ">")  # longest first
_SPACE = " \t\r\n\v\f"
_HOLDS = {"==": (0,), "!=": (-1, 1), "<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}
TRUE = "true"
"""What a comparison without texts stands for when it holds; it is empty when it does not."""


def expand(text: str, value: "Value", depth: int = 0) -> str:
    """The text with every ``$name`` replaced by ``value(name)``, an expanded text; ValueTrouble if it is malformed."""
    if "$" not in text:
        return text
    if depth > _MAX_DEPTH:
        raise ValueTrouble(f"expressions nested more than {_MAX_DEPTH} deep", "name the parts as parameters")
    pieces, length, at = list[str](), 0, 0
    while (dollar := text.find("$", at)) >= 0:
        pieces.append(text[at:dollar])
        piece, at = _one(text, dollar + 1, value, depth)
        pieces.append(piece)
        length += len(piece)
        if length > MAX_LENGTH:
            raise ValueTrouble(f"the expanded value is longer than {MAX_LENGTH} characters", "use a table")
    pieces.append(text[at:])
    return "".join(pieces)


def names_in(text: str) -> set[str]:
    """The names that the text refers to, in whichever branch."""
    names = set[str]()
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        at = dollar + 1
        if text[at : at + 1] == "$":
            at += 1
            continue
        if text[at : at + 1] in ("{", "("):
            at += 1
        end = _name_end(text, at)
        if end > at:
            names.add(text[at:end])
    return names


def _one(text: str, at: int, value: "Value", depth: int) -> tuple[str, int]:
    """The expansion of what follows a dollar sign, and where it ends."""
    following = text[at : at + 1]
    if following == "$":
        return "$", at + 1
    if following == "{":
        end = group_end(text, at, "{", "}")
        return _braced(text[at + 1 : end - 1], value, depth), end
    if following == "(":
        end = group_end(text, at, "(", ")")
        return _braced(text[at + 1 : end - 1], value, depth), end
    end = _name_end(text, at)
    if end == at:
        raise ValueTrouble("a dollar sign without a parameter name", _DOLLAR_HINT)
    return value(text[at:end]), end


def group_end(text: str, at: int, opening: str, closing: str) -> int:
    """Where the group that opens at ``at`` ends; ValueTrouble when it does not close."""
    level = 0
    for index in range(at, len(text)):
        if text[index] == opening:
            level += 1
        elif text[index] == closing:
            level -= 1
            if level == 0:
                return index + 1
    raise ValueTrouble(f'"{text[at:][:40]}" lacks its closing "{closing}"', _DOLLAR_HINT)


def _name_end(text: str, at: int) -> int:
    while at < len(text) and text[at] in _NAME:
        at += 1
    return at


def _braced(inner: str, value: "Value", depth: int) -> str:
    """The expansion of what stands between ``${`` and ``}``."""
    start = inner.lstrip(_SPACE)
    if start.startswith("{"):
        return _comparison(start, value, depth)
    end = _name_end(start, 0)
    name, rest = start[:end], start[end:].strip(_SPACE) if start[end:].isspace() else start[end:]
    if not name:
        raise ValueTrouble(f'no parameter name in "${{{inner[:40]}}}"', _DOLLAR_HINT)
    if not rest:
        return value(name)
    return _choice(bool(value(name)), rest, value, depth, inner)


def _choice(holds: bool, rest: str, value: "Value", depth: int, whole: str) -> str:
    """What ``?text``, ``:text`` or ``?{text}:{text}`` gives."""
    operator, rest = rest[0], rest[1:]
    if operator == ":":
        return "" if holds else expand(_whole_text(rest), value, depth + 1)
    if operator != "?":
        raise ValueTrouble(f'"{operator}" in "${{{whole[:40]}}}" is neither "?" nor ":"', "write ${name?{...}:{...}}")
    start = rest.lstrip(_SPACE)
    if not start.startswith("{"):
        return expand(rest, value, depth + 1) if holds else ""
    end = group_end(start, 0, "{", "}")
    yes, rest = start[1 : end - 1], start[end:].strip(_SPACE)
    if not rest:
        no = ""
    elif rest[0] == ":":
        no = _whole_text(rest[1:])
    else:
        raise ValueTrouble(f'"{rest[:20]}" after "{{{yes[:20]}}}"', "write ${name?{...}:{...}}")
    return expand((yes if holds else no).strip(_SPACE), value, depth + 1)


def _whole_text(text: str) -> str:
    """A branch that reaches to the end: ``{text}`` or text as it is."""
    start = text.strip(_SPACE)
    if not start.startswith("{"):
        return text
    end = group_end(start, 0, "{", "}")
    if end != len(start):
        raise ValueTrouble(f'"{start[end:][:20]}" after the last "}}"', "write ${name?{...}:{...}}")
    return start[1:-1].strip(_SPACE)


def _comparison(text: str, value: "Value", depth: int) -> str:
    end = group_end(text, 0, "{", "}")
    left, rest = text[1 : end - 1], text[end:].lstrip(_SPACE)
    operator = next((known for known in _OPERATORS if rest.startswith(known)), "")
    if not operator:
        raise ValueTrouble(f'no comparison in "${{{text[:40]}}}"', "write ${{a} == {b} ? {x} : {y}}")
    rest = rest[len(operator) :]
    by_level = rest.startswith("level")
    rest = rest.removeprefix("level").lstrip(_SPACE)
    if not rest.startswith("{"):
        raise ValueTrouble(f'"{rest[:20]}" where "{{" was expected', "write ${{a} == {b} ? {x} : {y}}")
    end = group_end(rest, 0, "{", "}")
    right, rest = rest[1 : end - 1], rest[end:].strip(_SPACE)
    first = expand(left.strip(_SPACE), value, depth + 1)
    second = expand(right.strip(_SPACE), value, depth + 1)
    order = _order(_level(first), _level(second)) if by_level else _order_of_values(first, second)
    holds = order in _HOLDS[operator]
    if not rest:
        return TRUE if holds else ""
    return _choice(holds, rest, value, depth, text)


def _order_of_values(first: str, second: str) -> int:
    if all(text.isascii() and text.isdigit() for text in (first, second)):
        return _order((int(first[:_MAX_DIGITS]),), (int(second[:_MAX_DIGITS]),))
    return (first > second) - (first < second)


def _order(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    return (first > second) - (first < second)


def _level(text: str) -> tuple[int, ...]:
    """A compatibility level as numbers, "3.6" as (3, 6, 0)."""
    parts = text.split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() and len(part) < 4 for part in parts):
        raise ValueTrouble(f'bad compatibility level: "{text[:40]}"', "write MAJOR.MINOR, for example 3.11")
    return tuple(int(part) for part in [*parts, "0", "0"][:3])
