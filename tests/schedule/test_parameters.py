"""What main.cf says of the schedule."""

import pytest

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.schedule.feedback import Feedback
from pyfix.schedule.limits import Concurrency, Recipients, SchedulerLimits, Slots, TransportLimits
from pyfix.schedule.parameters import Parameters
from pyfix.schedule.retry import RetrySchedule


def parameters(**settings):
    return Parameters(Config("", [Assignment(name, value, "main.cf", 1) for name, value in settings.items()]))


def test_defaults_are_postfixs():
    read = parameters()
    assert read.retries == RetrySchedule(300, 4000, 432000, 432000)
    assert read.limits == SchedulerLimits(20000, 20000, 10, 60, 300)
    assert read.queue_run_delay == 300
    assert read.transport("smtp") == TransportLimits(
        Concurrency(5, 20, Feedback(1), Feedback(1), 1),
        recipient_limit=50,
        process_limit=100,
        destination_rate_delay=0,
        rate_delay=0,
        slots=Slots(cost=5, loan=3, discount=50, minimum=3),
        recipients=Recipients(limit=20000, extra=1000, refill_limit=100, refill_delay=5),
    )
    local = read.transport("local")
    assert (local.concurrency.limit, local.recipient_limit) == (2, 1)


# What stands in main.cf after the transport's name or after "default_" (for the initial concurrency: nothing),
# and what it is in the limits.
OF_A_TRANSPORT = {
    "initial_destination_concurrency": lambda limits: limits.concurrency.initial,
    "destination_concurrency_limit": lambda limits: limits.concurrency.limit,
    "destination_concurrency_failed_cohort_limit": lambda limits: limits.concurrency.failed_cohort_limit,
    "destination_recipient_limit": lambda limits: limits.recipient_limit,
    "destination_rate_delay": lambda limits: limits.destination_rate_delay,
    "transport_rate_delay": lambda limits: limits.rate_delay,
    "delivery_slot_cost": lambda limits: limits.slots.cost,
    "delivery_slot_loan": lambda limits: limits.slots.loan,
    "delivery_slot_discount": lambda limits: limits.slots.discount,
    "minimum_delivery_slots": lambda limits: limits.slots.minimum,
    "recipient_limit": lambda limits: limits.recipients.limit,
    "extra_recipient_limit": lambda limits: limits.recipients.extra,
    "recipient_refill_limit": lambda limits: limits.recipients.refill_limit,
    "recipient_refill_delay": lambda limits: limits.recipients.refill_delay,
}


@pytest.mark.parametrize("name", OF_A_TRANSPORT)
def test_each_transport_has_its_own_and_the_default(name):
    default = name if name.startswith("initial") else f"default_{name}"
    read = parameters(**{default: "7", f"slow_{name}": "9"})
    assert OF_A_TRANSPORT[name](read.transport("slow")) == 9
    assert OF_A_TRANSPORT[name](read.transport("other")) == 7


@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_each_transport_has_its_own_feedback_and_the_default(sign):
    name = f"destination_concurrency_{sign}_feedback"
    read = parameters(**{f"default_{name}": "0.5", f"slow_{name}": "1/concurrency"})
    assert getattr(read.transport("slow").concurrency, sign) == Feedback(1, "concurrency")
    assert getattr(read.transport("other").concurrency, sign) == Feedback(0.5)


def test_the_limits_of_all_transports():
    read = parameters(
        qmgr_message_active_limit="1",
        qmgr_message_recipient_limit="2",
        qmgr_message_recipient_minimum="3",
        transport_retry_time="4",
        minimal_backoff_time="5",
        default_process_limit="6",
    )
    assert read.limits == SchedulerLimits(1, 2, 3, 4, 5)
    assert read.transport("any").process_limit == 6


def test_a_pause_between_deliveries_leaves_one_at_a_time():
    read = parameters(slow_destination_rate_delay="2s", slow_destination_concurrency_limit="9")
    assert read.transport("slow").concurrency.limit == 1


@pytest.mark.parametrize(
    "name",
    [
        "default_destination_concurrency_negative_feedback",
        "any_destination_concurrency_positive_feedback",
    ],
)
def test_a_bad_feedback_is_found_at_once(name):
    with pytest.raises(ConfigError, match=f"parameter {name}: bad concurrency feedback"):
        parameters(**{name: "much"})
