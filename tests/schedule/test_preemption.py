"""Small messages slip past large ones, as Postfix's SCHEDULER_README says."""

import pytest

from pyfix.schedule.limits import Concurrency, SchedulerLimits, Slots, TransportLimits
from pyfix.schedule.message import Message, Route, Trouble
from pyfix.schedule.scheduler import Deliver, End, Record, Scheduler
from pyfix.service.delivery import Delivered, Outcome, Recipient

NEVER = Slots(cost=0)


def make(slots, process_limit=1, window=0):
    limits = TransportLimits(Concurrency(initial=100, limit=window), 1, process_limit, slots=slots)
    return Scheduler(SchedulerLimits(), lambda _name: limits)


def send(scheduler, queue_id, count, nexthop="", more=False, total=0):
    """A message with so many deliveries; each to a destination of its own, unless ``nexthop`` says another."""
    message = Message(queue_id, "s@example.org", 0, total=total)
    scheduler.admit(message)
    recipients = [Recipient(n, f"{queue_id}{n}@x") for n in range(count)]
    scheduler.submit(message, [Route(r, "smtp", nexthop or "x", nexthop or r.address) for r in recipients], more=more)
    return message


def run(scheduler, arrivals=None, fly=1):
    """Does deliveries, ``fly`` at a time, and tells whose each one was; ``arrivals`` come after the n-th."""
    order, flying, actions = "", [], list(scheduler.actions())
    while actions or flying:
        for action in actions:
            if isinstance(action, Deliver):
                order += action.delivery.entry.message.queue_id
                flying.append(action.delivery)
                for queue_id, count in (arrivals or {}).pop(len(order), ()):
                    send(scheduler, queue_id, count)
            elif isinstance(action, Record):
                scheduler.recorded(action.message, action.settled)
            elif isinstance(action, End):
                scheduler.ended(action.message)
        actions = list(scheduler.actions())
        if not actions and flying:
            delivery = flying.pop(0)
            outcomes = tuple(Outcome(r.offset, "sent", "2.0.0", "ok") for r in delivery.entry.recipients)
            scheduler.answered(delivery, Delivered(outcomes), 0.0)
            actions = list(scheduler.actions())
    assert scheduler.active == 0
    return order


@pytest.mark.parametrize(
    ("slots", "messages", "order"),
    [
        (NEVER, {"1": 4, "2": 4}, "11112222"),
        # The three examples of the README: cost 2, without a loan, then with one of half the slots.
        (Slots(2, 0, 0, 1), {"1": 10, "2": 2, "3": 2}, "11112211113311"),
        (Slots(2, 0, 50, 1), {"1": 10, "2": 2, "3": 2}, "11221111331111"),
        # After five deliveries one slot is earned, after ten the next.
        (Slots(5, 0, 0, 3), {"1": 15, "2": 1, "3": 1, "4": 1}, "111112111113111114"),
        # One slot of two comes at a discount of half; then four more are owed.
        (Slots(5, 0, 50, 3), {"1": 15, "2": 2}, "11111221111111111"),
        # Three on loan are enough for two at once.
        (Slots(5, 3, 0, 3), {"1": 15, "2": 2}, "12211111111111111"),
        # Of what a job with 15 entries can earn, three slots, there is not enough for four.
        (Slots(5, 3, 50, 3), {"1": 15, "2": 4}, "1" * 15 + "2222"),
        # Too small to be preempted.
        (Slots(5, 3, 50, 3), {"1": 14, "2": 1}, "1" * 14 + "2"),
        # A cost of 1 would let the large one wait forever.
        (Slots(1, 3, 50, 0), {"1": 20, "2": 1}, "1" * 20 + "2"),
    ],
)
def test_the_order_worked_by_hand(slots, messages, order):
    scheduler = make(slots)
    for queue_id, count in messages.items():
        send(scheduler, queue_id, count)
    assert run(scheduler) == order


def test_preemption_among_mail_to_one_destination():
    scheduler = make(Slots(2, 0, 0, 1))
    send(scheduler, "1", 10, nexthop="one")
    send(scheduler, "2", 2, nexthop="one")
    send(scheduler, "3", 1, nexthop="one")
    assert run(scheduler) == "1131111221111"


def test_the_older_of_two_of_a_size_goes_first_and_the_smaller_of_two_of_an_age():
    scheduler = make(Slots(2, 9, 0, 1))
    for queue_id, count in {"1": 20, "4": 4, "2": 2, "3": 2}.items():
        send(scheduler, queue_id, count)
    order = run(scheduler)
    assert list(dict.fromkeys(order)) == ["1", "2", "3", "4"]


