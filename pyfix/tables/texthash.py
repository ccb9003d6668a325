"""texthash: a table's source file, read whole when the table is opened.

A logical line is a key, white space and a value; it continues on lines that begin with white space. A key with white
space in it stands in double quotes. Empty lines and lines that begin with ``#`` are comments.

Source: postmap(1), "Table format".
"""

from collections.abc import Iterator

from pyfix.conf.error import ConfigError
from pyfix.conf.main_cf import WHITE_SPACE, logical_lines
from pyfix.tables.inline import KeyTable
from pyfix.tables.key import fold
from pyfix.tables.table import TableError, read_text


def open_table(name: str, argument: str) -> KeyTable:
    """The table in that file; of a key that occurs twice, the first counts."""
    entries: dict[str, str] = {}
    for _line, key, value in source_entries(name, argument):
        entries.setdefault(fold(key), value)
    return KeyTable(name, entries)


def source_entries(name: str, path: str) -> Iterator[tuple[int, str, str]]:
    """Line number, key and value of each entry of a table's source file."""
    for line, text in source_lines(name, path):
        key, value = _split(text.strip(WHITE_SPACE))
        if not key or not value:
            raise TableError(name, "an entry is a key, white space and a value", line)
        yield line, key, value


def source_lines(name: str, path: str) -> Iterator[tuple[int, str]]:
    """The logical lines of a table's source file, each with the number of its first line."""
    try:
        yield from logical_lines(read_text(name, path), path)
    except ConfigError as error:
        raise TableError(name, error.message, error.line) from None


def _split(text: str) -> tuple[str, str]:
    if text.startswith('"'):
        return _split_quoted(text)
    for index, character in enumerate(text):
        if character in WHITE_SPACE:
            return text[:index], text[index:].lstrip(WHITE_SPACE)
    return text, ""


def _split_quoted(text: str) -> tuple[str, str]:
    """A key in double quotes, in which a backslash quotes the next character."""
    key, index = list[str](), 1
    while index < len(text) and text[index] != '"':
        if text[index] == "\\":
            index += 1
        key.append(text[index : index + 1])
        index += 1
    return "".join(key), text[index + 1 :].strip(WHITE_SPACE)
