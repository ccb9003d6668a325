"""The scheduler, event by event."""

import pytest

from pyfix.schedule.limits import Concurrency, SchedulerLimits, TransportLimits
from pyfix.schedule.message import Message, Route, Trouble
from pyfix.schedule.retry import RetrySchedule
from pyfix.schedule.scheduler import Deliver, End, Record, Refill, Scheduler
from pyfix.service.delivery import Delivered, Outcome, Recipient

GONE = Trouble("4.3.0", "mail transport unavailable")


def make(active_limit=100, recipient_limit=1000, **transports):
    limits = SchedulerLimits(active_limit, recipient_limit, transport_retry_time=60, minimal_backoff_time=300)
    return Scheduler(limits, lambda name: transports.get(name, TransportLimits()))


def route(offset, nexthop="example.com", transport="smtp"):
    address = f"user{offset}@{nexthop}"
    return Route(Recipient(offset, address), transport, nexthop, address)


def send(scheduler, queue_id, *routes, **options):
    message = Message(queue_id, "sender@example.org", 1000)
    scheduler.admit(message)
    scheduler.submit(message, routes, **options)
    return message


def deliveries(actions):
    return [a.delivery for a in actions if isinstance(a, Deliver)]


def sent(delivery, **reply):
    return Delivered(tuple(Outcome(r.offset, "sent", "2.0.0", "ok") for r in delivery.entry.recipients), **reply)


def deferred(delivery, **reply):
    return Delivered(tuple(Outcome(r.offset, "deferred", "4.0.0", "no") for r in delivery.entry.recipients), **reply)


def complete(scheduler, actions):
    """Does what the actions ask for, all deliveries succeeding, until nothing is left; the messages that ended."""
    ended = []
    while actions:
        for action in actions:
            if isinstance(action, Deliver):
                scheduler.answered(action.delivery, sent(action.delivery), 0.0)
            elif isinstance(action, Record):
                scheduler.recorded(action.message, action.settled)
            elif isinstance(action, End):
                ended.append(action.message.queue_id)
                scheduler.ended(action.message)
        actions = scheduler.actions()
    return ended


def test_one_message_from_end_to_end():
    scheduler = make()
    message = send(scheduler, "A", route(10), route(20))
    [delivery] = deliveries(scheduler.actions())
    assert delivery.transport.name == "smtp"
    assert delivery.entry.nexthop == "example.com"
    assert [r.offset for r in delivery.entry.recipients] == [10, 20]
    scheduler.answered(delivery, sent(delivery), 0.0)
    [record] = scheduler.actions()
    assert isinstance(record, Record)
    assert record.logged
    assert [(r.offset, o.status) for r, o in record.settled] == [(10, "sent"), (20, "sent")]
    scheduler.recorded(message, record.settled)
    assert scheduler.actions() == [End(message)]
    assert message.verdict(RetrySchedule(300, 4000, 432000, 432000), 2000).action == "remove"
    scheduler.ended(message)
    assert scheduler.active == 0


def test_recipients_are_split_by_the_recipient_limit():
    scheduler = make(smtp=TransportLimits(recipient_limit=2))
    send(scheduler, "A", *(route(n) for n in range(5)))
    groups = [[r.offset for r in d.entry.recipients] for d in deliveries(scheduler.actions())]
    assert groups == [[0, 1], [2, 3], [4]]


def test_a_recipient_limit_of_one_gives_each_mailbox_a_window():
    limits = TransportLimits(Concurrency(initial=1, limit=1), recipient_limit=1)
    scheduler = make(local=limits)
    send(scheduler, "A", route(1, "here", "local"), route(2, "here", "local"))
    send(scheduler, "B", route(1, "here", "local"))
    started = [(d.entry.message.queue_id, d.entry.recipients[0].offset) for d in deliveries(scheduler.actions())]
    assert sorted(started) == [("A", 1), ("A", 2)]


