"""The messages of the active set: what is to be delivered, what became of it, and how an attempt ends."""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from pyfix.schedule.retry import RetrySchedule
from pyfix.service.delivery import Outcome, Recipient

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
    with ``forced_expire`` has no time left.
    """

    __slots__ = (
        "arrival",
        "deferred",
        "expired",
        "forced_expire",
        "load",
        "more",
        "queue_id",
        "recipients",
        "sender",
        "unsettled",
        "withdrawn",
    )

    def __init__(
        self, queue_id: str, sender: str, arrival: int, load: Any = None, *, forced_expire: bool = False
    ) -> None:
        self.queue_id = queue_id
        self.sender = sender
        self.arrival = arrival
        self.load = load
        self.forced_expire = forced_expire
        # recipients that are in memory
        self.recipients = 0
        # those of them whose outcome is not on record yet
        self.unsettled = 0
        # the file holds recipients that were not read yet
        self.more = False
        # how many were deferred in this attempt
        self.deferred = 0
        # some were bounced because the message's time is over
        self.expired = False
        # it is to leave the active set without further deliveries
        self.withdrawn = False

    def judge(self, settled: Sequence[Settled], schedule: RetrySchedule, now: int) -> Sequence[Settled]:
        """The outcomes as they are to be recorded: when the message's time is over, its deferrals are bounces."""
        if not any(outcome.status == "deferred" for _, outcome in settled):
            return settled
        if not self.forced_expire and not schedule.expired(self.sender, self.arrival, now):
            return settled
        self.expired = True
        return [(r, replace(o, status="bounced") if o.status == "deferred" else o) for r, o in settled]

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
