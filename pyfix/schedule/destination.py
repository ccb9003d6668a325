"""A destination: what waits for one next hop, and how many deliveries to it run side by side.

The window law:

=====================================  ====================================================================
event                                  effect
=====================================  ====================================================================
the first delivery                     the window is ``initial``
the next hop answered                  the window grows by the positive feedback, up to ``limit``, as long as
                                       it is no more than ``initial`` above what is in flight
the next hop could not be reached      the window shrinks by the negative feedback, not below 1, and the
                                       failed cohorts grow by 1/window
the next hop answered                  the failed cohorts are 0
failed cohorts >= failed_cohort_limit  the destination is dead for ``minimal_backoff_time``
=====================================  ====================================================================

Feedback of less than 1 adds up until it makes 1: the window moves in whole deliveries. Of such feedback the first
negative feedback takes effect at once, the first positive one only when it has added up.

Where deliveries to a destination have a rate, the window is 1, and a pause follows each delivery.

Source: Postfix's SCHEDULER_README, "Concurrency scheduling".
"""

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

from pyfix.schedule.job import Job, Key, Peer
from pyfix.schedule.limits import Concurrency
from pyfix.schedule.message import Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyfix.schedule.transport import Transport

# Ten times 0.1 is a little less than 1.
_ROUNDING = 1e-6

Turn = tuple[Key, int, Peer]
"""A place in a transport's order of service: a job's key, a number for turns within the job, and who is served."""


class Destination:
    """Deliveries that share a window: those to one next hop, or to one recipient where a delivery has only one."""

    __slots__ = (
        "_early",
        "_failure",
        "_serial",
        "_success",
        "_waiting",
        "backlog",
        "dead_until",
        "failed_cohorts",
        "in_flight",
        "law",
        "name",
        "paused_until",
        "transport",
        "trouble",
        "turn",
        "window",
    )

    def __init__(self, name: str, transport: "Transport", law: Concurrency) -> None:
        self.name = name
        self.transport = transport
        self.law = law
        self.window = self._initial()
        self.in_flight = 0
        # Peers in the order of service, and a heap of those that came out of it. Void are those whose job has another
        # key by now, and those without an entry.
        self._waiting: deque[tuple[Key, Peer]] = deque()
        self._early: list[tuple[Key, int, Peer]] = []
        self._serial = 0
        # the number of entries that wait
        self.backlog = 0
        self.failed_cohorts = 0.0
        # when it may be tried again, on the caller's clock; None while it is alive
        self.dead_until: float | None = None
        # why it is dead
        self.trouble: Trouble | None = None
        # the pause after a delivery, where there is one
        self.paused_until: float | None = None
        # its place in its transport's order of service
        self.turn: Turn | None = None
        self._success = 0.0
        self._failure = 0.0

    def __str__(self) -> str:
        """What destination_concurrency_feedback_debug is for."""
        return (
            f"queue {self.name}: limit {self.law.limit} window {self.window} success {self._success:g}"
            f" failure {self._failure:g} fail_cohorts {self.failed_cohorts:g}"
        )

    @property
    def ready(self) -> bool:
        """It has a delivery to start and may start it."""
        return self.backlog > 0 and self.in_flight < self.window and self.paused_until is None

    @property
    def idle(self) -> bool:
        """Nothing is waiting, in flight or remembered."""
        return not self.in_flight and not self.backlog and self.dead_until is None and self.paused_until is None

    def line_up(self, peer: Peer) -> None:
        """A peer that has something to deliver takes its place."""
        key = peer.job.key
        if self._waiting and key < self._waiting[-1][0]:
            # The number keeps peers of one key apart: a job may come again.
            self._serial += 1
            heappush(self._early, (key, self._serial, peer))
        else:
            self._waiting.append((key, peer))

    def first(self) -> Peer:
        """Who is served next; there is something waiting."""
        early, waiting = self._early, self._waiting
        while waiting:
            key, first = waiting[0]
            if first.entries and first.job.key is key:
                break
            waiting.popleft()
        while early:
            key, _, peer = early[0]
            if peer.entries and peer.job.key is key:
                return peer if not waiting or key < waiting[0][0] else first
            heappop(early)
        return first

    def jobs(self) -> Iterator[Job]:
        """Those that have something to deliver here; one that has preempted another maybe twice."""
        for peer in (*(peer for _, peer in self._waiting), *(peer for *_, peer in self._early)):
            if peer.entries:
                yield peer.job

    def clear(self) -> None:
        """Nothing waits any more."""
        self._waiting.clear()
        self._early.clear()

    def answered(self) -> None:
        """A delivery ended, and the next hop was reached."""
        self.failed_cohorts = 0.0
        if self.dead_until is not None:
            self.revive()
            return
        law, window = self.law, self.window
        # A window far above what is in flight would make negative feedback come too late.
        if window >= self.in_flight + law.initial or 0 < law.limit <= window:
            return
        positive = law.positive
        success = self._success + (positive.of(window) if positive.per else positive.amount)
        while success >= 1 - _ROUNDING:
            self.window += 1
            self._failure = 0.0
            success -= 1
        self._success = success

    def unreachable(self, trouble: Trouble, dead_until: float) -> bool:
        """A delivery ended without reaching the next hop; whether the destination is dead by that."""
        if self.dead_until is not None:
            return False
        law = self.law
        self.failed_cohorts += 1 / self.window
        if law.failed_cohort_limit and self.failed_cohorts >= law.failed_cohort_limit - _ROUNDING:
            self.dead_until = dead_until
            self.trouble = trouble
            return True
        self._failure -= law.negative.of(self.window)
        while self._failure < -_ROUNDING:
            self.window -= 1
            self._success = 0.0
            self._failure += 1
        self.window = max(self.window, 1)
        return False

    def revive(self) -> None:
        """Starts again with the initial window."""
        self.dead_until = self.trouble = None
        self.window = self._initial()
        self._success = self._failure = self.failed_cohorts = 0.0

    def _initial(self) -> int:
        law = self.law
        return max(1, min(law.initial, law.limit) if law.limit else law.initial)
