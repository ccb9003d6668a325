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
                                               holds more recipients: they are submitted next
``ended``           the file has moved on      (it counts no longer)
==================  =========================  ==========================================================

Each recipient of a message gets exactly one ``Record`` an attempt, and each message exactly one ``End``, unless it was
withdrawn: then its recipients that still waited get none.

Fairness: transports take turns, and within a transport its destinations take turns, one delivery each. Within a
destination messages are served in the order of their coming.
"""

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec import Struct

from pyfix.schedule.destination import Destination
from pyfix.schedule.message import Entry, Message, Route, Settled, Trouble
from pyfix.schedule.transport import Delivery, Transport, TransportLimits
from pyfix.service.delivery import Delivered, Outcome, Recipient

UNKNOWN_ERROR = Trouble("4.3.0", "unknown mail transport error")
"""Where an agent does not say what became of a recipient that it was given."""

_SUSPENDED = "delivery temporarily suspended: "


class SchedulerLimits(Struct, frozen=True):
    """The parameters that hold for all transports together."""

    # qmgr_message_active_limit, qmgr_message_recipient_limit
    active_limit: int = 20000
    recipient_limit: int = 20000
    # how long a dead transport and a dead destination are left alone, seconds
    transport_retry_time: int = 60
    minimal_backoff_time: int = 300


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
    """To do: read more recipients of the message, route them and ``submit`` them."""

    message: Message


class End(Struct, frozen=True):
    """To do: remove or move the message's file as its verdict says, then say ``ended``."""

    message: Message


Action = Deliver | Record | Refill | End


