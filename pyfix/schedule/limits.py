"""The numbers that rule the schedule. Times are in seconds; a limit of 0 is none, where nothing else is said."""

from msgspec import Struct

from pyfix.schedule.feedback import Feedback


class Concurrency(Struct, frozen=True):
    """The parameters of the window law (pyfix.schedule.destination) for one transport."""

    initial: int = 5
    limit: int = 20
    positive: Feedback = Feedback(1)
    negative: Feedback = Feedback(1)
    failed_cohort_limit: float = 1


class Slots(Struct, frozen=True):
    """The parameters of preemption (pyfix.schedule.preemption) for one transport: ``*_delivery_slot_*``.

    A ``cost`` below 2 is no preemption.
    """

    cost: int = 5
    loan: int = 3
    # percent of the slots needed that may still lack
    discount: int = 50
    # *_minimum_delivery_slots
    minimum: int = 3

    @property
    def large(self) -> int:
        """How many entries make a job large: others may preempt it."""
        return self.cost * self.minimum if self.cost > 1 else 1 << 62


class Recipients(Struct, frozen=True):
    """How many recipients one transport's mail may have in memory (pyfix.schedule.pool)."""

    # *_recipient_limit; 0 is none at all
    limit: int = 20000
    # *_extra_recipient_limit: more, for messages that have overtaken others
    extra: int = 1000
    # *_recipient_refill_limit, *_recipient_refill_delay: when more are read
    refill_limit: int = 100
    refill_delay: int = 5


class TransportLimits(Struct, frozen=True):
    """The parameters of one transport."""

    concurrency: Concurrency = Concurrency()
    # recipients in one delivery
    recipient_limit: int = 50
    # deliveries at a time, to all destinations together
    process_limit: int = 100
    # from the end of a delivery to the next one to the same destination
    destination_rate_delay: int = 0
    # from the start of a delivery to that of the next one
    rate_delay: int = 0
    slots: Slots = Slots()
    recipients: Recipients = Recipients()


class SchedulerLimits(Struct, frozen=True):
    """The parameters that hold for all transports together."""

    # qmgr_message_active_limit, qmgr_message_recipient_limit, qmgr_message_recipient_minimum
    active_limit: int = 20000
    recipient_limit: int = 20000
    recipient_minimum: int = 10
    # how long a dead transport and a dead destination are left alone
    transport_retry_time: int = 60
    minimal_backoff_time: int = 300
