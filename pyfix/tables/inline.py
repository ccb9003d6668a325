"""inline: a table written in its name, ``inline:{key=value, {key = value with spaces}}``."""

from pyfix.conf.error import ValueTrouble
from pyfix.conf.main_cf import WHITE_SPACE
from pyfix.conf.value import split_words
from pyfix.tables.key import fold
from pyfix.tables.table import TableError


class KeyTable:
    """Keys and values in memory; keys are found in any case."""

    partial = True

    def __init__(self, name: str, entries: dict[str, str]) -> None:
        self.name = name
        self._entries = entries

    def look_up(self, key: str) -> str | None:
        """The key's value."""
        return self._entries.get(fold(key))


def open_table(name: str, argument: str) -> KeyTable:
    """The table that the argument spells out; TableError when it is malformed or empty."""
    text = argument.strip(" \t\r\n")
    if not (text.startswith("{") and text.endswith("}")):
        raise TableError(name, "write inline:{key=value, ...}")
    try:
        words = split_words(text[1:-1])
    except ValueTrouble as trouble:
        raise TableError(name, trouble.message) from None
    entries: dict[str, str] = {}
    for word in words:
        inner = word[1:-1] if word.startswith("{") and word.endswith("}") else word
        key, equals, value = (part.strip(WHITE_SPACE) for part in inner.partition("="))
        if not equals or not key:
            raise TableError(name, f"not key=value: {word[:40]!r}")
        entries.setdefault(fold(key), value)
    if not entries:
        raise TableError(name, "the table is empty; write inline:{key=value, ...}")
    return KeyTable(name, entries)