def test_age_outweighs_size():
    scheduler = make(Slots(2, 9, 0, 1))
    send(scheduler, "1", 20)
    send(scheduler, "4", 4)
    scheduler.tick(100.0)
    send(scheduler, "2", 1)
    assert list(dict.fromkeys(run(scheduler))) == ["1", "4", "2"]


def test_preemption_within_preemption():
    """A hundred slip past a thousand, and ten past the hundred."""
    scheduler = make(Slots(2, 0, 0, 1))
    send(scheduler, "1", 1000)
    send(scheduler, "2", 100)
    order = run(scheduler, {220: [("3", 10)]})
    assert order.index("2") == 200
    # 20 entries of the hundred pay for the ten, which came when it had begun.
    assert "2" * 20 + "3" * 10 + "2" * 80 + "1" in order


def test_a_job_whose_destination_is_busy_is_passed_over():
    """The second message waits for its busy destination; the third does not wait with it."""
    scheduler = make(Slots(2, 0, 0, 1), process_limit=2, window=1)
    send(scheduler, "0", 1, nexthop="busy")
    [busy] = [a.delivery for a in scheduler.actions()]
    send(scheduler, "1", 10)
    send(scheduler, "2", 1, nexthop="busy")
    send(scheduler, "3", 1)
    order, actions = "", scheduler.actions()
    while len(order) < 11:
        [delivery] = [a.delivery for a in actions if isinstance(a, Deliver)]
        order += delivery.entry.message.queue_id
        for record in [a for a in actions if isinstance(a, Record)]:
            scheduler.recorded(record.message, record.settled)
        scheduler.answered(delivery, Delivered((Outcome(delivery.entry.recipients[0].offset, "sent", "2.0.0", ""),)), 0)
        actions = scheduler.actions()
    assert order == "11311111111"
    scheduler.answered(busy, Delivered((Outcome(0, "sent", "2.0.0", ""),)), 0)
    assert [a.delivery.entry.message.queue_id for a in scheduler.actions() if isinstance(a, Deliver)] == ["2"]


def test_a_busy_job_has_its_chance_when_its_destination_is_free():
    scheduler = make(Slots(2, 0, 0, 1), process_limit=2, window=1)
    send(scheduler, "0", 1, nexthop="busy")
    [busy] = [a.delivery for a in scheduler.actions()]
    send(scheduler, "1", 12)
    for queue_id in "234":
        send(scheduler, queue_id, 1, nexthop="busy")
    order, flying = "", []
    for n in range(15):
        for action in scheduler.actions():
            if isinstance(action, Deliver):
                order += action.delivery.entry.message.queue_id
                flying.append(action.delivery)
        if n == 6:
            flying.append(busy)
        delivery = flying.pop()
        scheduler.answered(delivery, Delivered((Outcome(delivery.entry.recipients[0].offset, "sent", "", ""),)), 0)
    # Seven deliveries have earned three slots.
    assert order == "111111123411111"


def test_recipients_that_were_not_read_count_as_deliveries():
    """What is known to be large enough to be preempted is so by what is still in its file."""
    scheduler = make(Slots(2, 0, 0, 8))
    send(scheduler, "1", 10, more=True, total=50)
    send(scheduler, "2", 1)
    order = "".join(a.delivery.entry.message.queue_id for a in scheduler.actions() if isinstance(a, Deliver))
    assert order == "1"


def test_dropped_mail_gives_its_slots_back():
    """What was paid for deliveries that did not happen is there for others."""
    slots = Slots(2, 0, 0, 1)
    scheduler = make(slots)
    send(scheduler, "1", 30)
    send(scheduler, "2", 4)
    order, delivery = "", None
    while "2" not in order:
        for action in scheduler.actions():
            if isinstance(action, Deliver):
                delivery = action.delivery
                order += delivery.entry.message.queue_id
        if "2" not in order:
            scheduler.answered(delivery, Delivered((Outcome(delivery.entry.recipients[0].offset, "sent", "", ""),)), 0)
    assert order == "1" * 8 + "2"
    scheduler.withdraw(["2"])
    send(scheduler, "3", 3)
    scheduler.answered(delivery, Delivered((Outcome(0, "sent", "", ""),)), 0)
    started = [a.delivery.entry.message.queue_id for a in scheduler.actions() if isinstance(a, Deliver)]
    # Three of the four slots came back: there is no need to earn them anew.
    assert started == ["3"]


def test_a_large_job_whose_mail_was_deferred_is_forgotten():
    scheduler = make(Slots(2, 0, 0, 1))
    send(scheduler, "1", 10)
    [delivery] = [a.delivery for a in scheduler.actions()]
    assert delivery.transport._large == 1
    scheduler.failed(delivery, Trouble("4.3.0", "gone"), 0.0)
    assert delivery.transport._large == 0
