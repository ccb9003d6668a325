"""Which message enters the active set next: one that was announced, one whose time has come, or one that a scan finds.

Incoming and deferred mail take turns, one message each. When the active set is full, and a place becomes free, new mail
has the next turn, so that a large deferred queue cannot delay it.

A scan is an iterator that the caller makes; it gives the queue IDs that are due, and "" now and then where it has
looked at many that are not, so that others get their turn.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

QueueName = Literal["incoming", "deferred"]


class Candidate(NamedTuple):
    """A message that may be activated; it may be gone, or active already."""

    queue_name: QueueName
    queue_id: str
    # somebody asked for the attempt
    wanted: bool = False


class _Source:
    """The scans of one queue: the running one, and whether another is due after it."""

    __slots__ = ("everything", "requested", "scan", "wanted")

    def __init__(self) -> None:
        self.scan: Iterator[str] | None = None
        self.requested = False
        # the requested scan takes messages whose time has not come, too
        self.everything = False
        # the running one does so, as somebody asked for it
        self.wanted = False

    @property
    def busy(self) -> bool:
        """A scan is running or wanted."""
        return self.requested or self.scan is not None


class Feed:
    """Announcements, appointments and scans, merged into one stream of candidates.

    ``scan(queue_name, everything)`` starts a scan. At most ``limit`` announcements and ``limit`` appointments are kept;
    when there are more, scans find the rest. Appointments are in seconds since the epoch.
    """

    def __init__(self, scan: Callable[[QueueName, bool], Iterator[str]], limit: int) -> None:
        self._scan = scan
        self._limit = limit
        # Lines without duplicates. A plain dict is slow where the first is taken again and again.
        self._announced: OrderedDict[str, None] = OrderedDict()
        # with whether somebody asked for it
        self._due: OrderedDict[str, bool] = OrderedDict()
        # queue ID: when; and the same in the order of time, where entries that the dict does not confirm are void
        self._appointments: dict[str, float] = {}
        self._calendar: list[tuple[float, str]] = []
        self._incoming = _Source()
        self._deferred = _Source()
        self._deferred_first = False

    @property
    def idle(self) -> bool:
        """Nothing is announced, no appointment is due, and no scan is running or wanted."""
        return not (self._announced or self._due or self._incoming.busy or self._deferred.busy)

    @property
    def crowded(self) -> bool:
        """More messages are announced than will be looked at soon: mail comes in faster than it is taken."""
        return len(self._announced) > self._limit // 20

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

    def expedite(self, queue_id: str, *, wanted: bool = True) -> None:
        """A deferred message is to be tried now; ``wanted``: because somebody asked for it."""
        if len(self._due) < self._limit:
            self._due[queue_id] = wanted
        else:
            self.request("deferred", everything=True)

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
                self._due.setdefault(queue_id, False)

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
        if self._deferred_first:
            candidate = self._take_deferred() or self._take_incoming()
        else:
            candidate = self._take_incoming() or self._take_deferred()
        if candidate is not None:
            self._deferred_first = candidate.queue_name == "incoming"
        return candidate

    def _take_incoming(self) -> Candidate | None:
        if self._announced:
            return Candidate("incoming", self._announced.popitem(last=False)[0])
        return self._take_scanned("incoming", self._incoming) if self._incoming.busy else None

    def _take_deferred(self) -> Candidate | None:
        if self._due:
            return Candidate("deferred", *self._due.popitem(last=False))
        candidate = self._take_scanned("deferred", self._deferred) if self._deferred.busy else None
        if candidate is not None:
            self._appointments.pop(candidate.queue_id, None)
        return candidate

    def _take_scanned(self, queue_name: QueueName, source: _Source) -> Candidate | None:
        if source.scan is None:
            source.scan = self._scan(queue_name, source.everything)
            source.wanted = source.everything
            source.requested = source.everything = False
        queue_id = next(source.scan, None)
        if queue_id is None:
            source.scan = None
        return Candidate(queue_name, queue_id, source.wanted) if queue_id else None
