"""The retry schedule: Postfix's qmgr(8), "maximal_backoff_time" and its neighbours."""

import pytest

from pyfix.schedule.retry import RetrySchedule

SCHEDULE = RetrySchedule(
    minimal_backoff_time=300, maximal_backoff_time=4000, maximal_queue_lifetime=432000, bounce_queue_lifetime=86400
)


@pytest.mark.parametrize(
    ("age", "delay"),
    [
        pytest.param(0, 300, id="new"),
        pytest.param(299, 300, id="just below the minimum"),
        pytest.param(700, 700, id="its age"),
        pytest.param(4000, 4000, id="the maximum"),
        pytest.param(400000, 4000, id="old"),
        pytest.param(-50, 300, id="a clock that went back"),
    ],
)
def test_the_delay_is_the_age_within_bounds(age, delay):
    assert SCHEDULE.next_attempt(10_000_000, 10_000_000 + age) == 10_000_000 + age + delay


def test_the_interval_doubles_from_attempt_to_attempt():
    arrival = now = 10_000_000
    attempts = []
    for _ in range(5):
        now = SCHEDULE.next_attempt(arrival, now)
        attempts.append(now - arrival)
    assert attempts == [300, 600, 1200, 2400, 4800]


@pytest.mark.parametrize(
    ("sender", "age", "expired"),
    [
        ("a@example.com", 431999, False),
        ("a@example.com", 432000, True),
        ("", 86399, False),
        ("", 86400, True),
    ],
)
def test_lifetime_depends_on_the_sender(sender, age, expired):
    assert SCHEDULE.expired(sender, 1_000_000, 1_000_000 + age) is expired


def test_notices_do_not_live_longer_than_other_mail():
    schedule = RetrySchedule(300, 4000, 1000, 5000)
    assert schedule.expired("", 1_000_000, 1_001_000)


def test_minimal_backoff_time_wins_over_a_smaller_maximum():
    assert RetrySchedule(300, 100, 1000, 1000).next_attempt(1_000_000, 1_000_500) == 1_000_800


def test_a_lifetime_of_zero_is_one_attempt():
    schedule = RetrySchedule(300, 4000, 0, 0)
    assert schedule.expired("a@example.com", 1_000_000, 1_000_000)
