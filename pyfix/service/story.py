"""A message's story: what was logged of a queue ID and of the messages that came of it or that it came from.

The lines are those of service/events.py. They are read from the journal by their fields, or from a log file, where they
stand behind a traditional or an ISO 8601 time stamp.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple, Protocol

from pyfix.mail.address import quote_address
from pyfix.spool.queue_id import is_queue_id
from pyfix.system.clock import syslog_seconds, syslog_time
from pyfix.system.journal_reader import Entry

_RELATED_LIMIT = 100
_LINE = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9-]{5}T[0-9:.,+Z-]{8,}) "
    r"\S+ (?P<program>[^\s\[]{1,100})\[[0-9]{1,10}\]: (?P<message>.*)",
    re.DOTALL,
)
# What leads from one message to another: its notice, its copy after postsuper -r, its next queue in this system.
_RELATION = re.compile(r"(?:notification: |orig_id=|forwarded as |queued as )([0-9A-Za-z]{6,20})")
_OWN_ID = re.compile(r"(?:warning: |error: )?([0-9A-Za-z]{6,20}): ")
_NO_MESSAGE = "NOQUEUE"


class Line(NamedTuple):
    """A line of the log."""

    # microseconds since the epoch
    time: int
    # the time as it is shown
    stamp: str
    # syslog_name/role
    program: str
    # empty for a line that is not about one message
    queue_id: str
    # other messages that this one leads to
    related: tuple[str, ...]
    message: str


class Log(Protocol):
    """What was logged, wherever it is kept; in the order of time."""

    def about(self, queue_ids: Collection[str]) -> Iterator[Line]:
        """The lines of these messages, and those that name one of them as related."""

    def recent(self, address: str, limit: int) -> list[Line]:
        """A line of each of the newest messages from or to an address, and the refusals among them."""


class JournalLog:
    """The journal. ``read`` is system.journal_reader's read_journal."""

    def __init__(self, read: Callable[..., Iterator[Entry]]) -> None:
        self._read = read

    def about(self, queue_ids: Collection[str]) -> Iterator[Line]:
        """As in Log."""
        return map(_line_of_entry, self._read(("PYFIX_QUEUE_ID", "PYFIX_RELATED_ID"), queue_ids))

    def recent(self, address: str, limit: int) -> list[Line]:
        """As in Log."""
        fields = ("PYFIX_SENDER", "PYFIX_RECIPIENT", "PYFIX_ORIGINAL_RECIPIENT")
        entries = self._read(fields, (address,), newest_first=True)
        return _one_each(map(_line_of_entry, entries), limit)[::-1]


class FileLog:
    """A log file. ``read`` gives its lines, and is called once for each generation of relatives."""

    def __init__(self, read: Callable[[], Iterable[str]], now: float) -> None:
        self._read = read
        self._now = now

    def about(self, queue_ids: Collection[str]) -> Iterator[Line]:
        """As in Log."""
        for line in self._lines_with(queue_ids):
            if line.queue_id in queue_ids or not set(queue_ids).isdisjoint(line.related):
                yield line

    def recent(self, address: str, limit: int) -> list[Line]:
        """As in Log."""
        newest: deque[Line] = deque(maxlen=limit)
        # Lines show it as Postfix's do, quoted where it needs that.
        forms = {address, quote_address(address)}
        about = re.compile(rf"\b(?:from|to|orig_to)=<(?:{'|'.join(map(re.escape, forms))})>")
        for line in self._lines_with(forms):
            refused = line.message.startswith(f"{_NO_MESSAGE}: ")
            if (line.queue_id or refused) and about.search(line.message):
                if not refused:
                    newest = deque((kept for kept in newest if kept.queue_id != line.queue_id), limit)
                newest.append(line)
        return list(newest)

    def _lines_with(self, texts: Collection[str]) -> Iterator[Line]:
        for text in self._read():
            if any(part in text for part in texts) and (line := parse_line(text, self._now)):
                yield line


def parse_line(text: str, now: float) -> Line | None:
    """A line of a log file without its end; None for what is not a log line.

    ``now``, in seconds since the epoch, tells the year of traditional time stamps, which have none.
    """
    match = _LINE.fullmatch(text)
    if not match:
        return None
    stamp, message = match["time"], match["message"]
    try:
        seconds = datetime.fromisoformat(stamp).timestamp() if "T" in stamp else syslog_seconds(stamp, now)
    except ValueError:
        return None
    own = _OWN_ID.match(message)
    queue_id = own[1] if own and is_queue_id(own[1]) else ""
    related = tuple(filter(is_queue_id, _RELATION.findall(message)))
    return Line(round(seconds * 1_000_000), stamp, match["program"], queue_id, related, message)


def tell(queue_id: str, log: Log) -> Iterator[Line]:
    """The lines of a message and of its relatives, in the order of time."""
    known = {queue_id}
    while fresh := _relatives(log.about(known), known):
        known.update(fresh[: _RELATED_LIMIT - len(known)])
    return (line for line in log.about(known) if line.queue_id in known)


def _relatives(lines: Iterable[Line], known: Collection[str]) -> list[str]:
    """The messages that the lines lead to; names that other hosts gave, of which there may be very many, come last."""
    if len(known) == _RELATED_LIMIT:
        return []
    made_here: set[str] = set()
    told: set[str] = set()
    for line in lines:
        found = told if "status=sent" in line.message else made_here
        if len(found) < _RELATED_LIMIT:
            found.update(name for name in (line.queue_id, *line.related) if name and name not in known)
    return [*sorted(made_here), *sorted(told - made_here)]


def elapsed(before: int, now: int) -> str:
    """The time between two moments, in microseconds, for people: ``0.012s``, ``5s``, ``16m40s``, ``3h05m``."""
    microseconds = max(now - before, 0)
    seconds = microseconds // 1_000_000
    if seconds < 60:
        # Log files have whole seconds only.
        return f"{microseconds / 1_000_000:.3f}s" if microseconds % 1_000_000 else f"{seconds}s"
    for above, unit, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if seconds >= above:
            return f"{seconds // above}{unit}{seconds % above // below:02d}{small}"
    return f"{seconds // 60}m{seconds % 60:02d}s"


def _line_of_entry(entry: Entry) -> Line:
    seconds, microseconds = divmod(entry.time, 1_000_000)
    queue_id = entry.fields.get("PYFIX_QUEUE_ID", "")
    related = entry.fields.get("PYFIX_RELATED_ID", "")
    return Line(
        entry.time,
        f"{syslog_time(seconds)}.{microseconds // 1000:03d}",
        entry.identifier,
        "" if queue_id == _NO_MESSAGE else queue_id,
        (related,) if related else (),
        entry.message,
    )


def _one_each(lines: Iterable[Line], limit: int) -> list[Line]:
    """The first line of each message, and all that are about none, until there are enough."""
    found: list[Line] = []
    seen: set[str] = set()
    for line in lines:
        if line.queue_id not in seen:
            found.append(line)
            seen.update(filter(None, (line.queue_id,)))
        if len(found) == limit:
            break
    return found
