"""fail: a table whose every look-up fails, for tests of what happens then."""

from typing import NoReturn

from pyfix.tables.table import TableError


class FailTable:
    """A table that is always in trouble."""

    partial = True

    def __init__(self, name: str) -> None:
        self.name = name

    def look_up(self, key: str) -> NoReturn:
        """Raise TableError."""
        del key
        raise TableError(self.name, "fails always")


def open_table(name: str, argument: str) -> FailTable:
    """The table; the argument only names it."""
    del argument
    return FailTable(name)