def test_the_window_holds():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=2, limit=2)))
    for queue_id in "ABCDE":
        send(scheduler, queue_id, route(1))
    first, second = deliveries(scheduler.actions())
    assert scheduler.actions() == []
    scheduler.answered(first, sent(first), 0.0)
    assert [d.entry.message.queue_id for d in deliveries(scheduler.actions())] == ["C"]
    scheduler.answered(second, sent(second), 0.0)
    assert [d.entry.message.queue_id for d in deliveries(scheduler.actions())] == ["D"]


def test_the_process_limit_holds_over_all_destinations():
    scheduler = make(smtp=TransportLimits(process_limit=3))
    for n in range(10):
        send(scheduler, f"Q{n}", route(1, f"d{n}.example"))
    started = deliveries(scheduler.actions())
    assert len(started) == 3
    scheduler.answered(started[0], sent(started[0]), 0.0)
    assert len(deliveries(scheduler.actions())) == 1


def test_mail_is_served_in_the_order_of_its_coming_unless_its_destination_is_busy():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=2, limit=2), process_limit=4))
    for n in range(4):
        send(scheduler, f"big{n}", route(1, "big.example"))
    send(scheduler, "small", route(1, "small.example"))
    started = deliveries(scheduler.actions())
    assert [d.entry.message.queue_id for d in started] == ["big0", "big1", "small"]
    scheduler.answered(started[2], sent(started[2]), 0.0)
    scheduler.answered(started[0], sent(started[0]), 0.0)
    assert [d.entry.message.queue_id for d in deliveries(scheduler.actions())] == ["big2"]


def test_the_destinations_of_a_message_take_turns():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=9, limit=9), recipient_limit=2, process_limit=5))
    send(scheduler, "A", *(route(n, f"{'abc'[n // 6]}.example") for n in range(18)))
    started = [d.entry.nexthop for d in deliveries(scheduler.actions())]
    assert started == ["a.example", "b.example", "c.example", "a.example", "b.example"]


def test_transports_take_turns():
    scheduler = make()
    for n in range(3):
        send(scheduler, f"S{n}", route(1))
    send(scheduler, "L", route(1, "here", "local"))
    assert [d.transport.name for d in deliveries(scheduler.actions())] == ["smtp", "local", "smtp", "smtp"]


def test_the_recipients_of_a_single_message_are_delivered_alone_within_one_window():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=2, limit=2)))
    message = Message("A", "owner@example.org", 0, single=True)
    scheduler.admit(message)
    scheduler.submit(message, [route(n) for n in range(3)])
    started = deliveries(scheduler.actions())
    assert [[r.offset for r in d.entry.recipients] for d in started] == [[0], [1]]


def test_a_dead_destination_defers_what_waits_and_what_comes():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=1, limit=1)))
    send(scheduler, "A", route(1))
    send(scheduler, "B", route(2))
    send(scheduler, "C", route(3, "other.example"))
    first, other = deliveries(scheduler.actions())
    scheduler.answered(first, deferred(first, unreachable_dsn="4.4.1", unreachable="connect: refused"), 100.0)
    send(scheduler, "D", route(4))
    records = {a.message.queue_id: a for a in scheduler.actions()}
    assert set(records) == {"A", "B", "D"}
    assert records["A"].logged
    for queue_id in "BD":
        [(_, outcome)] = records[queue_id].settled
        assert not records[queue_id].logged
        assert (outcome.status, outcome.dsn) == ("deferred", "4.4.1")
        assert outcome.reason == "delivery temporarily suspended: connect: refused"
    assert other.destination.dead_until is None
    assert scheduler.wake_at == 400.0


def test_a_dead_destination_lives_again_when_its_time_is_over():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=1, limit=1)))
    send(scheduler, "A", route(1))
    [delivery] = deliveries(scheduler.actions())
    scheduler.answered(delivery, deferred(delivery, unreachable="no"), 100.0)
    scheduler.tick(399.0)
    send(scheduler, "B", route(1))
    assert deliveries(scheduler.actions()) == []
    scheduler.tick(400.0)
    assert scheduler.wake_at is None
    send(scheduler, "C", route(1))
    assert [d.entry.message.queue_id for d in deliveries(scheduler.actions())] == ["C"]


