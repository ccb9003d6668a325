"""The window law of a destination."""

import pytest

from pyfix.schedule.destination import Concurrency, Destination, Feedback, parse_feedback
from pyfix.schedule.message import Trouble

TROUBLE = Trouble("4.4.1", "connect to mail.example.com: refused")


def busy(law, in_flight=100):
    destination = Destination("example.com", law)
    destination.in_flight = in_flight
    return destination


def test_the_window_begins_at_the_initial_concurrency():
    assert Destination("d", Concurrency(initial=5, limit=20)).window == 5


def test_the_initial_concurrency_is_held_by_the_limit():
    assert Destination("d", Concurrency(initial=5, limit=2)).window == 2


def test_success_opens_the_window_up_to_the_limit():
    destination = busy(Concurrency(initial=5, limit=8))
    windows = []
    for _ in range(6):
        destination.answered()
        windows.append(destination.window)
    assert windows == [6, 7, 8, 8, 8, 8]


def test_a_limit_of_zero_is_none():
    destination = busy(Concurrency(limit=0))
    for _ in range(50):
        destination.answered()
    assert destination.window == 55


def test_the_window_stays_near_what_is_in_flight():
    destination = busy(Concurrency(initial=5, limit=20), in_flight=1)
    for _ in range(10):
        destination.answered()
    assert destination.window == 6


def test_failure_narrows_the_window_but_not_below_one():
    destination = busy(Concurrency(initial=5, limit=20, failed_cohort_limit=0))
    windows = []
    for _ in range(6):
        assert not destination.unreachable(TROUBLE, 300.0)
        windows.append(destination.window)
    assert windows == [4, 3, 2, 1, 1, 1]


def test_a_failed_cohort_makes_the_destination_dead():
    destination = busy(Concurrency(initial=5, limit=20, failed_cohort_limit=1))
    dead = [destination.unreachable(TROUBLE, 300.0) for _ in range(4)]
    assert dead == [False, False, False, True]  # 1/5 + 1/4 + 1/3 + 1/2 > 1
    assert destination.dead_until == 300.0
    assert destination.trouble == TROUBLE


def test_a_failed_delivery_at_a_window_of_one_is_a_cohort():
    destination = busy(Concurrency(initial=1, limit=1))
    assert destination.unreachable(TROUBLE, 300.0)


def test_a_success_forgets_failed_cohorts():
    destination = busy(Concurrency(initial=2, limit=2, negative=Feedback(0)))
    for _ in range(10):
        assert not destination.unreachable(TROUBLE, 300.0)
        destination.answered()


def test_the_dead_do_not_die_twice():
    destination = busy(Concurrency(initial=1, limit=1))
    assert destination.unreachable(TROUBLE, 300.0)
    assert not destination.unreachable(TROUBLE, 900.0)
    assert destination.dead_until == 300.0


def test_a_late_success_revives_with_the_initial_window():
    destination = busy(Concurrency(initial=5, limit=20))
    while not destination.unreachable(TROUBLE, 300.0):
        pass
    destination.answered()
    assert (destination.dead_until, destination.trouble, destination.window) == (None, None, 5)


def test_small_positive_feedback_adds_up():
    destination = busy(Concurrency(positive=Feedback(0.1)))
    for _ in range(9):
        destination.answered()
    assert destination.window == 5
    destination.answered()
    assert destination.window == 6


def test_small_negative_feedback_takes_effect_at_once():
    destination = busy(Concurrency(negative=Feedback(0.5), failed_cohort_limit=0))
    windows = []
    for _ in range(4):
        destination.unreachable(TROUBLE, 300.0)
        windows.append(destination.window)
    assert windows == [4, 4, 3, 3]


@pytest.mark.parametrize(
    ("text", "feedback"),
    [
        ("1", Feedback(1)),
        ("0.5", Feedback(0.5)),
        ("1/concurrency", Feedback(1, "concurrency")),
        ("1 / sqrt_concurrency", Feedback(1, "sqrt_concurrency")),
    ],
)
def test_parse_feedback(text, feedback):
    assert parse_feedback(text) == feedback


@pytest.mark.parametrize("text", ["", "1\n", "-1", "+1", "2", "1/", "1/window", "1_0", "\u0661", "1e0", "nan"])
def test_bad_feedback_is_refused(text):
    with pytest.raises(ValueError, match="concurrency feedback"):
        parse_feedback(text)


@pytest.mark.parametrize(
    ("feedback", "window", "amount"),
    [(Feedback(1), 4, 1), (Feedback(1, "concurrency"), 4, 0.25), (Feedback(1, "sqrt_concurrency"), 4, 0.5)],
)
def test_feedback_may_depend_on_the_window(feedback, window, amount):
    assert feedback.of(window) == amount
