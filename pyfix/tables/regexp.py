"""regexp: regular expressions, ``/pattern/flags result``, first match wins.

Patterns are POSIX extended regular expressions, run by Python's engine: character classes such as ``[[:alpha:]]`` are
translated, and ``$`` means the very end of the key. ``$1``, ``${1}`` and ``$(1)`` in a result stand for what a group
matched, ``$$`` for a dollar sign.

Source: regexp_table(5).
"""

import re

from pyfix.conf.error import ValueTrouble
from pyfix.tables.rule import Rule, matching, read_rules
from pyfix.tables.table import TableError

_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r"\x09-\x0d\x20",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_REFERENCE = re.compile(r"\$(?:(\$)|(\d)|\{(\d{1,2})\}|\((\d{1,2})\)|)")


class ExpressionPattern:
    """A compiled pattern; ``negated`` patterns hold where the expression does not match."""

    __slots__ = ("groups", "negated", "search")

    def __init__(self, expression: re.Pattern[str], *, negated: bool) -> None:
        self.search = expression.search
        self.groups = expression.groups
        self.negated = negated


class RegexpTable:
    """Regular expressions with results."""

    partial = False

    def __init__(self, name: str, rules: list[Rule[ExpressionPattern]]) -> None:
        self.name = name
        self._rules = rules
        for rule in rules:
            _check_references(name, rule)

    def look_up(self, key: str) -> str | None:
        """The result of the first expression that matches, its references filled in."""
        found = next(matching(self._rules, lambda pattern: (pattern.search(key) is None) == pattern.negated), None)
        if found is None:
            return None
        match = None if found.pattern.negated else found.pattern.search(key)
        return _REFERENCE.sub(lambda reference: _text_for(reference, match), found.result)


def open_table(name: str, argument: str) -> RegexpTable:
    """The table in that file."""
    return RegexpTable(name, read_rules(name, argument, _parse))


def _parse(text: str) -> tuple[ExpressionPattern, str]:
    """Pattern and result of ``!/pattern/flags result``; the delimiter is whatever character comes first."""
    negated = text.startswith("!")
    text = text.removeprefix("!").lstrip(" \t")
    if not text or text[0].isalnum() or text[0] == "\\":
        raise ValueTrouble("a pattern stands between slashes: /pattern/flags")
    end = _closing(text)
    flags_text, _, result = text[end + 1 :].partition(" ") if " " in text[end + 1 :] else (text[end + 1 :], "", "")
    if "\t" in flags_text:
        flags_text, _, result = text[end + 1 :].partition("\t")
    flags = re.IGNORECASE
    for flag in flags_text:
        if flag == "i":
            flags ^= re.IGNORECASE
        elif flag == "m":
            flags ^= re.MULTILINE
        elif flag != "x":
            raise ValueTrouble(f'unknown flag "{flag}"')
    try:
        compiled = re.compile(translate(text[1:end], multiline=bool(flags & re.MULTILINE)), flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueTrouble(f"bad expression: {error}") from None
    return ExpressionPattern(compiled, negated=negated), result.strip(" \t")


def _closing(text: str) -> int:
    index = 1
    while index < len(text):
        if text[index] == "\\":
            index += 1
        elif text[index] == text[0]:
            return index
        index += 1
    raise ValueTrouble(f'the closing "{text[0]}" is missing')


def translate(pattern: str, *, multiline: bool = False) -> str:
    """A POSIX extended regular expression as Python writes it."""
    pieces, index = list[str](), 0
    while index < len(pattern):
        character = pattern[index]
        if character == "\\":
            pieces.append(pattern[index : index + 2])
            index += 2
        elif character == "[":
            piece, index = _bracket(pattern, index)
            pieces.append(piece)
        else:
            pieces.append(r"\Z" if character == "$" and not multiline else character)
            index += 1
    return "".join(pieces)


def _bracket(pattern: str, start: int) -> tuple[str, int]:
    """A bracket expression, in which POSIX knows classes and no backslash, and where it ends."""
    index = start + 1
    negated = pattern[index : index + 1] == "^"
    index += negated
    members, first = list[str](), index
    while index < len(pattern):
        character = pattern[index]
        if character == "]" and index > first:
            return ("[^" if negated else "[") + "".join(members) + "]", index + 1
        if character == "[" and pattern[index + 1 : index + 2] == ":":
            name, colon, _rest = pattern[index + 2 :].partition(":]")
            if not colon or name not in _CLASSES:
                raise ValueTrouble(f'unknown character class "{name[:20]}"')
            members.append(_CLASSES[name])
            index += len(name) + 4
            continue
        members.append("\\" + character if character in "[]\\^&~|" else character)
        index += 1
    raise ValueTrouble('a "[" is not closed')


def _check_references(name: str, rule: Rule[ExpressionPattern]) -> None:
    for reference in _REFERENCE.finditer(rule.result):
        number = next((group for group in reference.groups()[1:] if group), "")
        if reference[0] == "$":
            raise TableError(name, "a dollar sign without a group's number; write $$ for a dollar sign", rule.line)
        if number and (rule.pattern.negated or not 0 < int(number) <= rule.pattern.groups):
            raise TableError(name, f"the pattern has no group {number}", rule.line)


def _text_for(reference: re.Match[str], match: re.Match[str] | None) -> str:
    if reference[1] or match is None:
        return "$"
    return match[int(reference[2] or reference[3] or reference[4])] or ""