def test_only_so_many_dead_destinations_are_remembered():
    scheduler = make(recipient_limit=10, smtp=TransportLimits(Concurrency(initial=1, limit=1)))
    for n in range(50):
        message = send(scheduler, f"Q{n}", route(1, f"d{n}.example"))
        [delivery] = deliveries(scheduler.actions())
        scheduler.answered(delivery, deferred(delivery, unreachable="no"), 0.0)
        [record] = scheduler.actions()
        scheduler.recorded(message, record.settled)
        scheduler.ended(message)
    [transport] = scheduler._transports.values()
    assert len(transport.destinations) == 10


def test_a_failed_transport_defers_its_mail_only():
    scheduler = make(smtp=TransportLimits(process_limit=1))
    send(scheduler, "A", route(1))
    send(scheduler, "B", route(1, "other.example"))
    send(scheduler, "C", route(1, "here", "local"))
    smtp, local = deliveries(scheduler.actions())
    scheduler.failed(smtp, GONE, 10.0)
    send(scheduler, "D", route(1))
    actions = scheduler.actions()
    assert [a.message.queue_id for a in actions] == ["A", "B", "D"]
    assert all(o.reason == GONE.text and o.relay == "none" for a in actions for _, o in a.settled)
    scheduler.answered(local, sent(local), 10.0)
    scheduler.tick(70.0)
    send(scheduler, "E", route(1))
    assert [d.entry.message.queue_id for d in deliveries(scheduler.actions())] == ["E"]


def test_an_answer_revives_the_transport():
    scheduler = make()
    send(scheduler, "A", route(1))
    send(scheduler, "B", route(1))
    first, second = deliveries(scheduler.actions())
    scheduler.failed(first, GONE, 10.0)
    scheduler.answered(second, sent(second), 11.0)
    send(scheduler, "C", route(1))
    assert [d.entry.message.queue_id for d in deliveries(scheduler.actions())] == ["C"]
    scheduler.tick(1000.0)
    assert scheduler.wake_at is None


def test_a_revived_destination_may_die_again_without_waking_early():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=2, limit=2)))
    for queue_id in "AB":
        send(scheduler, queue_id, route(1))
    first, second = deliveries(scheduler.actions())
    scheduler.answered(first, deferred(first, unreachable="no"), 0.0)
    assert scheduler.wake_at is None
    scheduler.answered(second, deferred(second, unreachable="no"), 100.0)
    assert scheduler.wake_at == 400.0
    scheduler.flush()
    send(scheduler, "C", route(1))
    [third] = deliveries(scheduler.actions())
    assert scheduler.wake_at is None
    scheduler.answered(third, sent(third), 150.0)


def test_flush_revives_all_that_is_dead():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=1, limit=1)))
    send(scheduler, "A", route(1))
    send(scheduler, "B", route(1, "here", "local"))
    smtp, local = deliveries(scheduler.actions())
    scheduler.answered(smtp, deferred(smtp, unreachable="no"), 0.0)
    scheduler.failed(local, GONE, 0.0)
    scheduler.flush()
    send(scheduler, "C", route(1))
    send(scheduler, "D", route(1, "here", "local"))
    assert {d.entry.message.queue_id for d in deliveries(scheduler.actions())} == {"C", "D"}


def test_recipients_that_the_agent_says_nothing_of_are_deferred():
    scheduler = make()
    send(scheduler, "A", route(1), route(2), route(3))
    [delivery] = deliveries(scheduler.actions())
    reply = Delivered(
        (
            Outcome(2, "sent", "2.0.0", "ok"),
            Outcome(2, "bounced", "5.0.0", "told twice"),
            Outcome(99, "sent", "2.0.0", "never asked"),
        )
    )
    scheduler.answered(delivery, reply, 0.0)
    [record] = scheduler.actions()
    assert [(r.offset, o.status, o.offset) for r, o in record.settled] == [
        (1, "deferred", 1),
        (2, "sent", 2),
        (3, "deferred", 3),
    ]


