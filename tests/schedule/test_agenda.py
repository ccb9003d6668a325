"""The feed and the scheduler as one."""

from pyfix.schedule.agenda import Agenda
from pyfix.schedule.feed import Candidate, Feed
from pyfix.schedule.limits import SchedulerLimits, TransportLimits
from pyfix.schedule.message import Message
from pyfix.schedule.scheduler import Scheduler


def make(incoming=(), deferred=(), active_limit=2):
    queues = {"incoming": incoming, "deferred": deferred}
    started = []

    def scan(queue_name, everything):
        started.append((queue_name, everything))
        return iter(queues[queue_name])

    scheduler = Scheduler(SchedulerLimits(active_limit=active_limit), lambda _name: TransportLimits())
    agenda = Agenda(Feed(scan, 100), scheduler)
    agenda.started = started
    return agenda


def admit(agenda):
    taken = []
    for candidate in agenda.candidates():
        agenda.scheduler.admit(Message(candidate.queue_id, "s", 0))
        taken.append(candidate)
    return taken


def test_candidates_come_while_there_is_room():
    agenda = make(incoming=["A", "B", "C"])
    agenda.run_queue()
    assert admit(agenda) == [Candidate("incoming", "A"), Candidate("incoming", "B")]
    assert agenda.working
    assert not agenda.hungry
    agenda.scheduler.ended(agenda.scheduler.find("A"))
    assert agenda.hungry
    assert admit(agenda) == [Candidate("incoming", "C")]


def test_active_messages_are_no_candidates():
    agenda = make(incoming=["A", "A", "B"])
    agenda.run_queue()
    assert [c.queue_id for c in admit(agenda)] == ["A", "B"]


def test_a_full_active_set_gives_new_mail_the_next_turn():
    agenda = make(deferred=["D1", "D2"], active_limit=1)
    agenda.run_queue()
    agenda.feed.announce("I1")
    assert admit(agenda) == [Candidate("incoming", "I1")]
    agenda.feed.announce("I2")
    agenda.scheduler.ended(agenda.scheduler.find("I1"))
    assert admit(agenda) == [Candidate("incoming", "I2")]


def test_flush_takes_what_is_not_due():
    agenda = make()
    agenda.flush()
    assert admit(agenda) == []
    assert agenda.started == [("incoming", True), ("deferred", True)]


def test_flush_of_one_message():
    agenda = make()
    agenda.flush(["D1"])
    agenda.flush(["D2"], wanted=False)
    assert admit(agenda) == [Candidate("deferred", "D1", wanted=True), Candidate("deferred", "D2")]
    assert agenda.started == []


def test_the_alarm_heeds_both_clocks():
    agenda = make()
    assert agenda.wake_in(10.0, 1000.0) is None
    agenda.feed.appoint("D1", 1060.0)
    assert agenda.wake_in(10.0, 1000.0) == 60.0
    assert agenda.wake_in(10.0, 2000.0) == 0.0
    assert not agenda.working
    agenda.tick(10.0, 1060.0)
    assert agenda.working
    assert agenda.wake_times == (None, None)
