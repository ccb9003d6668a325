"""What ``pyfix top`` shows of the mail system, calculated from the log and from the queue."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

from pyfix.service import events
from pyfix.spool.census import Counted

Kind = Literal["received", "delivered", "deferred", "bounced"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MESSAGE_IDS = (events.RECEIVED, events.SUBMITTED, events.DELIVERED, events.DEFERRED, events.BOUNCED)
"""Of the log lines that count."""

WINDOW = 60
"""Seconds that are looked back."""

_STATUSES: dict[str, Kind] = {"sent": "delivered", "deferred": "deferred", "bounced": "bounced"}
_RECEIVED = re.compile(r"[0-9A-Za-z]{6,20}: (?:client=|uid=[0-9]+ from=<[^>]*>$)")
_STATUS = re.compile(r"[0-9A-Za-z]{6,20}: to=<.*?, status=([a-z]+) \(")


def kind_of(message: str) -> Kind | None:
    """What a log line counts as; a message that was requeued was received before."""
    if _RECEIVED.match(message):
        return "received"
    status = _STATUS.match(message)
    return _STATUSES.get(status[1]) if status else None


class Rates:
    """How often each kind of event happens in a minute. Times are in whole seconds."""

    __slots__ = ("_counts", "_missed", "_since")

    def __init__(self, since: int) -> None:
        """What happened before ``since`` is not known."""
        self._since = since
        self._counts: dict[int, dict[Kind, int]] = {}
        self._missed: set[int] = set()

    def add(self, kind: Kind, when: int) -> None:
        """Counts an event."""
        counts = self._counts.setdefault(when, {})
        counts[kind] = counts.get(kind, 0) + 1

    def miss(self, first: int, last: int) -> None:
        """Notes that not all events of these seconds were counted."""
        self._missed.update(range(max(first, last - WINDOW), last + 1))

    def per_minute(self, now: int) -> dict[Kind, float]:
        """The rates; empty where nothing is known."""
        for second in [second for second in self._counts if second <= now - WINDOW]:
            del self._counts[second]
        self._missed = {second for second in self._missed if second > now - WINDOW}
        known = self._known(now)
        if not known:
            return {}
        factor = WINDOW / len(known)
        return {kind: sum(self._counts.get(s, {}).get(kind, 0) for s in known) * factor for kind in KINDS}

    def is_estimated(self, now: int) -> bool:
        """Whether something of the last minute is not known."""
        return len(self._known(now)) < WINDOW

    def _known(self, now: int) -> list[int]:
        seconds = range(max(now - WINDOW + 1, self._since), now + 1)
        return [second for second in seconds if second not in self._missed]


class Destination(NamedTuple):
    """A domain for which recipients wait."""

    domain: bytes
    # recipients
    deferred: int
    active: int
    # a deferred message for it, empty if none is known
    example: str


class Sample(NamedTuple):
    """Some messages of a queue."""

    # how many messages the queue has
    size: int
    # the messages, by their names
    messages: Mapping[str, Counted]

    @property
    def is_whole(self) -> bool:
        """Whether these are all."""
        return len(self.messages) >= self.size

    def domains(self) -> dict[bytes, tuple[int, str]]:
        """How many recipients the queue is thought to have in each domain, and a message for it."""
        found: dict[bytes, tuple[int, str]] = {}
        for name, message in self.messages.items():
            for domain, number in message.domains.items():
                found[domain] = (found.get(domain, (0, ""))[0] + number, name)
        factor = 1 if self.is_whole else self.size / max(len(self.messages), 1)
        return {domain: (round(number * factor), name) for domain, (number, name) in found.items()}


def top_destinations(deferred: Sample, active: Sample, limit: int) -> list[Destination]:
    """The domains with the most recipients in these queues."""
    waiting, current = deferred.domains(), active.domains()
    none = (0, "")
    rows = [
        Destination(domain, waiting.get(domain, none)[0], current.get(domain, none)[0], waiting.get(domain, none)[1])
        for domain in waiting.keys() | current.keys()
    ]
    return sorted(rows, key=lambda row: (-row.deferred - row.active, row.domain))[:limit]


def oldest_usec(named: Iterable[int], samples: Iterable[Sample]) -> int:
    """When the oldest message arrived, microseconds since the epoch; 0 where none is known.

    ``named``: what the queue IDs tell, 0 where they tell nothing.
    """
    arrivals = [message.arrival * 1_000_000 for sample in samples for message in sample.messages.values()]
    return min((usec for usec in (*named, *arrivals) if usec > 0), default=0)
