"""A message's story: what the log says of a queue ID and of the messages that came of it or that it came from.

The lines are those of service/events.py behind a traditional or an ISO 8601 time stamp. Source: a log's lines in their
order, which is the order of time.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pyfix.spool.queue_id import is_queue_id

_RELATED_LIMIT = 100
_LINE = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9-]{5}T[0-9:.,+Z-]{8,}) "
    r"\S+ (?P<program>[^\s\[]{1,100})\[(?P<pid>[0-9]{1,10})\]: (?P<message>.*)",
    re.DOTALL,
)
# What leads from one message to another: its notice, its copy after postsuper -r, its next queue in this system.
_RELATION = re.compile(r"(?:notification: |orig_id=|forwarded as |queued as )([0-9A-Za-z]{6,20})")
_OWN_ID = re.compile(r"(?:warning: |error: )?([0-9A-Za-z]{6,20}): ")


class Line(NamedTuple):
    """A line of the log."""

    time: str
    # syslog_name/role
    program: str
    pid: int
    # empty for a line that is not about one message
    queue_id: str
    message: str


def parse_line(text: str) -> Line | None:
    """A line without its end; None for what is not a log line."""
    match = _LINE.fullmatch(text)
    if not match:
        return None
    own = _OWN_ID.match(match["message"])
    queue_id = own[1] if own and is_queue_id(own[1]) else ""
    return Line(match["time"], match["program"], int(match["pid"]), queue_id, match["message"])


def tell(queue_id: str, read_log: Callable[[], Iterable[str]]) -> list[Line]:
    """The lines of a message and of its relatives, in the order of the log, which is read once for each generation."""
    known = {queue_id}
    while True:
        lines = [line for text in read_log() if (line := _about(text, known))]
        found = {name for line in lines for name in (line.queue_id, *_RELATION.findall(line.message))}
        relatives = known | {name for name in found if is_queue_id(name)}
        if relatives == known or len(relatives) > _RELATED_LIMIT:
            return [line for line in lines if line.queue_id in known]
        known = relatives


def _about(text: str, known: set[str]) -> Line | None:
    """The line, if it is one of a known message or names one as its relative."""
    if not any(name in text for name in known):
        return None
    line = parse_line(text)
    if line and (line.queue_id in known or known.intersection(_RELATION.findall(line.message))):
        return line
    return None