def test_recipients_that_need_no_agent():
    scheduler = make()
    outcome = Outcome(1, "sent", "2.0.0", "undeliverable postmaster notification discarded")
    message = send(scheduler, "A", settled=[(Recipient(1, "double-bounce@here"), outcome)])
    [record] = scheduler.actions()
    assert not record.logged
    scheduler.recorded(message, record.settled)
    assert scheduler.actions() == [End(message)]


def test_a_message_without_recipients_ends_at_once():
    scheduler = make()
    message = send(scheduler, "A")
    assert scheduler.actions() == [End(message)]


def test_the_active_limit():
    scheduler = make(active_limit=2)
    first = send(scheduler, "A", route(1))
    assert scheduler.room
    send(scheduler, "B", route(1))
    assert not scheduler.room
    scheduler.ended(first)
    assert scheduler.room


def test_the_recipient_limit_is_for_what_is_read_at_first():
    scheduler = make(recipient_limit=30)
    assert scheduler.first_batch == 30
    send(scheduler, "A", *(route(n) for n in range(12)))
    assert (scheduler.first_batch, scheduler.room) == (18, True)
    send(scheduler, "B", *(route(n) for n in range(12)))
    # qmgr_message_recipient_minimum
    assert (scheduler.first_batch, scheduler.room) == (10, True)
    assert complete(scheduler, scheduler.actions()) == ["A", "B"]
    assert scheduler.first_batch == 30
    assert scheduler.recipients == 0


def test_a_message_with_more_recipients_in_its_file_is_refilled():
    scheduler = make()
    message = send(scheduler, "A", route(1), more=True)
    refill, deliver = scheduler.actions()
    assert refill == Refill(message, 5000)
    scheduler.submit(message, [route(2), route(3)])
    # They join what has not been started; this has.
    [second] = deliveries(scheduler.actions())
    assert [r.offset for r in second.entry.recipients] == [2, 3]
    for delivery in (deliver.delivery, second):
        scheduler.answered(delivery, sent(delivery), 0.0)
    first, last = scheduler.actions()
    scheduler.recorded(message, first.settled)
    assert scheduler.actions() == []
    scheduler.recorded(message, last.settled)
    assert scheduler.actions() == [End(message)]


@pytest.mark.parametrize(
    ("limit", "groups"), [(3, [[1, 2, 3], [4, 5]]), (2, [[1, 2], [3, 4], [5]]), (0, [[1, 2, 3, 4, 5]])]
)
def test_recipients_that_are_read_later_join_those_that_still_wait(limit, groups):
    scheduler = make(smtp=TransportLimits(Concurrency(initial=1, limit=1), recipient_limit=limit))
    send(scheduler, "busy", route(0))
    [delivery] = deliveries(scheduler.actions())
    message = send(scheduler, "A", route(1), route(2), more=True)
    assert scheduler.actions() == [Refill(message, 5000)]
    scheduler.submit(message, [route(n) for n in (3, 4, 5)])
    found = []
    for _ in groups:
        scheduler.answered(delivery, sent(delivery), 0.0)
        [delivery] = deliveries(scheduler.actions())
        found.append([r.offset for r in delivery.entry.recipients])
    assert found == groups


def test_withdrawn_mail_starts_no_delivery():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=1, limit=1)))
    for queue_id in "ABC":
        send(scheduler, queue_id, route(1))
    [flying] = deliveries(scheduler.actions())
    scheduler.withdraw(["A", "B", "nobody"])
    [end] = scheduler.actions()
    assert end.message.queue_id == "B"
    assert end.message.verdict(RetrySchedule(300, 4000, 0, 0), 0).action == "withdrawn"
    scheduler.ended(end.message)
    scheduler.answered(flying, deferred(flying), 0.0)
    actions = scheduler.actions()
    assert [d.entry.message.queue_id for d in deliveries(actions)] == ["C"]
    [record] = [a for a in actions if isinstance(a, Record)]
    scheduler.recorded(record.message, record.settled)
    assert scheduler.actions() == [End(record.message)]
    assert record.message.verdict(RetrySchedule(300, 4000, 0, 0), 0).action == "withdrawn"


