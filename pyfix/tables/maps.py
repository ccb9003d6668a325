"""A list of tables that is searched in order, as parameters such as virtual_alias_maps name it."""

from collections.abc import Callable, Sequence

from pyfix.conf.config import Config
from pyfix.mail.address import quote_local
from pyfix.tables.key import fold
from pyfix.tables.table import Table, TableError, open_table

_WHOLE = ("postmaster", "mailer-daemon", "double-bounce")
"""Local parts that are never split, so that their mail arrives whatever the delimiter is."""


class Maps:
    """Tables in the order of search. ``parameter`` is the name of the list, for messages."""

    def __init__(self, parameter: str, tables: Sequence[Table]) -> None:
        self.parameter = parameter
        self.tables = tuple(tables)

    def __bool__(self) -> bool:
        return bool(self.tables)

    def look_up(self, key: str, *, partial: bool = False) -> str | None:
        """The first value that a table has for the key; TableError when one is in trouble or gives an empty value.

        ``partial`` says that the key is a part of an address; pattern tables are not asked then.
        """
        if not key:
            return None
        for table in self.tables:
            if partial and not table.partial:
                continue
            value = table.look_up(key)
            if value is not None:
                if not value:
                    raise TableError(table.name, f"an empty value for {key[:80]!r}; a table says no by having no entry")
                return value
        return None


def open_maps(conf: Config, parameter: str) -> Maps:
    """The tables that a parameter lists; ConfigError when one cannot be used at all."""
    try:
        return Maps(parameter, [open_table(word) for word in conf.words(parameter)])
    except TableError as error:
        raise conf.error(parameter, str(error)) from None


def find_address(
    maps: Maps, address: str, delimiters: str, is_local: Callable[[str], bool], *, owner_request_special: bool = True
) -> str | None:
    """The value for an address in internal form, searched as canonical(5), virtual(5) and local recipients are.

    In this order: ``user+extension@domain``, ``user@domain``; when ``is_local(domain)``, ``user+extension``, ``user``;
    at last ``@domain``.
    """
    if not maps:
        return None
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = domain, ""
    user = user_part(local, delimiters, owner_request_special=owner_request_special)
    names = (local,) if user == local else (local, user)
    keys = [f"{name}@{domain}" if at else name for name in names]
    if at and is_local(domain):
        keys += names
    for key in keys:
        value = _look_up_quoted(maps, key, partial=key != address)
        if value is not None:
            return value
    return maps.look_up("@" + domain, partial=True) if domain else None


def user_part(local: str, delimiters: str, *, owner_request_special: bool = True) -> str:
    """A local part without its extension; what must not be split stays whole."""
    if not delimiters:
        return local
    folded = fold(local)
    if folded in _WHOLE:
        return local
    if owner_request_special and "-" in delimiters and (folded.startswith("owner-") or folded.endswith("-request")):
        return local
    cut = min((at for at in map(local.find, delimiters) if at >= 0), default=0)
    return local[:cut] if cut else local


def _look_up_quoted(maps: Maps, key: str, *, partial: bool) -> str | None:
    """The value for an address as it is written in headers, else as it is in internal form."""
    local, at, domain = key.rpartition("@")
    quoted = f"{quote_local(local)}@{domain}" if at else quote_local(key)
    value = maps.look_up(quoted, partial=partial)
    return value if value is not None or quoted == key else maps.look_up(key, partial=partial)
