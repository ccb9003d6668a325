import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.service import events
from pyfix.service.gauges import KINDS, WINDOW, Destination, Rates, Sample, kind_of, oldest_usec, top_destinations
from pyfix.spool.census import Counted

ID = "4dVBkT0Qz8z1"
NOW = 1_000_000
DELAYS = (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (events.client(ID, "mx.e", "192.0.2.1"), "received"),
        (events.pickup(ID, 0, "a@b"), "received"),
        (events.requeued(ID, 0, "a@b", ID), None),
        (events.delivery(ID, "a@b", "c@d", "", "x", DELAYS, "2.0.0", "sent", "ok"), "delivered"),
        (events.delivery(ID, "a@b", "c@d", "", "x", DELAYS, "4.0.0", "deferred", "status=sent (no)"), "deferred"),
        (events.delivery(ID, "a@b", "c@d", "", "x", DELAYS, "5.0.0", "bounced", "no"), "bounced"),
        (events.delivery(ID, "a@b", "c@d", "", "x", DELAYS, "5.0.0", "undeliverable", "no"), None),
        (events.removed(ID), None),
        (events.queue_active(ID, "a@b", 1, 1), None),
        (events.connected("mx.e", "192.0.2.1"), None),
    ],
)
def test_lines_that_count(event, kind):
    assert kind_of(event.message) == kind


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(NOW - 200, NOW))))
def test_rates_count_the_last_minute(happened):
    rates = Rates(NOW - WINDOW + 1)
    for kind, when in happened:
        rates.add(kind, when)
    expected = {kind: sum(k == kind and when > NOW - WINDOW for k, when in happened) for kind in KINDS}
    assert rates.per_minute(NOW) == expected
    assert not rates.is_estimated(NOW)
    assert rates.per_minute(NOW + WINDOW) == dict.fromkeys(KINDS, 0)


def test_what_was_missed_is_estimated_from_the_rest():
    rates = Rates(NOW - WINDOW + 1)
    for second in range(NOW - WINDOW, NOW + 1):
        rates.add("delivered", second)
    rates.miss(NOW - 29, NOW)
    assert rates.is_estimated(NOW)
    assert rates.per_minute(NOW)["delivered"] == WINDOW
    rates.miss(0, NOW)
    assert rates.per_minute(NOW) == {}
    assert not rates.is_estimated(NOW + WINDOW)


def test_soon_after_the_start_little_is_known():
    rates = Rates(NOW)
    rates.add("bounced", NOW)
    assert rates.is_estimated(NOW + 29)
    assert rates.per_minute(NOW + 29)["bounced"] == 2
    assert rates.per_minute(NOW - 1) == {}


def message(arrival=5, **domains):
    return Counted(arrival, b"s", {name.encode(): number for name, number in domains.items()})


def test_destinations_with_the_most_recipients_come_first():
    deferred = Sample(2, {"deferred/1": message(a=1, b=2), "deferred/2": message(b=3, c=1)})
    active = Sample(1, {"active/3": message(c=4, d=1)})
    assert top_destinations(deferred, active, 3) == [
        Destination(b"b", 5, 0, "deferred/2"), Destination(b"c", 1, 4, "deferred/2"),
        Destination(b"a", 1, 0, "deferred/1"),
    ]  # fmt: skip
    assert top_destinations(Sample(0, {}), Sample(0, {}), 3) == []


def test_a_sample_stands_for_all():
    sample = Sample(1000, {"1": message(a=1, b=2), "2": message(b=1)})
    assert not sample.is_whole
    assert sample.domains() == {b"a": (500, "1"), b"b": (1500, "2")}


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 9), min_size=1)), st.integers(1, 50))
def test_estimates_sum_up_to_about_all(messages, factor):
    sample = Sample(len(messages) * factor, {str(n): message(**domains) for n, domains in enumerate(messages)})
    total = sum(sum(domains.values()) for domains in messages) * factor
    assert sum(number for number, _ in sample.domains().values()) == total


def test_the_oldest_is_told_by_its_name_or_by_its_file():
    samples = [Sample(1, {"1": message(arrival=7, a=1)})]
    assert oldest_usec([0, 9_000_000, 8_000_000], []) == 8_000_000
    assert oldest_usec([0, 9_000_000], samples) == 7_000_000
    assert oldest_usec([0], []) == 0