class Scheduler:
    """Schedules the messages of the active set.

    ``limits_of`` tells a transport's limits by its name; it is asked when mail for an idle transport comes.
    """

    def __init__(self, limits: SchedulerLimits, limits_of: Callable[[str], TransportLimits]) -> None:
        self.limits = limits
        self._limits_of = limits_of
        self._messages: dict[str, Message] = {}
        self._recipients = 0
        self._transports: dict[str, Transport] = {}
        self._rotation: deque[Transport] = deque()
        self._actions: list[Action] = []
        # (when, serial number, who): the dead, by the time of their revival
        self._dead: list[tuple[float, int, Transport, Destination | None]] = []
        self._serial = 0
        self._stopped = False

    # What stands

    @property
    def active(self) -> int:
        """The number of messages in the active set."""
        return len(self._messages)

    @property
    def room(self) -> bool:
        """Whether another message may be admitted. The recipients of a single message may pass their limit."""
        if self._stopped or len(self._messages) >= self.limits.active_limit:
            return False
        return self._recipients < self.limits.recipient_limit or not self._messages

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due, on the caller's clock; None if nothing is dead."""
        return self._dead[0][0] if self._dead else None

    def __contains__(self, queue_id: object) -> bool:
        return queue_id in self._messages

    def find(self, queue_id: str) -> Message | None:
        """The message of the active set that has this ID."""
        return self._messages.get(queue_id)

    def actions(self) -> Sequence[Action]:
        """What is to be done now. Each action is given out once."""
        if not self._stopped:
            self._start_deliveries()
        actions, self._actions = self._actions, []
        return actions

    # Events

    def admit(self, message: Message) -> None:
        """The message enters the active set; its recipients follow with ``submit``."""
        assert message.queue_id not in self._messages, f"{message.queue_id} is in the active set already"
        self._messages[message.queue_id] = message

    def submit(
        self, message: Message, routes: Iterable[Route], settled: Sequence[Settled] = (), *, more: bool = False
    ) -> None:
        """Recipients of the message: ``routes`` for those to deliver, ``settled`` for those that need no agent.

        ``more``: the file holds others, which were not read yet.
        """
        if message.withdrawn:
            self._actions.append(End(message))
            return
        groups: dict[tuple[str, str, str], list[Recipient]] = {}
        for route in routes:
            transport = self._transport(route.transport)
            name = route.mailbox if transport.limits.recipient_limit == 1 else route.nexthop
            groups.setdefault((route.transport, name, route.nexthop), []).append(route.recipient)
        message.recipients = len(settled) + sum(map(len, groups.values()))
        message.unsettled = message.recipients
        message.more = more
        self._recipients += message.recipients
        if settled:
            self._actions.append(Record(message, tuple(settled), logged=False))
        for (transport_name, name, nexthop), recipients in groups.items():
            self._enqueue(self._transport(transport_name), name, nexthop, message, recipients)
        if not message.recipients:
            self._settled(message)

    def answered(self, delivery: Delivery, reply: Delivered, now: float) -> None:
        """The agent told the outcomes of a delivery."""
        transport, destination = delivery.transport, delivery.destination
        transport.dead_until = transport.trouble = None
        if reply.unreachable or reply.unreachable_dsn:
            trouble = Trouble(reply.unreachable_dsn or "4.0.0", _SUSPENDED + (reply.unreachable or "unknown error"))
            dead_until = now + self.limits.minimal_backoff_time
            if destination.unreachable(trouble, dead_until):
                self._bury(dead_until, transport, destination)
                self._defer(destination.waiting, trouble)
                destination.waiting.clear()
        else:
            destination.answered()
        self._end(delivery)
        self._actions.append(Record(delivery.entry.message, _match(delivery.entry, reply.outcomes), logged=True))

    def failed(self, delivery: Delivery, trouble: Trouble, now: float) -> None:
        """The agent could not be asked, or did not answer: its transport is dead for ``transport_retry_time``."""
        transport = delivery.transport
        if transport.dead_until is None:
            transport.dead_until = now + self.limits.transport_retry_time
            transport.trouble = trouble
            self._bury(transport.dead_until, transport, None)
        self._defer([delivery.entry, *transport.take_waiting()], trouble)
        self._end(delivery)

    def recorded(self, message: Message, settled: Sequence[Settled]) -> None:
        """The outcomes are on record, and may differ from those of ``Record``: a failed bounce is a deferral."""
        message.deferred += sum(outcome.status == "deferred" for _, outcome in settled)
        message.unsettled -= len(settled)
        self._settled(message)

    def ended(self, message: Message) -> None:
        """The message left the active queue."""
        del self._messages[message.queue_id]
        self._recipients -= message.recipients

    def withdraw(self, queue_ids: Collection[str]) -> None:
        """Takes messages out: none of their deliveries starts any more. ``End`` follows those in flight."""
        gone = {queue_id for queue_id in queue_ids if queue_id in self._messages}
        for queue_id in gone:
            self._messages[queue_id].withdrawn = True
        if not gone:
            return
        for transport in list(self._transports.values()):
            for destination in list(transport.destinations.values()):
                kept = deque(e for e in destination.waiting if not e.message.withdrawn)
                if len(kept) != len(destination.waiting):
                    dropped = [e for e in destination.waiting if e.message.withdrawn]
                    destination.waiting = kept
                    self._drop(dropped)
                    transport.settle(destination)
            self._settle(transport)

    def tick(self, now: float) -> None:
        """Time has passed: the dead whose time is over live again."""
        while self._dead and self._dead[0][0] <= now:
            when, _, transport, destination = heapq.heappop(self._dead)
            # Who has been revived, and died again since, has another time.
            if destination is None:
                if transport.dead_until == when:
                    transport.dead_until = transport.trouble = None
            elif destination.dead_until == when:
                destination.revive()
                transport.settle(destination)
            self._settle(transport)

    def flush(self) -> None:
        """All that is dead lives again, since somebody asks for an attempt now."""
        self._dead.clear()
        for transport in list(self._transports.values()):
            transport.dead_until = transport.trouble = None
            for destination in list(transport.destinations.values()):
                if destination.dead_until is not None:
                    destination.revive()
                    transport.settle(destination)
            self._settle(transport)

    def stop(self) -> None:
        """No delivery is started and no message admitted any more; those in flight may end."""
        self._stopped = True

    def reload(self, limits: SchedulerLimits, limits_of: Callable[[str], TransportLimits]) -> None:
        """New limits. Those of the transports are asked for again, and hold for destinations that come."""
        self.limits = limits
        self._limits_of = limits_of
        for transport in self._transports.values():
            transport.limits = limits_of(transport.name)

    # The inside

    def _transport(self, name: str) -> Transport:
        found = self._transports.get(name)
        if found is None:
            found = self._transports[name] = Transport(name, self._limits_of(name))
        return found

    def _enqueue(
        self, transport: Transport, name: str, nexthop: str, message: Message, recipients: list[Recipient]
    ) -> None:
        """Makes the recipients wait for delivery, or defers them if it is known that there is none to be had."""
        size = transport.limits.recipient_limit or len(recipients)
        entries = [
            Entry(message, nexthop, tuple(recipients[start : start + size]))
            for start in range(0, len(recipients), size)
        ]
        if transport.trouble is not None:
            self._defer(entries, transport.trouble)
            return
        destination = transport.destination(name)
        if destination.trouble is not None:
            self._defer(entries, destination.trouble)
            return
        destination.waiting.extend(entries)
        transport.queue(destination)
        self._queue(transport)

    def _start_deliveries(self) -> None:
        while self._rotation:
            transport = self._rotation.popleft()
            transport.queued = False
            delivery = transport.start()
            if delivery is not None:
                self._actions.append(Deliver(delivery))
                self._queue(transport)

    def _queue(self, transport: Transport) -> None:
        if not transport.queued and transport.ready:
            transport.queued = True
            self._rotation.append(transport)

    def _end(self, delivery: Delivery) -> None:
        transport = delivery.transport
        transport.end(delivery)
        transport.settle(delivery.destination)
        self._settle(transport)

    def _settle(self, transport: Transport) -> None:
        """Queues the transport again or forgets it, whichever is due."""
        if not transport.idle:
            self._queue(transport)
        elif self._transports.get(transport.name) is transport:
            del self._transports[transport.name]

    def _bury(self, when: float, transport: Transport, destination: Destination | None) -> None:
        self._serial += 1
        heapq.heappush(self._dead, (when, self._serial, transport, destination))

    def _defer(self, entries: Iterable[Entry], trouble: Trouble) -> None:
        for entry in entries:
            outcomes = tuple((r, Outcome(r.offset, "deferred", trouble.dsn, trouble.text)) for r in entry.recipients)
            self._actions.append(Record(entry.message, outcomes, logged=False))

    def _drop(self, entries: Iterable[Entry]) -> None:
        """Forgets recipients of withdrawn messages."""
        for entry in entries:
            entry.message.unsettled -= len(entry.recipients)
            self._settled(entry.message)

    def _settled(self, message: Message) -> None:
        """Says what comes after the last of the recipients in memory."""
        if message.unsettled:
            return
        if message.more and not message.withdrawn:
            self._recipients -= message.recipients
            message.recipients = 0
            self._actions.append(Refill(message))
        else:
            self._actions.append(End(message))


def _match(entry: Entry, outcomes: Iterable[Outcome]) -> tuple[Settled, ...]:
    """Each recipient of the entry with its outcome: the first one told, or a deferral if none was."""
    told: dict[int, Outcome] = {}
    for outcome in outcomes:
        told.setdefault(outcome.offset, outcome)
    return tuple(
        (r, told.get(r.offset) or Outcome(r.offset, "deferred", UNKNOWN_ERROR.dsn, UNKNOWN_ERROR.text))
        for r in entry.recipients
    )
