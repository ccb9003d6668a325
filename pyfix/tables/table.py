"""What a lookup table is, and how one is opened by its name, ``type:argument``.

Source: DATABASE_README, postconf(1) -m.
"""

from importlib import import_module
from typing import Protocol

MODULES = {
    "btree": "lmdb_file",
    "cidr": "cidr",
    "environ": "environ",
    "fail": "fail",
    "hash": "lmdb_file",
    "inline": "inline",
    "lmdb": "lmdb_file",
    "regexp": "regexp",
    "static": "static",
    "texthash": "texthash",
    "unix": "unix",
}
"""The module of each table type; ``hash:`` and ``btree:`` name LMDB files here."""

PROXY = "proxy:"
"""The prefix of a table that Postfix opens in another process; a local type needs none."""


class TableError(Exception):
    """A table cannot be used now, or its text is wrong: not the same as a key that is not found.

    ``table`` is its name, ``type:argument``. ``line`` is the line of its text, 0 where that means nothing.
    """

    def __init__(self, table: str, message: str, line: int = 0) -> None:
        self.table = table
        self.message = message
        self.line = line
        super().__init__(f"{table}, line {line}: {message}" if line else f"{table}: {message}")


class Table(Protocol):
    """A table; ``name`` is ``type:argument``.

    ``partial``: it is also asked for parts of an address, ``user@`` or ``@domain``. Pattern tables are not: they see
    the whole.
    """

    name: str
    partial: bool

    def look_up(self, key: str) -> str | None:
        """The value for a key, None when there is none; TableError when nobody can tell."""


def open_table(name: str) -> Table:
    """The table of that name; TableError for a type that is unknown or a text that is wrong.

    A file that does not exist is found out at the first look-up, and looked for again at the next.
    """
    type_name, colon, argument = name.removeprefix(PROXY).partition(":")
    module = MODULES.get(type_name)
    if not colon or not type_name:
        raise TableError(name, "a table is written type:name, for example hash:/etc/pyfix/access")
    if module is None:
        raise TableError(name, f"unsupported table type {type_name!r}; known are {', '.join(sorted(MODULES))}")
    table: Table = import_module("pyfix.tables." + module).open_table(name.removeprefix(PROXY), argument)
    return table


def read_text(name: str, path: str) -> bytes:
    """A table's source file, whole; TableError when it cannot be read or is larger than 64 MiB."""
    limit = 64 * 1024 * 1024
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise TableError(name, error.strerror or "cannot be read") from None
    if len(content) > limit:
        raise TableError(name, f"larger than {limit} bytes")
    return content
