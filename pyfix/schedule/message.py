"""The messages of the active set: what is to be delivered, what became of it, and how an attempt ends."""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from pyfix.schedule.retry import RetrySchedule
from pyfix.service.delivery import Outcome, Recipient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyfix.schedule.job import Job

Settled = tuple[Recipient, Outcome]
"""A recipient and what became of it."""


class Trouble(Struct, frozen=True):
    """Why a transport or a destination is out of use: RFC 3463 status and a text."""

    dsn: str
    text: str


class Route(Struct, frozen=True):
    """Where one recipient goes."""

    recipient: Recipient
    transport: str
    nexthop: str
    # the recipient without its extension: it names the destination where a delivery has one recipient only
    mailbox: str


class Verdict(Struct, frozen=True):
    """What is to be done with a message when its attempt is over.

    ``remove``: no recipient is left. ``defer``: to be tried again at ``time``, seconds since the epoch.
    ``withdrawn``: it was taken out of the schedule, and may be tried again from ``time`` on.
    """

    action: Literal["remove", "defer", "withdrawn"]
    time: int = 0


class Message:
    """A message of the active set.

    ``load`` is the caller's own; the machine hands it through. ``arrival`` is in seconds since the epoch. A message
    with ``forced_expire`` has no time left. ``warn_time`` is when its sender is to be told of a delay, 0: never.
    ``total`` is how many recipients its file has, done or not. Those of a ``single`` message are delivered each alone
    (VERP). ``wanted``: somebody asked for this attempt.
    """

    __slots__ = (
        "alarm",
        "arrival",
        "deferred",
        "expired",
        "forced_expire",
        "jobs",
        "load",
        "more",
        "queue_id",
        "queued",
        "reading",
        "recipient_slots",
        "refilled",
        "reserved",
        "sender",
        "sequence",
        "single",
        "total",
        "unread",
        "unsettled",
        "wanted",
        "warn_time",
        "withdrawn",
    )

    def __init__(
        self,
        queue_id: str,
        sender: str,
        arrival: int,
        load: Any = None,
        *,
        forced_expire: bool = False,
        warn_time: int = 0,
        total: int = 0,
        single: bool = False,
        wanted: bool = False,
    ) -> None:
        self.queue_id = queue_id
        self.sender = sender
        self.arrival = arrival
        self.load = load
        self.forced_expire = forced_expire
        self.warn_time = warn_time
        self.total = total
        self.single = single
        self.wanted = wanted
        # recipients in memory: those whose outcome is not on record yet
        self.unsettled = 0
        # the file holds recipients that were not read yet, at most so many
        self.more = False
        self.unread = total
        # some are being read and routed, at most so many
        self.reading = True
        self.reserved = 0
        # how many were deferred in this attempt
        self.deferred = 0
        # some were bounced because the message's time is over
        self.expired = False
        # it is to leave the active set without further deliveries
        self.withdrawn = False
        # The scheduler's own: its number among all messages, when it was admitted, its part in each transport,
        self.sequence = 0
        self.queued = 0.0
        self.jobs: tuple[Job, ...] = ()
        # recipients that may be in memory beyond the minimum, when some were read last, and when it is looked at again.
        self.recipient_slots = 0
        self.refilled = 0.0
        self.alarm: float | None = None

    def judge(self, settled: Sequence[Settled], schedule: RetrySchedule, now: int) -> Sequence[Settled]:
        """The outcomes as they are to be recorded: when the message's time is over, its deferrals are bounces."""
        if not any(outcome.status == "deferred" for _, outcome in settled):
            return settled
        if not self.forced_expire and not schedule.expired(self.sender, self.arrival, now):
            return settled
        self.expired = True
        return [(r, replace(o, status="bounced") if o.status == "deferred" else o) for r, o in settled]

    def ends_with(self, settled: Sequence[Settled]) -> bool:
        """Whether nobody is left of the message when these are done."""
        others = self.unsettled - len(settled) or self.more or self.reading or self.deferred or self.withdrawn
        return not others

    def warning_due(self, now: int) -> bool:
        """Whether the sender is to be told, after this attempt, that there is a delay."""
        return self.deferred > 0 and not self.expired and 0 < self.warn_time <= now + 1

    def verdict(self, schedule: RetrySchedule, now: int) -> Verdict:
        """How the attempt ends."""
        if self.withdrawn:
            return Verdict("withdrawn", now)
        if not self.deferred:
            return Verdict("remove")
        return Verdict("defer", schedule.next_attempt(self.arrival, now))


class Entry:
    """Recipients of one message that are delivered together."""

    __slots__ = ("message", "nexthop", "recipients")

    def __init__(self, message: Message, nexthop: str, recipients: tuple[Recipient, ...]) -> None:
        self.message = message
        self.nexthop = nexthop
        self.recipients = recipients