def test_mail_withdrawn_before_its_recipients_are_routed():
    scheduler = make()
    message = Message("A", "s@example.org", 0)
    scheduler.admit(message)
    scheduler.withdraw(["A"])
    assert scheduler.actions() == []
    scheduler.submit(message, [route(1)])
    assert scheduler.actions() == [End(message)]


def test_after_stop_nothing_starts_but_what_flies_may_land():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=1, limit=1)))
    message = send(scheduler, "A", route(1))
    send(scheduler, "B", route(1))
    [flying] = deliveries(scheduler.actions())
    scheduler.stop()
    assert not scheduler.room
    scheduler.answered(flying, sent(flying), 0.0)
    [record] = scheduler.actions()
    scheduler.recorded(message, record.settled)
    assert scheduler.actions() == [End(message)]


def test_reload_changes_limits():
    scheduler = make(active_limit=1)
    send(scheduler, "A", route(1))
    assert not scheduler.room
    scheduler.reload(SchedulerLimits(active_limit=2), lambda name: TransportLimits(recipient_limit=1))
    assert scheduler.room
    send(scheduler, "B", route(1), route(2))
    assert [len(d.entry.recipients) for d in deliveries(scheduler.actions())] == [1, 1, 1]


def test_reload_keeps_what_waits_and_changes_what_it_may_do():
    scheduler = make(smtp=TransportLimits(Concurrency(initial=3, limit=3)))
    for n in range(9):
        send(scheduler, f"Q{n}", route(1))
    flying = deliveries(scheduler.actions())
    assert len(flying) == 3
    scheduler.reload(SchedulerLimits(), lambda _name: TransportLimits(Concurrency(initial=1, limit=1)))
    for delivery in flying[:2]:
        scheduler.answered(delivery, sent(delivery), 0.0)
    assert deliveries(scheduler.actions()) == []
    scheduler.answered(flying[2], sent(flying[2]), 0.0)
    order = []
    while started := deliveries(scheduler.actions()):
        assert len(started) == 1
        order.append(started[0].entry.message.queue_id)
        scheduler.answered(started[0], sent(started[0]), 0.0)
    assert order == ["Q3", "Q4", "Q5", "Q6", "Q7", "Q8"]


def test_an_idle_scheduler_remembers_nothing():
    scheduler = make()
    for n in range(50):
        send(scheduler, f"Q{n}", route(1, f"d{n}.example"), route(2, "here", "local"))
    assert len(complete(scheduler, scheduler.actions())) == 50
    assert scheduler.active == 0
    assert all(not transport.destinations for transport in scheduler._transports.values())
    assert scheduler.wake_at is None
    assert scheduler.room


SCHEDULE = RetrySchedule(300, 4000, 1000, 500)
PAIRS = [
    (Recipient(1, "a@b"), Outcome(1, "sent", "2.0.0", "ok")),
    (Recipient(2, "c@d"), Outcome(2, "deferred", "4.4.1", "refused")),
]


@pytest.mark.parametrize(
    ("sender", "now", "forced", "status"),
    [
        ("s@x", 1999, False, "deferred"),
        ("s@x", 2000, False, "bounced"),
        ("", 1499, False, "deferred"),
        ("", 1500, False, "bounced"),
        ("s@x", 1000, True, "bounced"),
    ],
)
def test_a_deferral_after_the_lifetime_is_a_bounce(sender, now, forced, status):
    message = Message("A", sender, 1000, forced_expire=forced)
    judged = message.judge(PAIRS, SCHEDULE, now)
    assert [o.status for _, o in judged] == ["sent", status]
    assert judged[1][1].dsn == "4.4.1"
    assert message.expired is (status == "bounced")


def test_mail_that_was_delivered_does_not_expire():
    message = Message("A", "s@x", 1000)
    assert message.judge(PAIRS[:1], SCHEDULE, 999999) == PAIRS[:1]
    assert not message.expired


def test_deferred_mail_is_tried_again_by_the_schedule():
    message = Message("A", "s@x", 1000)
    message.deferred = 1
    verdict = message.verdict(SCHEDULE, 1700)
    assert (verdict.action, verdict.time) == ("defer", 2400)
