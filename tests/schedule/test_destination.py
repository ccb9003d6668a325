"""The window law of a destination."""

import pytest

from pyfix.schedule.destination import Destination
from pyfix.schedule.feedback import Feedback, parse_feedback
from pyfix.schedule.limits import Concurrency
from pyfix.schedule.message import Trouble

TROUBLE = Trouble("4.4.1", "connect to mail.example.com: refused")


def busy(law, in_flight=100):
    destination = Destination("example.com", None, law)
    destination.in_flight = in_flight
    return destination


def test_the_window_begins_at_the_initial_concurrency():
    assert Destination("d", None, Concurrency(initial=5, limit=20)).window == 5


def test_the_initial_concurrency_is_held_by_the_limit():
    assert Destination("d", None, Concurrency(initial=5, limit=2)).window == 2


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
    ("positive", "events"),
    [
        # 1/5 five times, 1/6 six times, 1/7 seven times: one more after each pseudo-cohort.
        (Feedback(1, "concurrency"), [5, 6, 7]),
        # 1/sqrt(5) is 0.447: 1.342 after three; 0.342 and twice 0.408 are 1.158; 0.158 and three times 0.378 are 1.292.
        (Feedback(1, "sqrt_concurrency"), [3, 2, 3]),
        (Feedback(0.25), [4, 4, 4]),
        (Feedback(0.5, "concurrency"), [10, 12, 14]),
    ],
    ids=str,
)
def test_how_many_successes_the_next_step_takes(positive, events):
    destination = busy(Concurrency(initial=5, positive=positive))
    found = []
    for _ in events:
        window, number = destination.window, 0
        while destination.window == window:
            destination.answered()
            number += 1
        assert destination.window == window + 1
        found.append(number)
    assert found == events


@pytest.mark.parametrize(
    ("negative", "events"),
    [
        (Feedback(1), [1, 1, 1]),
        # The first takes effect at once and leaves 0.95. Then 1/19: 18 of them are 0.947; the 19th is too much, and
        # leaves 0.95 again. Then 1/18: 17 are 0.944.
        (Feedback(1, "concurrency"), [1, 19, 18]),
        # 1 - 0.224 = 0.776; 0.229 three times leave 0.088, the fourth is too much and leaves 0.859; then 0.236.
        (Feedback(1, "sqrt_concurrency"), [1, 4, 4]),
        (Feedback(0.25), [1, 4, 4]),
    ],
    ids=str,
)
def test_how_many_failures_the_next_step_takes(negative, events):
    destination = busy(Concurrency(initial=20, limit=20, negative=negative, failed_cohort_limit=0))
    found = []
    for _ in events:
        window, number = destination.window, 0
        while destination.window == window:
            destination.unreachable(TROUBLE, 300.0)
            number += 1
        assert destination.window == window - 1
        found.append(number)
    assert found == events


def test_success_after_failure_begins_anew():
    """A step in one direction forgets what was on the way to the other."""
    destination = busy(Concurrency(initial=5, positive=Feedback(0.5), negative=Feedback(1), failed_cohort_limit=0))
    destination.answered()
    destination.unreachable(TROUBLE, 300.0)
    assert destination.window == 4
    destination.answered()
    assert destination.window == 4
    destination.answered()
    assert destination.window == 5


@pytest.mark.parametrize(("limit", "events"), [(1, 5), (2, 10), (3, 15), (0.5, 3)])
def test_failed_cohorts_of_a_window_that_stays(limit, events):
    """With a window of 5 five failures in a row are a pseudo-cohort."""
    destination = busy(Concurrency(initial=5, negative=Feedback(0), failed_cohort_limit=limit))
    number = 1
    while not destination.unreachable(TROUBLE, 300.0):
        number += 1
    assert number == events


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
