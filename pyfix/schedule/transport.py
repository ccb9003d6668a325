"""A transport: what waits for it, in the order of service, and how many deliveries it may run at all.

The next delivery is of the first job, in the order of keys (pyfix.schedule.job), that has a destination that is ready.
Within a job the destinations take turns. So mail is served in the order of its coming, unless its destination is busy
or a small message preempts a large one (pyfix.schedule.preemption).

Only destinations that are ready stand in the order of service, so what a delivery costs does not depend on how much
mail waits for busy ones.
"""

from heapq import heappop, heappush

from pyfix.schedule.destination import Destination, Turn
from pyfix.schedule.job import Job, Peer
from pyfix.schedule.limits import TransportLimits
from pyfix.schedule.message import Entry, Message, Trouble
from pyfix.schedule.pool import Pool
from pyfix.schedule.preemption import Candidates, affordable, leave_stack, put_before
from pyfix.service.delivery import Recipient


class Delivery:
    """A delivery in flight."""

    __slots__ = ("destination", "entry", "transport")

    def __init__(self, transport: "Transport", destination: Destination, entry: Entry) -> None:
        self.transport = transport
        self.destination = destination
        self.entry = entry


class Transport:
    """A transport, its destinations, and its jobs."""

    __slots__ = (
        "_candidates",
        "_large",
        "_large_size",
        "_turns",
        "_turns_given",
        "dead_until",
        "destinations",
        "in_flight",
        "limits",
        "name",
        "paused_until",
        "pool",
        "queued",
        "trouble",
    )

    def __init__(self, name: str, limits: TransportLimits) -> None:
        self.name = name
        self.limits = limits
        self.destinations: dict[str, Destination] = {}
        self.pool = Pool(limits.recipients)
        self.in_flight = 0
        # when it may be tried again, on the caller's clock; None while it is alive
        self.dead_until: float | None = None
        # why it is dead
        self.trouble: Trouble | None = None
        # the pause after the start of a delivery, where there is one
        self.paused_until: float | None = None
        # it stands in the scheduler's rotation
        self.queued = False
        # the order of service, a heap; a turn that its destination does not know is void
        self._turns: list[Turn] = []
        self._turns_given = 0
        # From how many entries on a job may be preempted, and how many such jobs there are. While there are any, those
        # that might preempt them are known.
        self._large_size = limits.slots.large
        self._large = 0
        self._candidates: Candidates | None = None

    @property
    def ready(self) -> bool:
        """It has, as far as is known, a delivery to start and may start it."""
        if not self._turns or self.paused_until is not None:
            return False
        limit = self.limits.process_limit
        return self.in_flight < limit or not limit

    def destination(self, name: str) -> Destination:
        """The destination of that name, made if need be."""
        found = self.destinations.get(name)
        if found is None:
            found = self.destinations[name] = Destination(name, self, self.limits.concurrency)
        return found

    def revive(self) -> None:
        """It is alive again."""
        self.dead_until = self.trouble = None

    def reload(self, limits: TransportLimits) -> None:
        """New limits."""
        self.limits = limits
        self._large_size = limits.slots.large
        self.pool.change(limits.recipients)
        for destination in self.destinations.values():
            destination.law = limits.concurrency
            if limits.concurrency.limit:
                destination.window = min(destination.window, limits.concurrency.limit)

    def enqueue(self, message: Message, destination: Destination, nexthop: str, recipients: list[Recipient]) -> None:
        """Makes recipients of the message wait, in entries of as many as one delivery takes."""
        job = self._job(message)
        peer = job.peers.get(destination.name)
        new = peer is None
        if peer is None:
            peer = job.peers[destination.name] = Peer(job, destination)
        made = peer.add(nexthop, recipients, 1 if message.single else self.limits.recipient_limit)
        destination.backlog += made
        job.read += made
        if job.read + message.unread >= self._large_size and not job.large:
            job.large = True
            self._large += 1
        if self._candidates is not None:
            self._candidates.add(job)
        if new:
            self._line_up(peer)

    def _job(self, message: Message) -> Job:
        for job in message.jobs:
            if job.transport is self:
                return job
        job = Job(message, self)
        message.jobs = (*message.jobs, job)
        return job

    def _line_up(self, peer: Peer) -> None:
        """A peer that has got entries, or another key, takes its place."""
        destination = peer.destination
        destination.line_up(peer)
        turn = destination.turn
        if turn is None:
            self.queue(destination)
        elif peer.job.key < turn[0]:
            self._give_turn(peer)

    def queue(self, destination: Destination) -> None:
        """Sees to it that the destination stands in the order of service if it is ready."""
        if destination.turn is None and destination.ready:
            self._give_turn(destination.first())

    def _give_turn(self, peer: Peer) -> None:
        self._turns_given += 1
        peer.destination.turn = turn = (peer.job.key, self._turns_given, peer)
        heappush(self._turns, turn)
        if self._candidates is not None:
            self._candidates.freed(peer.destination)

    def start(self, now: float) -> Delivery | None:
        """Starts the next delivery in turn; None if none may be started."""
        while self.ready:
            turn = self._turns[0]
            key, _, peer = turn
            destination = peer.destination
            if turn is destination.turn:
                right = peer.entries and peer.job.key is key and destination.ready
                if right and peer.job.large and self._preempted(peer.job, now):
                    # Somebody else is first now.
                    continue
                heappop(self._turns)
                destination.turn = None
                if right:
                    return self._start(peer, now)
                self.queue(destination)
            else:
                heappop(self._turns)
        return None

    def _start(self, peer: Peer, now: float) -> Delivery:
        job, destination = peer.job, peer.destination
        entry = peer.entries.pop(0)
        if not peer.entries:
            del job.peers[destination.name]
        destination.backlog -= 1
        destination.in_flight += 1
        self.in_flight += 1
        job.selected += 1
        job.slots_available += 1
        if self.limits.rate_delay:
            self.paused_until = now + self.limits.rate_delay
        if destination.backlog:
            self.queue(destination)
        if job.large or job.parent is not None:
            self.retire(job)
        return Delivery(self, destination, entry)

    def _preempted(self, current: Job, now: float) -> bool:
        """Lets another job go before the one whose turn it is, if there is one and it may."""
        slots = self.limits.slots
        if current.slots_available <= 0 or current.size < self._large_size:
            return False
        if self._candidates is None:
            self._candidates = self._all_candidates()
        most = (current.read - current.selected + current.slots_available) // slots.cost
        job = self._candidates.best(current, most, now)
        if job is None or not affordable(current, job.size - job.selected, slots):
            return False
        put_before(current, job, slots)
        if job.message.more:
            self.pool.lend_extra(job)
        for peer in job.peers.values():
            self._line_up(peer)
        return True

    def _all_candidates(self) -> Candidates:
        candidates = Candidates()
        for destination in self.destinations.values():
            for job in destination.jobs():
                candidates.add(job)
        return candidates

    def retire(self, job: Job) -> None:
        """The job has no say any more if all its entries were taken, and none can come."""
        if job.selected < job.read or job.message.more:
            return
        if job.parent is not None or job.children is not None:
            leave_stack(job, self.limits.slots)
        if job.large:
            job.large = False
            self._large -= 1
            if not self._large:
                self._candidates = None

    def end(self, delivery: Delivery, now: float) -> None:
        """Takes the delivery's place back; feedback comes after this."""
        destination = delivery.destination
        destination.in_flight -= 1
        self.in_flight -= 1
        if self.limits.destination_rate_delay:
            destination.paused_until = now + self.limits.destination_rate_delay

    def settle(self, destination: Destination) -> None:
        """Queues the destination again or forgets it, whichever is due."""
        if destination.backlog:
            self.queue(destination)
        elif destination.idle and self.destinations.get(destination.name) is destination:
            del self.destinations[destination.name]

    def drop(self, peer: Peer) -> list[Entry]:
        """Takes all entries of a peer; none of them waits any more."""
        entries, job = peer.entries, peer.job
        peer.entries = []
        peer.destination.backlog -= len(entries)
        job.selected += len(entries)
        # They have not used the slots paid for them.
        job.slots_end += len(entries)
        del job.peers[peer.destination.name]
        self.retire(job)
        return entries

    def take_waiting(self, destination: Destination) -> list[Entry]:
        """Everything that waits for the destination; nothing waits for it afterwards."""
        taken: list[Entry] = []
        while destination.backlog:
            taken += self.drop(destination.first())
        destination.clear()
        return taken
