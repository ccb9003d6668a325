"""A transport: its destinations, in rotation, and how many deliveries it may run at all."""

from collections import deque

from msgspec import Struct

from pyfix.schedule.destination import Concurrency, Destination
from pyfix.schedule.message import Entry, Trouble


class TransportLimits(Struct, frozen=True):
    """The parameters of one transport; limits of 0 are none."""

    concurrency: Concurrency = Concurrency()
    # recipients in one delivery
    recipient_limit: int = 50
    # deliveries at a time, to all destinations together
    process_limit: int = 100


class Delivery:
    """A delivery in flight."""

    __slots__ = ("destination", "entry", "transport")

    def __init__(self, transport: "Transport", destination: Destination, entry: Entry) -> None:
        self.transport = transport
        self.destination = destination
        self.entry = entry


class Transport:
    """A transport and its destinations.

    Those that may start a delivery stand in a rotation and start one each when their turn comes, so none waits for
    longer than one turn of all others.
    """

    __slots__ = ("_rotation", "dead_until", "destinations", "in_flight", "limits", "name", "queued", "trouble")

    def __init__(self, name: str, limits: TransportLimits) -> None:
        self.name = name
        self.limits = limits
        self.destinations: dict[str, Destination] = {}
        self.in_flight = 0
        # when it may be tried again, on the caller's clock; None while it is alive
        self.dead_until: float | None = None
        # why it is dead
        self.trouble: Trouble | None = None
        # it stands in the scheduler's rotation
        self.queued = False
        self._rotation: deque[Destination] = deque()

    @property
    def idle(self) -> bool:
        """Nothing is waiting, in flight or remembered."""
        return not self.destinations and not self.in_flight and self.dead_until is None

    @property
    def ready(self) -> bool:
        """It has a delivery to start and may start it."""
        return bool(self._rotation) and (not self.limits.process_limit or self.in_flight < self.limits.process_limit)

    def destination(self, name: str) -> Destination:
        """The destination of that name, made if need be."""
        found = self.destinations.get(name)
        if found is None:
            found = self.destinations[name] = Destination(name, self.limits.concurrency)
        return found

    def queue(self, destination: Destination) -> None:
        """Puts the destination into the rotation if it may start a delivery and does not stand there."""
        if not destination.queued and destination.ready:
            destination.queued = True
            self._rotation.append(destination)

    def start(self) -> Delivery | None:
        """Starts the next delivery in turn; None if none may be started."""
        while self.ready:
            destination = self._rotation.popleft()
            destination.queued = False
            if not destination.ready:
                continue
            entry = destination.waiting.popleft()
            destination.in_flight += 1
            self.in_flight += 1
            self.queue(destination)
            return Delivery(self, destination, entry)
        return None

    def end(self, delivery: Delivery) -> None:
        """Takes the delivery's place back; feedback comes after this."""
        delivery.destination.in_flight -= 1
        self.in_flight -= 1

    def settle(self, destination: Destination) -> None:
        """Queues the destination again or forgets it, whichever is due."""
        if not destination.idle:
            self.queue(destination)
        elif self.destinations.get(destination.name) is destination:
            del self.destinations[destination.name]

    def take_waiting(self) -> list[Entry]:
        """Everything that waits for this transport; nothing waits for it afterwards."""
        taken: list[Entry] = []
        for destination in list(self.destinations.values()):
            taken += destination.waiting
            destination.waiting.clear()
            self.settle(destination)
        return taken
