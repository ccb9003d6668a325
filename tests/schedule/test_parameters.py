"""What main.cf says of the schedule."""

import pytest

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.schedule.destination import Concurrency, Feedback
from pyfix.schedule.parameters import Parameters
from pyfix.schedule.retry import RetrySchedule
from pyfix.schedule.scheduler import SchedulerLimits
from pyfix.schedule.transport import TransportLimits


def parameters(**settings):
    return Parameters(Config("", [Assignment(name, value, "main.cf", 1) for name, value in settings.items()]))


def test_defaults_are_postfixs():
    read = parameters()
    assert read.retries == RetrySchedule(300, 4000, 432000, 432000)
    assert read.limits == SchedulerLimits(20000, 20000, 60, 300)
    assert read.queue_run_delay == 300
    assert read.transport("smtp") == TransportLimits(Concurrency(5, 20, Feedback(1), Feedback(1), 1), 50, 100)
    assert read.transport("local") == TransportLimits(Concurrency(5, 2, Feedback(1), Feedback(1), 1), 1, 100)
    assert read.transport("virtual").recipient_limit in (1, 50)


def test_a_transport_of_ones_own():
    read = parameters(
        default_destination_concurrency_limit="7",
        slow_destination_concurrency_limit="1",
        slow_destination_recipient_limit="3",
        slow_initial_destination_concurrency="2",
        slow_destination_concurrency_positive_feedback="1/concurrency",
        slow_destination_concurrency_failed_cohort_limit="10",
        default_process_limit="9",
    )
    slow = Concurrency(2, 1, Feedback(1, "concurrency"), Feedback(1), 10)
    assert read.transport("slow") == TransportLimits(slow, 3, 9)
    assert read.transport("other").concurrency.limit == 7


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
