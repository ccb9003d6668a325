"""unix: the machine's users and groups, ``unix:passwd.byname`` and ``unix:group.byname``."""

from collections.abc import Callable

from pyfix.system import account
from pyfix.tables.table import TableError


def _passwd_line(name: str) -> str | None:
    found = account.by_name(name)
    return found and found.line


_MAPS: dict[str, Callable[[str], str | None]] = {"group.byname": account.group_line, "passwd.byname": _passwd_line}


class UnixTable:
    """One of the system's databases; values are lines of passwd(5) or group(5)."""

    partial = True

    def __init__(self, name: str, entry: Callable[[str], str | None]) -> None:
        self.name = name
        self._entry = entry

    def look_up(self, key: str) -> str | None:
        """The entry's line; the key's case counts first, then lower case, as for mail addresses."""
        try:
            return self._entry(key) or (self._entry(key.lower()) if key.isascii() and key != key.lower() else None)
        except (OSError, ValueError) as error:
            raise TableError(self.name, f"look-up failed: {error}") from None


def open_table(name: str, argument: str) -> UnixTable:
    """The database of that name."""
    entry = _MAPS.get(argument)
    if entry is None:
        raise TableError(name, f"unknown database; known are {', '.join(sorted(_MAPS))}")
    return UnixTable(name, entry)
