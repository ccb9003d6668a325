"""The merge of announcements and queue scans."""

from pyfix.schedule.feed import Candidate, Feed


class Queues:
    """Scans over lists; each scan takes the list as it is when the scan starts."""

    def __init__(self, incoming=(), deferred=()):
        self.lists = {"incoming": list(incoming), "deferred": list(deferred)}
        self.started = []

    def scan(self, queue_name, everything):
        self.started.append((queue_name, everything))
        return iter(list(self.lists[queue_name]))


def drain(feed):
    candidates = []
    while not feed.idle:
        candidate = feed.next()
        if candidate is not None:
            candidates.append(candidate)
    return candidates


def test_nothing_requested_is_idle():
    queues = Queues(["A"], ["B"])
    feed = Feed(queues.scan, 10)
    assert feed.idle
    assert feed.next() is None
    assert queues.started == []


def test_announcements_come_in_order_and_once():
    feed = Feed(Queues().scan, 10)
    for queue_id in "BAB":
        feed.announce(queue_id)
    assert drain(feed) == [Candidate("incoming", "B"), Candidate("incoming", "A")]


def test_incoming_and_deferred_take_turns():
    feed = Feed(Queues(["I1", "I2", "I3"], ["D1", "D2"]).scan, 10)
    feed.request("incoming")
    feed.request("deferred")
    assert [c.queue_id for c in drain(feed)] == ["I1", "D1", "I2", "D2", "I3"]


def test_announced_mail_takes_turns_with_deferred_mail():
    feed = Feed(Queues(deferred=["D1", "D2", "D3"]).scan, 10)
    feed.request("deferred")
    feed.announce("I1")
    feed.announce("I2")
    assert [c.queue_id for c in drain(feed)] == ["I1", "D1", "I2", "D2", "D3"]


def test_new_mail_goes_first_after_the_active_set_was_full():
    feed = Feed(Queues(deferred=["D1", "D2"]).scan, 10)
    feed.request("deferred")
    feed.announce("I1")
    assert feed.next() == Candidate("incoming", "I1")
    feed.full()
    feed.announce("I2")
    assert feed.next() == Candidate("incoming", "I2")


def test_more_announcements_than_kept_become_a_scan():
    queues = Queues(["A", "B", "C"])
    feed = Feed(queues.scan, 2)
    for queue_id in "ABC":
        feed.announce(queue_id)
    assert {c.queue_id for c in drain(feed)} == {"A", "B", "C"}
    assert queues.started == [("incoming", False)]


def test_a_request_during_a_scan_starts_another_after_it():
    queues = Queues(deferred=["D1", "D2"])
    feed = Feed(queues.scan, 10)
    feed.request("deferred")
    assert feed.next() == Candidate("deferred", "D1")
    queues.lists["deferred"].append("D3")
    feed.request("deferred", everything=True)
    assert [c.queue_id for c in drain(feed)] == ["D2", "D1", "D2", "D3"]
    assert queues.started == [("deferred", False), ("deferred", True)]


def test_everything_holds_for_one_scan():
    queues = Queues()
    feed = Feed(queues.scan, 10)
    feed.request("deferred", everything=True)
    feed.request("deferred")
    drain(feed)
    feed.request("deferred")
    drain(feed)
    assert queues.started == [("deferred", True), ("deferred", False)]


def test_a_scan_that_finds_nothing_yet_lets_others_go_on():
    feed = Feed(Queues(["", "", "I1"], ["D1"]).scan, 10)
    feed.request("incoming")
    feed.request("deferred")
    assert feed.next() == Candidate("deferred", "D1")
    assert not feed.idle
    assert [c.queue_id for c in drain(feed)] == ["I1"]


def test_appointments_fall_due_in_time():
    feed = Feed(Queues().scan, 10)
    feed.appoint("D2", 200.0)
    feed.appoint("D1", 100.0)
    assert feed.idle
    assert feed.wake_at == 100.0
    feed.tick(99.0)
    assert feed.idle
    feed.tick(100.0)
    assert drain(feed) == [Candidate("deferred", "D1")]
    assert feed.wake_at == 200.0
    feed.tick(1000.0)
    assert drain(feed) == [Candidate("deferred", "D2")]
    assert feed.wake_at is None


def test_a_later_appointment_takes_the_place_of_an_earlier_one():
    feed = Feed(Queues().scan, 10)
    feed.appoint("D1", 100.0)
    feed.appoint("D1", 300.0)
    feed.tick(100.0)
    assert feed.idle
    feed.tick(300.0)
    assert drain(feed) == [Candidate("deferred", "D1")]


def test_a_message_that_a_scan_found_loses_its_appointment():
    feed = Feed(Queues(deferred=["D1"]).scan, 10)
    feed.appoint("D1", 100.0)
    feed.request("deferred", everything=True)
    assert drain(feed) == [Candidate("deferred", "D1", wanted=True)]
    feed.tick(100.0)
    assert feed.idle
    feed.request("deferred")
    assert drain(feed) == [Candidate("deferred", "D1")]


def test_what_somebody_asked_for_is_told_from_what_is_due():
    feed = Feed(Queues().scan, 10)
    feed.appoint("D1", 100.0)
    feed.appoint("D2", 100.0)
    feed.expedite("D1")
    feed.expedite("D3", wanted=False)
    feed.tick(100.0)
    wanted = {candidate.queue_id: candidate.wanted for candidate in drain(feed)}
    assert wanted == {"D1": True, "D2": False, "D3": False}


def test_more_wishes_than_are_kept_are_a_scan_of_everything():
    queues = Queues(deferred=["D1", "D2", "D3"])
    feed = Feed(queues.scan, 2)
    for queue_id in ("D1", "D2", "D3"):
        feed.expedite(queue_id)
    assert {candidate.queue_id for candidate in drain(feed)} == {"D1", "D2", "D3"}


def test_appointments_are_bounded():
    feed = Feed(Queues().scan, 2)
    for n in range(9):
        feed.appoint(f"D{n}", float(n))
    feed.tick(100.0)
    assert [c.queue_id for c in drain(feed)] == ["D0", "D1"]


def test_an_expedited_message_comes_before_the_scan():
    feed = Feed(Queues(deferred=["D1"]).scan, 10)
    feed.request("deferred")
    feed.expedite("D9")
    assert [c.queue_id for c in drain(feed)] == ["D9", "D1"]


def test_many_announcements_that_nobody_has_looked_at_are_a_crowd():
    feed = Feed(Queues().scan, 100)
    for number in range(5):
        feed.announce(f"I{number}")
    assert not feed.crowded
    feed.announce("I5")
    assert feed.crowded
    feed.next()
    assert not feed.crowded
