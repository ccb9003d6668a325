"""What one message asks of one transport: its job, and in it a peer for each destination.

Jobs have an order of service, which their keys tell. A job that came with the n-th message has the key ``(n, LAST)``.
One that preempts it gets ``(n, 1, LAST)``, the next one ``(n, 2, LAST)``, and who preempts that ``(n, 2, 1, LAST)``: so
each stands right before the one that it has preempted, and keys are never computed anew.
"""

from pyfix.schedule.message import Entry, Message
from pyfix.service.delivery import Recipient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyfix.schedule.destination import Destination
    from pyfix.schedule.transport import Transport

Key = tuple[int, ...]

LAST = 1 << 62
"""The end of each key: above any number of messages or preemptions."""


class Job:
    """A message within a transport."""

    __slots__ = (
        "children",
        "key",
        "large",
        "message",
        "parent",
        "peers",
        "pooled",
        "preemptions",
        "read",
        "recipient_slots",
        "selected",
        "slots_available",
        "slots_end",
        "transport",
    )

    def __init__(self, message: Message, transport: "Transport") -> None:
        self.message = message
        self.transport = transport
        self.key: Key = (message.sequence, LAST)
        # those with something to deliver, by the name of the destination
        self.peers: dict[str, Peer] = {}
        # entries made so far, and those of them that wait no more
        self.read = 0
        self.selected = 0
        # it counts among its transport's large ones, which others may preempt
        self.large = False
        # whom it has preempted, and by whom it is preempted
        self.parent: Job | None = None
        self.children: dict[Job, None] | None = None
        self.preemptions = 0
        # the account of preemption, in entries, and how many will have been taken when it has used the slots paid for
        self.slots_available = 0
        self.slots_end = 0
        # the account of the pool, in recipients; and whether it stands in the pool's line
        self.recipient_slots = 0
        self.pooled = False

    @property
    def size(self) -> int:
        """How many entries it has in all, at most: a recipient that was not read may make one."""
        return self.read + self.message.unread

    @property
    def selectable(self) -> bool:
        """A delivery of it could start if the transport had room."""
        return any(peer.destination.ready for peer in self.peers.values())


class Peer:
    """A job's entries for one destination. It is of no use any more when all are taken."""

    __slots__ = ("destination", "entries", "job")

    def __init__(self, job: Job, destination: "Destination") -> None:
        self.job = job
        self.destination = destination
        self.entries: list[Entry] = []

    def add(self, nexthop: str, recipients: list[Recipient], size: int) -> int:
        """Makes entries of up to ``size`` recipients, 0: any number. The first ones join an entry that has room.

        Returns how many entries were made.
        """
        entries, message = self.entries, self.job.message
        if not entries and (not size or len(recipients) <= size):
            # A list of one is smaller than one that has grown.
            self.entries = [Entry(message, nexthop, tuple(recipients))]
            return 1
        size = size or len(recipients) + sum(len(entry.recipients) for entry in entries)
        start = 0
        if entries and entries[-1].nexthop == nexthop:
            last = entries[-1]
            start = max(0, size - len(last.recipients))
            last.recipients += tuple(recipients[:start])
        before = len(entries)
        while start < len(recipients):
            entries.append(Entry(message, nexthop, tuple(recipients[start : start + size])))
            start += size
        return len(entries) - before
