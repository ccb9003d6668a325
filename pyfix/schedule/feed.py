"""Which message enters the active set next: one that was announced, one whose time has come, or one that a scan finds.

Incoming and deferred mail take turns, one message each. When the active set is full, and a place becomes free, new mail
has the next turn, so that a large deferred queue cannot delay it.

A scan is an iterator that the caller makes; it gives the queue IDs that are due, and "" now and then where it has
looked at many that are not, so that others get their turn.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

QueueName = Literal["incoming", "deferred"]


class Candidate(NamedTuple):
    """A message that may be activated; it may be gone, or active already."""

    queue_name: QueueName
    queue_id: str


class _Source:
    """The scans of one queue: the running one, and whether another is due after it."""

    __slots__ = ("everything", "requested", "scan")

    def __init__(self) -> None:
        self.scan: Iterator[str] | None = None
        self.requested = False
        # the requested scan takes messages whose time has not come, too
        self.everything = False


class Feed:
    """Announcements, appointments and scans, merged into one stream of candidates.

    ``scan(queue_name, everything)`` starts a scan. At most ``limit`` announcements and ``limit`` appointments are kept;
    when there are more, scans find the rest. Appointments are in seconds since the epoch.
    """

    def __init__(self, scan: Callable[[QueueName, bool], Iterator[str]], limit: int) -> None:
        self._scan = scan
        self._limit = limit
        # dicts for their order and their lack of duplicates
        self._announced: dict[str, None] = {}
        self._due: dict[str, None] = {}
        # queue ID: when; and the same in the order of time, where entries that the dict does not confirm are void
        self._appointments: dict[str, float] = {}
        self._calendar: list[tuple[float, str]] = []
        self._incoming = _Source()
        self._deferred = _Source()
        self._deferred_first = False

    @property
    def idle(self) -> bool:
        """Nothing is announced, no appointment is due, and no scan is running or wanted."""
        if self._announced or self._due:
            return False
        return all(source.scan is None and not source.requested for source in (self._incoming, self._deferred))

    def announce(self, queue_id: str) -> None:
        """A message came into incoming."""
        if len(self._announced) < self._limit:
            self._announced[queue_id] = None
        else:
            self._incoming.requested = True

    def appoint(self, queue_id: str, when: float) -> None:
        """A message was deferred until then. An appointment takes the place of the one before."""
        if len(self._appointments) < self._limit and len(self._calendar) < 2 * self._limit:
            self._appointments[queue_id] = when
            heapq.heappush(self._calendar, (when, queue_id))

    def expedite(self, queue_id: str) -> None:
        """A deferred message is to be tried now."""
        self._due[queue_id] = None

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due; None if nothing is known of the future."""
        return self._calendar[0][0] if self._calendar else None

    def tick(self, now: float) -> None:
        """Time has passed: appointments fall due."""
        while self._calendar and self._calendar[0][0] <= now:
            when, queue_id = heapq.heappop(self._calendar)
            if self._appointments.get(queue_id) == when:
                del self._appointments[queue_id]
                self._due[queue_id] = None

    def request(self, queue_name: QueueName, *, everything: bool = False) -> None:
        """A scan is due: now, or after the one that runs, which may have passed what is meant."""
        source = self._incoming if queue_name == "incoming" else self._deferred
        source.requested = True
        source.everything = source.everything or everything

    def full(self) -> None:
        """The active set is full."""
        self._deferred_first = False

    def next(self) -> Candidate | None:
        """The next candidate; None if there is none, or, unless ``idle``, none yet."""
        order = (self._take_deferred, self._take_incoming)
        for take in order if self._deferred_first else reversed(order):
            candidate = take()
            if candidate is not None:
                self._deferred_first = candidate.queue_name == "incoming"
                return candidate
        return None

    def _take_incoming(self) -> Candidate | None:
        for queue_id in self._announced:
            del self._announced[queue_id]
            return Candidate("incoming", queue_id)
        return self._take_scanned("incoming", self._incoming)

    def _take_deferred(self) -> Candidate | None:
        for queue_id in self._due:
            del self._due[queue_id]
            return Candidate("deferred", queue_id)
        candidate = self._take_scanned("deferred", self._deferred)
        if candidate is not None:
            self._appointments.pop(candidate.queue_id, None)
        return candidate

    def _take_scanned(self, queue_name: QueueName, source: _Source) -> Candidate | None:
        if source.scan is None:
            if not source.requested:
                return None
            source.scan = self._scan(queue_name, source.everything)
            source.requested = source.everything = False
        queue_id = next(source.scan, None)
        if queue_id is None:
            source.scan = None
        return Candidate(queue_name, queue_id) if queue_id else None
