"""Reading what was logged: the journal by its fields, and log files by their lines.

Source: sd_journal_add_match(3), systemd.journal-fields(7).
"""

import glob
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

_SYSTEM_JOURNALS = ("/var/log/journal/*/system.journal", "/run/log/journal/*/system.journal")


class Entry(NamedTuple):
    """An entry of the journal."""

    # when it was sent, microseconds since the epoch
    time: int
    identifier: str
    message: str
    # those whose names begin with PYFIX_
    fields: Mapping[str, str]


def has_journal() -> bool:
    """Whether this machine keeps a journal."""
    return any(glob.glob(pattern) for pattern in _SYSTEM_JOURNALS)


def may_read_journal() -> bool:
    """Whether the caller may read what the system's services log; everybody may read what their own programs log."""
    return any(os.access(path, os.R_OK) for pattern in _SYSTEM_JOURNALS for path in glob.glob(pattern))


def read_journal(fields: Collection[str], values: Collection[str], *, newest_first: bool = False) -> Iterator[Entry]:
    """The entries in which one of the fields has one of the values, found through the journal's index."""
    from systemd.journal import Reader  # noqa: PLC0415 -- takes its time to load, which only this needs

    with Reader() as reader:
        for field in fields:
            for value in values:
                reader.add_match(f"{field}={value}")
            reader.add_disjunction()
        if newest_first:
            reader.seek_tail()
        step = reader.get_previous if newest_first else reader.get_next
        while entry := step():
            yield _entry(entry)


def read_lines(path: str) -> Iterator[str]:
    """The lines of a log file, without their ends. Raises OSError."""
    with open(path, "rb") as file:
        for line in file:
            yield line.decode("utf-8", "replace").removesuffix("\n")


def _entry(entry: Mapping[str, Any]) -> Entry:
    sent = entry.get("_SOURCE_REALTIME_TIMESTAMP", entry["__REALTIME_TIMESTAMP"])
    return Entry(
        round(sent.timestamp() * 1_000_000),
        _text(entry.get("SYSLOG_IDENTIFIER", "")),
        _text(entry.get("MESSAGE", "")),
        {name: _text(value) for name, value in entry.items() if name.startswith("PYFIX_")},
    )


def _text(value: Any) -> str:
    """A field that was given more than once counts as given first; bytes are what is no UTF-8."""
    if isinstance(value, list):
        value = value[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
