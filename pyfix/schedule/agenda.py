"""What is to be done next, and when: the feed and the scheduler as one."""

from collections.abc import Iterable, Iterator

from pyfix.schedule.feed import Candidate, Feed
from pyfix.schedule.scheduler import Scheduler

# Other work has its turn after so many.
_BATCH = 32


class Agenda:
    """The feed and the scheduler. There are two clocks: one that never jumps for the dead, the wall clock for mail."""

    def __init__(self, feed: Feed, scheduler: Scheduler) -> None:
        self.feed = feed
        self.scheduler = scheduler

    @property
    def hungry(self) -> bool:
        """More candidates are there, and there is room for them."""
        return not self.feed.idle and self.scheduler.room

    @property
    def working(self) -> bool:
        """Something is going on."""
        return self.scheduler.active > 0 or not self.feed.idle

    @property
    def wake_times(self) -> tuple[float | None, float | None]:
        """When ``tick`` is due: on the one clock or on the other."""
        return self.scheduler.wake_at, self.feed.wake_at

    def candidates(self) -> Iterator[Candidate]:
        """Some messages to activate now, as long as there is room when the next is asked for."""
        for _ in range(_BATCH):
            if self.feed.idle:
                return
            if not self.scheduler.room:
                self.feed.full()
                return
            candidate = self.feed.next()
            if candidate is None:
                return
            if candidate.queue_id not in self.scheduler:
                yield candidate

    def run_queue(self) -> None:
        """The queues are to be searched for mail that is due."""
        self.feed.request("incoming")
        self.feed.request("deferred")

    def flush(self, queue_ids: Iterable[str] | None = None, *, wanted: bool = True) -> None:
        """Mail is to be tried now though its time has not come: some deferred messages, or all mail.

        ``wanted``: somebody asked for it, so that the schedule forgets what was found dead.
        """
        if wanted:
            self.scheduler.flush()
        if queue_ids is not None:
            for queue_id in queue_ids:
                self.feed.expedite(queue_id, wanted=wanted)
        else:
            self.feed.request("incoming", everything=True)
            self.feed.request("deferred", everything=True)

    def wake_in(self, now: float, wall_clock: float) -> float | None:
        """Seconds until ``tick`` is due."""
        revival, due = self.wake_times
        delays = [] if revival is None else [revival - now]
        if due is not None:
            delays.append(due - wall_clock)
        return max(min(delays), 0.0) if delays else None

    def tick(self, now: float, wall_clock: float) -> None:
        """Time has passed."""
        self.scheduler.tick(now)
        self.feed.tick(wall_clock)
