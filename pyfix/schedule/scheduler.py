"""The queue manager as a machine: which recipients are delivered next, and when a message's attempt is over.

Events go in by method calls, with the time where it matters; actions come out of :meth:`Scheduler.actions`. Nothing
here reads a clock, a file or a socket. A message's way:

==================  =========================  ==========================================================
event               said by                    actions that follow, at once or later
==================  =========================  ==========================================================
``admit``           it was opened              (it counts against the active limit)
``submit``          its recipients are routed  ``Deliver`` for each group of recipients whose turn has come;
                                               ``Record`` for recipients whose destination is dead
``answered``        the agent replied          ``Record`` for its recipients; ``Deliver`` of what comes next
``failed``          no agent, or no reply      ``Record``: its recipients, and all that wait for the transport,
                                               are deferred
``recorded``        the outcomes are on disk   ``End`` when they were the message's last; ``Refill`` when the file
                                               holds more recipients and there is room: they are submitted next
``ended``           the file has moved on      (it counts no longer)
``tick``            time has passed            whatever waited for that
==================  =========================  ==========================================================

Each recipient of a message gets exactly one ``Record`` an attempt, and each message exactly one ``End``, unless it was
withdrawn: then its recipients that still waited get none.

Transports take turns, one delivery each; what is next within a transport is told in pyfix.schedule.transport.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heappop, heappush

from msgspec import Struct

from pyfix.schedule.destination import Destination
from pyfix.schedule.limits import SchedulerLimits, TransportLimits
from pyfix.schedule.message import Entry, Message, Route, Settled, Trouble
from pyfix.schedule.transport import Delivery, Transport
from pyfix.service.delivery import Delivered, Outcome, Recipient

UNKNOWN_ERROR = Trouble("4.3.0", "unknown mail transport error")
"""Where an agent does not say what became of a recipient that it was given."""

_SUSPENDED = "delivery temporarily suspended: "

_BATCH = 5000
"""Recipients that are read at once, at most, so that other work has its turn."""


class Deliver(Struct, frozen=True):
    """To do: hand the delivery to an agent, then say ``answered`` or ``failed``."""

    delivery: Delivery


class Record(Struct, frozen=True):
    """To do: write the outcomes down, then say ``recorded``."""

    message: Message
    settled: tuple[Settled, ...]
    # an agent has logged these outcomes
    logged: bool


class Refill(Struct, frozen=True):
    """To do: read more recipients of the message, up to ``limit``, route them and ``submit`` them."""

    message: Message
    limit: int


class End(Struct, frozen=True):
    """To do: remove or move the message's file as its verdict says, then say ``ended``."""

    message: Message


Action = Deliver | Record | Refill | End

_Alarm = tuple[float, int, Transport | Destination | Message]
"""When, a serial number, and whose wait ends then."""


