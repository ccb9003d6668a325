"""The rules of pattern tables (regexp, cidr), and the ``if`` … ``endif`` around some of them.

Source: regexp_table(5), cidr_table(5).
"""

from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from pyfix.conf.error import ValueTrouble
from pyfix.conf.main_cf import WHITE_SPACE
from pyfix.tables.table import TableError
from pyfix.tables.texthash import source_lines

T = TypeVar("T")


class Rule(NamedTuple, Generic[T]):
    """A rule in the order of the table: where its pattern does not hold, look-ups go on at ``skip``."""

    pattern: T
    # empty for ``if``
    result: str
    # the index of the rule to go on with; for an ``if`` behind its ``endif``
    skip: int
    line: int


Parse = Callable[[str], tuple[T, str]]
"""Splits a line, without ``if``, into the pattern and the text behind it; ValueTrouble for a bad pattern."""


def read_rules(name: str, path: str, parse: Parse[T]) -> list[Rule[T]]:
    """The rules of a table's source file; TableError for the first line that is wrong."""
    pending: list[int] = []
    rules: list[Rule[T]] = []
    for line, text in source_lines(name, path):
        stripped = text.strip(WHITE_SPACE)
        word = stripped.split(None, 1)[0].lower()
        if word == "endif":
            if not pending:
                raise TableError(name, "endif without if", line)
            opened = pending.pop()
            rules[opened] = rules[opened]._replace(skip=len(rules))
            continue
        conditional = stripped[:2].lower() == "if" and stripped[2:3] in (*WHITE_SPACE, "/", "!")
        pattern, result = _parsed(name, line, parse, stripped[2:].lstrip(WHITE_SPACE) if conditional else stripped)
        if conditional:
            pending.append(len(rules))
            if result:
                raise TableError(name, "text after the pattern of an if", line)
        elif not result:
            raise TableError(name, "a pattern without result", line)
        rules.append(Rule(pattern, result, len(rules) + 1, line))
    if pending:
        raise TableError(name, "if without endif", rules[pending[-1]].line)
    return rules


def matching(rules: list[Rule[T]], matches: Callable[[T], bool]) -> Iterator[Rule[T]]:
    """The rules whose pattern holds, those outside a failed ``if`` only, in order."""
    at = 0
    while at < len(rules):
        rule = rules[at]
        if matches(rule.pattern):
            if rule.result:
                yield rule
            at += 1
        else:
            at = rule.skip


def _parsed(name: str, line: int, parse: Parse[T], text: str) -> tuple[T, str]:
    try:
        return parse(text)
    except ValueTrouble as trouble:
        raise TableError(name, trouble.message, line) from None
