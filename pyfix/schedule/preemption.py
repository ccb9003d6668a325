"""Preemption: small messages slip past a large one, which loses no more than a bounded share by it.

A transport serves its jobs in the order in which their messages came, so a message with thousands of recipients would
hold up all that come after it. Therefore each entry that is taken from a job adds 1 to its account, and ``cost``
entries pay for one *slot*: a delivery of another job that goes first. A job that needs n slots may preempt the one
whose turn it is, the *current* one,

- if that is large: it has at least ``minimum`` times ``cost`` entries;
- if n is no more than the slots that the current job has and will yet earn;
- if no other such job has waited longer for each of its entries: age over size is highest;
- as soon as the slots earned, and ``loan`` more, are at least n less ``discount`` percent.

All n slots are paid at once, so that the account may become negative; no preemption happens until it is positive.
When the job that has preempted is done, the account is set right by what it really used. A job that has preempted
may be preempted in turn and pays from its own account. By that a large message is delayed at most by the factor
cost/(cost-1), and what is on loan; in a chain of preemptions the largest goes last, but it goes.

A job is passed over while all its destinations are busy. Here such jobs, once seen, are parked at their
destinations, and come back into the choice one by one as those take deliveries again: so a choice looks at one job of
each size, however many wait.

Source: Postfix's SCHEDULER_README, "Preemptive scheduling".
"""

from heapq import heappop, heappush

from pyfix.schedule.destination import Destination
from pyfix.schedule.job import LAST, Job
from pyfix.schedule.limits import Slots

_Line = list[tuple[int, Job]]


class Candidates:
    """The jobs of a transport that might preempt another. Of each size the oldest is the best one."""

    __slots__ = ("_by_size", "_parked")

    def __init__(self) -> None:
        # heaps by the age of jobs; a job may have another size by now, or nothing that waits
        self._by_size: dict[int, _Line] = {}
        self._parked: dict[Destination, _Line] = {}

    def add(self, job: Job) -> None:
        """A job that has something to deliver."""
        heappush(self._by_size.setdefault(job.size, []), (job.message.sequence, job))

    def freed(self, destination: Destination) -> None:
        """The destination takes deliveries again: who is parked there first has a chance."""
        line = self._parked.get(destination)
        while line:
            _, job = heappop(line)
            if job.selected < job.read:
                self.add(job)
                return
        self._parked.pop(destination, None)

    def best(self, current: Job, slots: int, now: float) -> Job | None:
        """The best of those that need no more than so many slots."""
        found, highest = None, 0.0
        for size in list(self._by_size):
            job = self._oldest(size)
            if job is None or job is current or job.children or job.size - job.selected > slots:
                continue
            score = (now - job.message.queued + 1) / size
            if score > highest:
                found, highest = job, score
        return found

    def _oldest(self, size: int) -> Job | None:
        """The oldest of that size that could be delivered."""
        line = self._by_size[size]
        while line:
            _, job = line[0]
            if job.selected < job.read:
                if job.size == size and job.selectable:
                    return job
                (self._park if job.size == size else self.add)(job)
            heappop(line)
        del self._by_size[size]
        return None

    def _park(self, job: Job) -> None:
        for peer in job.peers.values():
            heappush(self._parked.setdefault(peer.destination, []), (job.message.sequence, job))


def affordable(current: Job, needed: int, slots: Slots) -> bool:
    """Whether the job has earned enough for another that needs so many slots."""
    earned = current.slots_available // slots.cost + slots.loan
    return 100 * earned >= needed * (100 - slots.discount)


def put_before(current: Job, job: Job, slots: Slots) -> None:
    """The job preempts the current one, and is charged for."""
    leave_stack(job, slots)
    needed = job.size - job.selected
    current.preemptions += 1
    job.key = (*current.key[:-1], current.preemptions, LAST)
    job.parent = current
    if current.children is None:
        current.children = {}
    current.children[job] = None
    current.slots_available -= needed * slots.cost
    job.slots_end = job.selected + needed


def leave_stack(job: Job, slots: Slots) -> None:
    """The job does not preempt any more. Those that have preempted it come to stand with whom it has preempted."""
    parent = job.parent
    if parent is not None:
        # Who has adopted it is not charged: the slots were another's.
        if len(job.key) == len(parent.key) + 1:
            parent.slots_available -= (job.selected - job.slots_end) * slots.cost
        assert parent.children is not None
        del parent.children[job]
        job.parent = None
    for child in job.children or ():
        child.parent = parent
        if parent is not None:
            assert parent.children is not None
            parent.children[child] = None
    job.children = None
