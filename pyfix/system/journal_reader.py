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


class JournalTail:
    """The newest entries of some kinds, and then those that come. ``recent`` is asked first."""

    def __init__(self, message_ids: Collection[str]) -> None:
        from systemd.journal import Reader  # noqa: PLC0415 -- as above

        self._reader = Reader()
        # Makes it notice new files of the journal.
        self._reader.fileno()
        for message_id in message_ids:
            self._reader.add_match(f"MESSAGE_ID={message_id}")

    def recent(self, since: int, limit: int) -> list[Entry]:
        """The entries since that moment, newest first, at most so many; ``since`` is in microseconds."""
        found: list[Entry] = []
        newest = ""
        self._reader.seek_tail()
        while len(found) < limit and (raw := self._reader.get_previous()):
            newest = newest or raw["__CURSOR"]
            entry = _entry(raw)
            if entry.time < since:
                break
            found.append(entry)
        if newest:
            self._reader.seek_cursor(newest)
            self._reader.get_next()
        else:
            self._reader.seek_head()
        return found

    def read(self, limit: int) -> list[Entry]:
        """The entries that have come since. Where there are more than ``limit`` the rest is passed over."""
        self._reader.process()
        found: list[Entry] = []
        while raw := self._reader.get_next():
            found.append(_entry(raw))
            if len(found) == limit:
                self._reader.seek_tail()
                self._reader.get_previous()
                break
        return found

    def close(self) -> None:
        """Closes the journal."""
        self._reader.close()


class FileTail:
    """The end of a log file, and then what is appended; a file that replaces it is read from its beginning."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = open(path, "rb")  # noqa: SIM115 -- read from as long as the object lives
        self._rest = b""
        self.whole = True

    def recent(self, size: int) -> list[str]:
        """The lines in the last ``size`` bytes, oldest first; ``whole`` tells if that is all. Raises OSError."""
        end = self._file.seek(0, os.SEEK_END)
        start = max(end - size, 0)
        self.whole = not start
        self._file.seek(start)
        lines = self.read(size)
        return lines[1:] if start else lines

    def read(self, size: int) -> list[str]:
        """The whole lines among the next ``size`` bytes. Raises OSError."""
        data = self._rest + self._file.read(size)
        *lines, rest = data.split(b"\n")
        # What has no end so far is bounded as well.
        self._rest = rest[:size]
        if not data or data == self._rest:
            self._follow()
        return [line.decode("utf-8", "replace") for line in lines]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _follow(self) -> None:
        """Goes on with the file that now has the name."""
        try:
            current = os.stat(self._path)
        except FileNotFoundError:
            return  # it comes with the next line
        known = os.fstat(self._file.fileno())
        if (current.st_dev, current.st_ino) != (known.st_dev, known.st_ino):
            self._file.close()
            self._file = open(self._path, "rb")  # noqa: SIM115 -- as above
            self._rest = b""


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