class Scheduler:
    """Schedules the messages of the active set.

    ``limits_of`` tells a transport's limits by its name.
    """

    def __init__(self, limits: SchedulerLimits, limits_of: Callable[[str], TransportLimits]) -> None:
        self.limits = limits
        self._limits_of = limits_of
        self._messages: dict[str, Message] = {}
        self._admitted = 0
        self._recipients = 0
        self._transports: dict[str, Transport] = {}
        self._rotation: deque[Transport] = deque()
        self._actions: list[Action] = []
        self._now = 0.0
        # a heap; an alarm that its subject does not expect, since it was revived before, is void
        self._alarms: list[_Alarm] = []
        self._serial = 0
        self._stopped = False

    # What stands

    @property
    def active(self) -> int:
        """The number of messages in the active set."""
        return len(self._messages)

    @property
    def room(self) -> bool:
        """Whether another message may be admitted."""
        return not self._stopped and len(self._messages) < self.limits.active_limit

    @property
    def first_batch(self) -> int:
        """How many recipients of a message to read at first."""
        return min(_BATCH, max(self.limits.recipient_minimum, self.limits.recipient_limit - self._recipients))

    @property
    def recipients(self) -> int:
        """The number of recipients in memory, and of those that were asked for."""
        return self._recipients

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due, on the caller's clock; None if nothing waits for a time."""
        alarms = self._alarms
        while alarms and not _expected(alarms[0]):
            heappop(alarms)
        return alarms[0][0] if alarms else None

    def __contains__(self, queue_id: object) -> bool:
        return queue_id in self._messages

    def find(self, queue_id: str) -> Message | None:
        """The message of the active set that has this ID."""
        return self._messages.get(queue_id)

    def actions(self) -> Sequence[Action]:
        """What is to be done now. Each action is given out once; an empty sequence is not the caller's to keep."""
        if self._rotation and not self._stopped:
            self._start_deliveries()
        actions = self._actions
        if actions:
            self._actions = []
        return actions

    # Events

    def admit(self, message: Message, recipients: int = 0) -> None:
        """The message enters the active set; its first recipients, so many, follow with ``submit``."""
        assert message.queue_id not in self._messages, f"{message.queue_id} is in the active set already"
        self._messages[message.queue_id] = message
        self._admitted += 1
        message.sequence = self._admitted
        message.queued = self._now
        message.reserved = recipients
        self._recipients += recipients

    def submit(
        self, message: Message, routes: Sequence[Route], settled: Sequence[Settled] = (), *, more: bool = False
    ) -> None:
        """Recipients of the message: ``routes`` for those to deliver, ``settled`` for those that need no agent.

        ``more``: the file holds others, which were not read yet.
        """
        message.reading = False
        self._recipients -= message.reserved
        message.reserved = 0
        if message.withdrawn:
            self._pool(message)
            self._settled(message)
            return
        count = len(routes) + len(settled)
        message.unsettled += count
        self._recipients += count
        was_more, message.more = message.more, more
        message.unread = max(1, message.unread - count) if more else 0
        if settled:
            self._actions.append(Record(message, tuple(settled), logged=False))
        if len(routes) == 1:
            self._enqueue(message, routes[0], [routes[0].recipient])
        else:
            for route, recipients in self._grouped(routes):
                self._enqueue(message, route, recipients)
        if more or was_more:
            message.refilled = self._now
            self._pool(message)
        if not message.unsettled:
            self._settled(message)

    def answered(self, delivery: Delivery, reply: Delivered, now: float) -> None:
        """The agent told the outcomes of a delivery."""
        self._now = now
        transport, destination = delivery.transport, delivery.destination
        if transport.dead_until is not None:
            transport.revive()
        if reply.unreachable or reply.unreachable_dsn:
            trouble = Trouble(reply.unreachable_dsn or "4.0.0", _SUSPENDED + (reply.unreachable or "unknown error"))
            dead_until = now + self.limits.minimal_backoff_time
            if destination.unreachable(trouble, dead_until):
                self._set_alarm(dead_until, destination)
                self._defer(transport.take_waiting(destination), trouble)
        else:
            destination.answered()
        self._end(delivery)
        self._actions.append(Record(delivery.entry.message, _match(delivery.entry, reply.outcomes), logged=True))

    def failed(self, delivery: Delivery, trouble: Trouble, now: float) -> None:
        """The agent could not be asked, or did not answer: its transport is dead for ``transport_retry_time``."""
        self._now = now
        transport = delivery.transport
        if transport.dead_until is None:
            transport.dead_until = now + self.limits.transport_retry_time
            transport.trouble = trouble
            self._set_alarm(transport.dead_until, transport)
        self._defer([delivery.entry], trouble)
        for destination in list(transport.destinations.values()):
            self._defer(transport.take_waiting(destination), trouble)
            transport.settle(destination)
        self._end(delivery)

    def recorded(self, message: Message, settled: Sequence[Settled]) -> None:
        """The outcomes are on record, and may differ from those of ``Record``: a failed bounce is a deferral."""
        for _, outcome in settled:
            message.deferred += outcome.status == "deferred"
        message.unsettled -= len(settled)
        self._recipients -= len(settled)
        if message.more or message.recipient_slots:
            self._pool(message)
        if not message.unsettled:
            self._settled(message)

    def ended(self, message: Message) -> None:
        """The message left the active queue."""
        del self._messages[message.queue_id]
        self._recipients -= message.unsettled + message.reserved
        # They refer to each other.
        message.jobs = ()
        message.alarm = None

    def withdraw(self, queue_ids: Collection[str]) -> None:
        """Takes messages out: none of their deliveries starts any more. ``End`` follows those in flight."""
        for queue_id in queue_ids:
            message = self._messages.get(queue_id)
            if message is None or message.withdrawn:
                continue
            message.withdrawn = True
            message.more = False
            before = message.unsettled
            for job in message.jobs:
                for peer in list(job.peers.values()):
                    dropped = sum(len(entry.recipients) for entry in job.transport.drop(peer))
                    message.unsettled -= dropped
                    self._recipients -= dropped
                    job.transport.settle(peer.destination)
                job.transport.retire(job)
                self._queue(job.transport)
            self._pool(message)
            if message.unsettled != before:
                self._settled(message)

    def tick(self, now: float) -> None:
        """Time has passed: the dead whose time is over live again, and pauses end."""
        self._now = now
        while self._alarms and self._alarms[0][0] <= now:
            alarm = heappop(self._alarms)
            if _expected(alarm):
                self._wake(*alarm)

    def flush(self) -> None:
        """All that is dead lives again, since somebody asks for an attempt now."""
        for transport in self._transports.values():
            transport.revive()
            for destination in list(transport.destinations.values()):
                if destination.dead_until is not None:
                    destination.revive()
                    transport.settle(destination)

    def stop(self) -> None:
        """No delivery is started and no message admitted any more; those in flight may end."""
        self._stopped = True

    def reload(self, limits: SchedulerLimits, limits_of: Callable[[str], TransportLimits]) -> None:
        """New limits, for all that stands too."""
        self.limits = limits
        self._limits_of = limits_of
        for transport in self._transports.values():
            transport.reload(limits_of(transport.name))

    # The inside

    def _transport(self, name: str) -> Transport:
        found = self._transports.get(name)
        if found is None:
            found = self._transports[name] = Transport(name, self._limits_of(name))
        return found

    def _grouped(self, routes: Sequence[Route]) -> Iterable[tuple[Route, list[Recipient]]]:
        """Those that may be delivered together, each time with the route of the first."""
        groups: dict[tuple[str, str, str], tuple[Route, list[Recipient]]] = {}
        for route in routes:
            alone = self._transport(route.transport).limits.recipient_limit == 1
            key = (route.transport, route.nexthop, route.mailbox if alone else "")
            group = groups.get(key)
            if group is None:
                groups[key] = (route, [route.recipient])
            else:
                group[1].append(route.recipient)
        return groups.values()

    def _enqueue(self, message: Message, route: Route, recipients: list[Recipient]) -> None:
        """Makes the recipients wait for delivery, or defers them if it is known that there is none to be had."""
        transport = self._transport(route.transport)
        # Where each recipient is delivered alone, it has a window of its own.
        name = route.mailbox if transport.limits.recipient_limit == 1 else route.nexthop
        destination = transport.destination(name)
        trouble = transport.trouble or destination.trouble
        if trouble is None:
            transport.enqueue(message, destination, route.nexthop, recipients)
            self._queue(transport)
        else:
            self._defer([Entry(message, route.nexthop, tuple(recipients))], trouble)
            transport.settle(destination)

    def _start_deliveries(self) -> None:
        while self._rotation:
            transport = self._rotation.popleft()
            transport.queued = False
            delivery = transport.start(self._now)
            if delivery is not None:
                self._actions.append(Deliver(delivery))
                if transport.paused_until is not None:
                    self._set_alarm(transport.paused_until, transport)
                else:
                    self._queue(transport)

    def _queue(self, transport: Transport) -> None:
        if not transport.queued and transport.ready:
            transport.queued = True
            self._rotation.append(transport)

    def _end(self, delivery: Delivery) -> None:
        transport, destination = delivery.transport, delivery.destination
        transport.end(delivery, self._now)
        if destination.paused_until is not None:
            self._set_alarm(destination.paused_until, destination)
        if destination.dead_until is not None and len(self._alarms) > self.limits.recipient_limit:
            # Too many to remember.
            destination.revive()
        transport.settle(destination)
        self._queue(transport)

    def _wake(self, when: float, _serial: int, subject: Transport | Destination | Message) -> None:
        if isinstance(subject, Message):
            subject.alarm = None
            self._refill(subject)
            return
        if subject.paused_until == when:
            subject.paused_until = None
        if subject.dead_until == when:
            subject.revive()
        if isinstance(subject, Transport):
            self._queue(subject)
        else:
            subject.transport.settle(subject)
            self._queue(subject.transport)

    def _set_alarm(self, when: float, subject: Transport | Destination | Message) -> None:
        self._serial += 1
        heappush(self._alarms, (when, self._serial, subject))

    def _defer(self, entries: Iterable[Entry], trouble: Trouble) -> None:
        for entry in entries:
            outcomes = tuple((r, Outcome(r.offset, "deferred", trouble.dsn, trouble.text)) for r in entry.recipients)
            self._actions.append(Record(entry.message, outcomes, logged=False))

    def _settled(self, message: Message) -> None:
        """Says what comes after the last of the recipients in memory."""
        if not (message.unsettled or message.more or message.reading):
            self._actions.append(End(message))

    # Recipients that are read later

    def _pool(self, message: Message) -> None:
        """What a message can spare goes to who is next, and who has room for more recipients reads them."""
        # Of one that was withdrawn recipients may be on their way still.
        spare = self.limits.recipient_minimum + message.recipient_slots - message.unsettled - message.reserved
        for job in message.jobs:
            pool = job.transport.pool
            if message.more:
                pool.enter(job)
            else:
                if spare > 0 and job.recipient_slots:
                    spare -= pool.take_back(job, spare)
                job.transport.retire(job)
            lucky = pool.give()
            if lucky is not None and lucky is not message:
                self._refill(lucky)
            self._queue(job.transport)
        self._refill(message)

    def _refill(self, message: Message) -> None:
        """Asks for more recipients of the message if there is room for them: for many, or if it is time."""
        if not message.more or message.reading:
            return
        space = self.limits.recipient_minimum + message.recipient_slots - message.unsettled
        if space <= 0:
            return
        if message.unsettled and message.jobs:
            rules = [job.transport.limits.recipients for job in message.jobs]
            due = message.refilled + min(rule.refill_delay for rule in rules)
            waits = any(job.selected < job.read for job in message.jobs)
            if waits and self._now < due and space < min(rule.refill_limit for rule in rules):
                if message.alarm is None:
                    message.alarm = due
                    self._set_alarm(due, message)
                return
        message.reading = True
        message.reserved = min(space, _BATCH)
        self._recipients += message.reserved
        self._actions.append(Refill(message, message.reserved))


def _expected(alarm: _Alarm) -> bool:
    when, _, subject = alarm
    if isinstance(subject, Message):
        return subject.alarm == when
    return when in (subject.dead_until, subject.paused_until)


def _match(entry: Entry, outcomes: Sequence[Outcome]) -> tuple[Settled, ...]:
    """Each recipient of the entry with its outcome: the first one told, or a deferral if none was."""
    if len(entry.recipients) == len(outcomes) == 1 and outcomes[0].offset == entry.recipients[0].offset:
        return ((entry.recipients[0], outcomes[0]),)
    told: dict[int, Outcome] = {}
    for outcome in outcomes:
        told.setdefault(outcome.offset, outcome)
    return tuple(
        (r, told.get(r.offset) or Outcome(r.offset, "deferred", UNKNOWN_ERROR.dsn, UNKNOWN_ERROR.text))
        for r in entry.recipients
    )
