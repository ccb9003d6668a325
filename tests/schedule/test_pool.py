"""Which message may have more recipients in memory."""

import pytest

from pyfix.schedule.job import Job
from pyfix.schedule.limits import Recipients, SchedulerLimits, TransportLimits
from pyfix.schedule.message import Message, Route
from pyfix.schedule.pool import Pool
from pyfix.schedule.scheduler import Deliver, Record, Refill, Scheduler
from pyfix.service.delivery import Delivered, Outcome, Recipient


def job(pool, sequence):
    message = Message(f"Q{sequence}", "s@x", 0)
    message.sequence = sequence
    message.more = True
    made = Job(message, None)
    pool.enter(made)
    return made


def test_the_oldest_gets_all():
    pool = Pool(Recipients(limit=100))
    first, second = job(pool, 1), job(pool, 2)
    assert pool.give() is first.message
    assert (first.recipient_slots, second.recipient_slots) == (100, 0)
    assert pool.give() is None


def test_what_one_can_spare_goes_to_the_next_when_it_has_been_read():
    pool = Pool(Recipients(limit=100))
    first, second = job(pool, 1), job(pool, 2)
    pool.give()
    first.message.more = False
    assert pool.take_back(first, 60) == 60
    assert pool.give() is second.message
    assert (first.recipient_slots, second.recipient_slots) == (40, 60)
    assert pool.take_back(first, 60) == 40


def test_an_older_one_that_comes_later_gets_what_is_not_in_use():
    pool = Pool(Recipients(limit=100))
    young = job(pool, 5)
    pool.give()
    young.message.unsettled = 30
    old = job(pool, 2)
    assert pool.give() is old.message
    assert (old.recipient_slots, young.recipient_slots) == (70, 30)


def test_one_that_preempts_gets_half_of_the_extra_slots():
    pool = Pool(Recipients(limit=100, extra=20))
    job(pool, 1)
    second, third = job(pool, 2), job(pool, 3)
    pool.give()
    pool.lend_extra(second)
    pool.lend_extra(third)
    assert (second.recipient_slots, third.recipient_slots) == (10, 5)
    # What comes back fills the extra pool first.
    assert pool.take_back(second, 10) == 10
    assert pool.give() is None


def test_new_limits():
    pool = Pool(Recipients(limit=100))
    first = job(pool, 1)
    pool.give()
    pool.change(Recipients(limit=130))
    assert pool.give() is first.message
    assert first.recipient_slots == 130


class Reader:
    """A scheduler with one transport, and messages whose files hold any number of recipients."""

    def __init__(self, *, minimum=10, **recipients) -> None:
        limits = TransportLimits(recipient_limit=1, process_limit=1, recipients=Recipients(**recipients))
        self.scheduler = Scheduler(SchedulerLimits(100, 1, minimum), lambda _name: limits)
        self.flying = []
        self.refills = []
        self.unread = {}
        self.offset = 0

    def send(self, queue_id, total):
        message = Message(queue_id, "s@x", 0, total=total)
        self.scheduler.admit(message)
        self.unread[queue_id] = total
        self.read(message, self.scheduler.first_batch)
        return message

    def read(self, message, limit):
        number = min(limit, self.unread[message.queue_id])
        self.unread[message.queue_id] -= number
        recipients = [Recipient(self.offset + n, f"{self.offset + n}@x") for n in range(number)]
        self.offset += number
        routes = [Route(r, "smtp", "x", r.address) for r in recipients]
        self.scheduler.submit(message, routes, more=self.unread[message.queue_id] > 0)
        self.pump()

    def pump(self):
        for action in self.scheduler.actions():
            if isinstance(action, Deliver):
                self.flying.append(action.delivery)
            elif isinstance(action, Record):
                self.scheduler.recorded(action.message, action.settled)
            elif isinstance(action, Refill):
                self.refills.append((action.message.queue_id, action.limit))
                self.read(action.message, action.limit)

    def deliver(self, number, now):
        for _ in range(number):
            delivery = self.flying.pop(0)
            outcomes = (Outcome(delivery.entry.recipients[0].offset, "sent", "2.0.0", ""),)
            self.scheduler.answered(delivery, Delivered(outcomes), now)
            self.pump()
            self.pump()


def test_a_large_message_is_read_up_to_the_limit_and_no_further():
    reader = Reader(limit=200, refill_limit=50, refill_delay=5)
    message = reader.send("A", 1000)
    assert reader.refills == [("A", 200)]
    assert message.unsettled == 210


def test_more_is_read_when_there_is_room_for_enough():
    reader = Reader(limit=200, refill_limit=50, refill_delay=5)
    reader.send("A", 1000)
    reader.deliver(49, now=1.0)
    assert len(reader.refills) == 1
    reader.deliver(1, now=1.0)
    assert reader.refills[1:] == [("A", 50)]


def test_or_when_it_is_time():
    reader = Reader(limit=200, refill_limit=50, refill_delay=5)
    reader.send("A", 1000)
    reader.deliver(7, now=1.0)
    assert reader.scheduler.wake_at == 5.0
    reader.scheduler.tick(5.0)
    reader.pump()
    assert reader.refills[1:] == [("A", 7)]


def test_or_when_nothing_waits():
    reader = Reader(minimum=10, limit=0, extra=0, refill_limit=50, refill_delay=5)
    reader.send("A", 25)
    assert reader.refills == []
    # The ninth of ten leaves one in flight, none that waits, and room for nine.
    reader.deliver(9, now=1.0)
    assert reader.refills == [("A", 9)]


def test_the_next_large_message_has_its_turn_when_the_first_has_been_read():
    reader = Reader(limit=100, refill_limit=50, refill_delay=5)
    reader.send("A", 120)
    second = reader.send("B", 1000)
    assert reader.refills == [("A", 100)]
    # 10 of A are left to be read; then 60 of B find room, slot by slot of A's.
    reader.deliver(10, now=1.0)
    reader.scheduler.tick(5.0)
    reader.pump()
    assert ("A", 10) in reader.refills
    reader.deliver(60, now=6.0)
    assert {queue_id for queue_id, _ in reader.refills[2:]} == {"B"}
    assert second.unsettled >= 60


@pytest.mark.parametrize("total", [1, 10])
def test_a_message_that_is_read_at_once_needs_no_slots(total):
    reader = Reader(limit=0, extra=0)
    message = reader.send("A", total)
    assert (message.more, message.recipient_slots, reader.refills) == (False, 0, [])
