"""The ruler itself: each law is found broken where it is broken, and only there."""

import pytest
from ledger import Ledger, body_digest, key_of, log_violations, notice_about, untold

TEXT = b"X-Ledger: k1\nSubject: x\n\nbody\n"
NOTICE = (
    b"From: MAILER-DAEMON\nContent-Type: multipart/report; report-type=delivery-status\n\n--x\n\n"
    b"Final-Recipient: rfc822; a@x.example\nOriginal-Recipient: rfc822;a@x.example\nAction: failed\nStatus: 5.0.0\n\n"
    b"Final-Recipient: rfc822; b@x.example\nAction: delayed\nStatus: 4.0.0\n\n--x\n\n" + TEXT
)


@pytest.fixture
def ledger():
    """k1 was acknowledged, for two recipients."""
    ledger = Ledger()
    ledger.send("k1", TEXT, ["a@x.example", "b@x.example"])
    ledger.acknowledge("k1", "ID1")
    return ledger


def numbers(ledger):
    return sorted({violation.split()[0] for violation in ledger.violations()})


def test_what_went_everywhere_is_well(ledger):
    ledger.receive(TEXT, ["a@x.example"])
    assert not ledger.settled("k1")
    ledger.receive(TEXT.replace(b"\n", b"\r\n"), ["b@x.example"])
    assert ledger.settled("k1")
    assert ledger.violations() == []


def test_queue_and_notice_are_as_good_as_delivery(ledger):
    ledger.find_queued(TEXT, ["b@x.example"])
    assert numbers(ledger) == ["I1"]
    ledger.receive(NOTICE)
    assert ledger.violations() == []


def test_a_notice_in_the_queue_is_a_notice(ledger):
    ledger.find_queued(NOTICE, ["sender@x.example"])
    ledger.receive(TEXT, ["b@x.example"])
    assert ledger.violations() == []


def test_one_recipient_of_two_is_lost(ledger):
    ledger.receive(TEXT, ["a@x.example"])
    assert ledger.violations() == ["I1 k1 (ID1) is lost to b@x.example"]


@pytest.mark.parametrize("see", [Ledger.receive, Ledger.find_queued])
def test_other_bytes(ledger, see):
    see(ledger, TEXT.replace(b"body", b"bodY"), ["a@x.example", "b@x.example"])
    assert numbers(ledger) == ["I2"]


def test_somebody_else_has_it(ledger):
    ledger.receive(TEXT, ["a@x.example", "b@x.example", "c@x.example"])
    assert numbers(ledger) == ["I3"]


def test_twice(ledger):
    ledger.receive(TEXT, ["a@x.example", "b@x.example"])
    ledger.receive(TEXT, ["a@x.example"])
    assert numbers(ledger) == ["I4"]
    ledger.in_flight.add("k1")
    assert numbers(ledger) == []


def test_refused_and_there():
    ledger = Ledger()
    ledger.send("k1", TEXT, ["a@x.example"])
    ledger.refuse("k1")
    assert ledger.violations() == []
    ledger.receive(TEXT, ["a@x.example"])
    assert numbers(ledger) == ["I5"]


def test_without_an_answer_it_may_be_there_or_not():
    ledger = Ledger()
    ledger.send("k1", TEXT, ["a@x.example"])
    assert ledger.violations() == []
    ledger.receive(TEXT, ["a@x.example"])
    assert ledger.violations() == []


def test_another_ledger_learns_everything_from_the_notes():
    first, second = Ledger(), Ledger()
    first.tell(second.replay)
    first.send("k1", TEXT, ["a@x.example", "b@x.example"])
    first.acknowledge("k1", "ID1")
    first.receive(TEXT, ["b@x.example"])
    first.receive(NOTICE)
    first.send("k2", TEXT, ["a@x.example"])
    first.refuse("k2")
    assert (second.acknowledged, second.refused, second.digests) == ({"k1"}, {"k2"}, first.digests)
    assert (second.arrived, second.returned) == (first.arrived, first.returned)


def test_the_recipient_of_a_mailbox_stands_in_the_message(ledger):
    ledger.receive(b"Delivered-To: a@x.example\n" + TEXT)
    ledger.receive(b"Delivered-To: b@x.example\n" + TEXT)
    assert ledger.violations() == []


def test_notices_name_what_failed_and_nothing_else():
    assert notice_about(NOTICE) == ("k1", ["a@x.example"])
    assert notice_about(TEXT) is None


def test_digest_of_a_message_is_of_its_body_alone():
    """Headers added on the way do not count, a changed byte does."""
    assert body_digest(b"Received: x\r\n" + TEXT.replace(b"\n", b"\r\n")) == body_digest(TEXT)
    assert body_digest(TEXT.replace(b"body", b"bodY")) != body_digest(TEXT)


def test_the_key_stands_in_the_header():
    assert key_of(TEXT) == "k1"
    assert key_of(b"Subject: x\n\n" + TEXT) == ""


def test_logs():
    log = "x pyfix/qmgr[1]: ID1: removed\nx pyfix/smtpd[1]: panic: Traceback (most recent call last):\n"
    assert [line[:2] for line in log_violations(log)] == ["I6"]
    assert untold(log, ["ID1", "ID2", "ID3"], ["ID3"]) == ["I7 ID2 has no end in the log"]
