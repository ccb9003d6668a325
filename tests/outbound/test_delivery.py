"""Recipients on their way through hosts."""

import pytest

from pyfix.outbound.delivery import Delivery, Visits, take_replies
from pyfix.outbound.hosts import Host
from pyfix.outbound.trouble import Trouble, lost_connection
from pyfix.service.delivery import Deliver, Recipient
from pyfix.wire.response import Response
from pyfix.wire.smtp_client import Replied, Stage

HOST = Host("h.example", "192.0.2.1", 25)
RELAY = "h.example[192.0.2.1]:25"
NAMES = ("a", "b", "c")


def delivery(*, soft_bounce=False, final=True, **fields):
    recipients = tuple(Recipient(offset, f"{name}@example.net") for offset, name in enumerate(NAMES))
    request = Deliver("Q", 0, 0, 9, "smtp", "d", "s@example.com", recipients, 0, 0, **fields)
    made = Delivery(request, soft_bounce=soft_bounce)
    made.final = final
    return made


def replies(made, *texts, dsn=False):
    """Replies to MAIL, RCPT for each recipient, DATA, end of data."""
    recipients = list(made.pending.values())
    stages = [(Stage.MAIL, -1), *((Stage.RCPT, i) for i in range(len(recipients))), (Stage.DATA, -1)]
    stages.append((Stage.END_OF_DATA, -1))
    found = [Replied(s, Response(int(t[:3]), t), i) for (s, i), t in zip(stages, texts, strict=False)]
    take_replies(made, recipients, found, HOST, dsn=dsn)


def story(made):
    return sorted((o.offset, o.status, o.dsn, o.relay) for o in made.outcomes)


def test_all_are_sent():
    made = delivery()
    replies(made, "250 a", "250 b", "250 c", "250 d", "354 e", "250 2.0.0 queued")
    assert story(made) == [(i, "sent", "2.0.0", RELAY) for i in range(3)]
    assert {o.reason for o in made.outcomes} == {"250 2.0.0 queued"}
    assert made.done
    assert made.result(made.outcomes).unreachable == ""


@pytest.mark.parametrize("dsn", [False, True])
def test_a_host_that_knows_notify_tells_the_sender_itself(dsn):
    made = delivery()
    replies(made, "250 a", "250 b", "250 c", "250 d", "354 e", "250 2.0.0 queued", dsn=dsn)
    assert {(o.action, o.passed_on) for o in made.outcomes} == {("relayed", dsn)}


def test_a_probe_is_answered_by_the_replies_to_rcpt():
    made = delivery(verify=True)
    replies(made, "250 a", "250 2.1.5 b", "550 5.1.1 no", "451 later")
    assert story(made) == [(0, "sent", "2.1.5", RELAY), (1, "bounced", "5.1.1", RELAY), (2, "deferred", "4.0.0", RELAY)]
    assert made.done


def test_each_recipient_has_its_own_fate_at_the_last_host():
    made = delivery()
    replies(made, "250 a", "550 5.1.1 no", "451 later", "250 d", "354 e", "250 ok")
    assert story(made) == [(0, "bounced", "5.1.1", RELAY), (1, "deferred", "4.0.0", RELAY), (2, "sent", "2.0.0", RELAY)]
    assert made.outcomes[0].diagnostic == "550 5.1.1 no"
    assert made.outcomes[0].remote_mta == "h.example"


def test_who_is_refused_for_now_is_kept_for_the_next_host():
    made = delivery(final=False)
    replies(made, "250 a", "550 5.1.1 no", "451 later", "250 d", "354 e", "250 ok")
    assert story(made) == [(0, "bounced", "5.1.1", RELAY), (2, "sent", "2.0.0", RELAY)]
    assert not made.done
    made.next_host()
    assert list(made.pending) == [1]
    made.final = True
    replies(made, "250 a", "250 b", "354 e", "250 ok")
    assert made.done
    assert len(made.outcomes) == 3


@pytest.mark.parametrize(
    ("texts", "dsn"),
    [
        (["550 5.7.1 no", "503 x", "503 x", "503 x", "503 x"], "5.7.1"),
        (["250 a", "250 b", "250 c", "250 d", "554 5.6.0 no"], "5.6.0"),
        (["250 a", "250 b", "250 c", "250 d", "354 e", "554 5.6.1 no"], "5.6.1"),
        (["451 4.7.1 no", "503 x", "503 x", "503 x", "503 x"], "4.7.1"),
        (["250 a", "250 b", "250 c", "250 d", "250 2.0.0 what"], "5.5.0"),
        (["250 a", "250 b", "250 c", "250 d", "354 e", "354 what"], "5.5.0"),
    ],
)
def test_a_refused_message_concerns_all_recipients(texts, dsn):
    made = delivery()
    replies(made, *texts)
    assert [entry[2] for entry in story(made)] == [dsn] * 3
    assert made.result(made.outcomes).unreachable == ""


def test_replies_after_all_recipients_were_refused_mean_nothing():
    made = delivery()
    replies(made, "250 a", "550 a", "550 b", "550 c", "554 no valid recipients")
    assert [o.reason[-29:] for o in made.outcomes] == ["(in reply to RCPT TO command)"] * 3


def test_a_host_that_is_down_is_unreachable_for_others_too():
    made = delivery()
    trouble = lost_connection(Stage.MAIL, HOST.label)
    assert not made.failed(trouble, RELAY, host_is_down=True)
    assert story(made) == [(i, "deferred", "4.4.2", RELAY) for i in range(3)]
    assert made.result(made.outcomes).unreachable == trouble.reason
    assert made.result(made.outcomes).unreachable_dsn == "4.4.2"


def test_a_host_that_is_down_is_not_the_end_if_there_is_another():
    made = delivery(final=False)
    assert made.failed(lost_connection(Stage.MAIL, HOST.label), RELAY, host_is_down=True)
    made.next_host()
    made.final = True
    replies(made, "250 a", "250 b", "250 c", "250 d", "354 e", "250 ok")
    assert {entry[1] for entry in story(made)} == {"sent"}
    assert made.result(made.outcomes).unreachable == ""


def test_a_hard_trouble_is_final_at_any_host():
    made = delivery(final=False)
    assert not made.failed(Trouble("5.3.4", "too big"), RELAY, host_is_down=False)
    assert {entry[1] for entry in story(made)} == {"bounced"}


def test_who_is_left_shares_the_last_trouble():
    made = delivery(final=False)
    replies(made, "250 a", "550 5.1.1 no", "451 later", "451 later", "554 none")
    made.note(Trouble("4.4.1", "connect to x"))
    made.finish()
    assert story(made)[1:] == [(1, "deferred", "4.4.1", "none"), (2, "deferred", "4.4.1", "none")]
    assert made.result(made.outcomes).unreachable == "connect to x"


def test_without_any_trouble_there_is_an_excuse():
    made = delivery()
    made.finish()
    assert {o.reason for o in made.outcomes} == {"server unavailable or unable to receive mail"}


def test_with_soft_bounce_nobody_is_refused_for_good_before_the_last_host():
    made = delivery(soft_bounce=True, final=False)
    replies(made, "250 a", "550 5.1.1 no", "451 later", "250 d", "354 e", "250 ok")
    assert story(made) == [(2, "sent", "2.0.0", RELAY)]
    made.next_host()
    made.final = True
    replies(made, "250 a", "550 5.1.1 no", "550 5.1.1 no")
    assert story(made)[0] == (0, "bounced", "5.1.1", RELAY)


def test_outcomes_are_told_once():
    made = delivery()
    replies(made, "250 a", "550 5.1.1 no", "250 b", "250 d", "354 e", "250 ok")
    assert [recipient.address for recipient, _ in made.new_outcomes()] == [
        "a@example.net", "b@example.net", "c@example.net",
    ]  # fmt: skip
    assert made.new_outcomes() == []


def visit(visits, sessions):
    """Which hosts are tried, and which are the last, if those named talk to us."""
    tried = []
    while visits.begin():
        number = len(tried)
        if number in sessions:
            visits.count_session()
        tried.append(visits.last)
    return tried


@pytest.mark.parametrize(
    ("visits", "sessions", "tried"),
    [
        (Visits(2, 5, 2), set(), [False, True]),
        (Visits(9, 3, 2), set(), [False, False, True]),
        (Visits(9, 5, 2), {0, 1, 2}, [False, True]),
        (Visits(3, 0, 0), {0, 1, 2}, [False, False, True]),
        (Visits(3, 5, 2, 1), {0, 1}, [True]),
        (Visits(0, 5, 2), set(), []),
    ],
)
def test_visits(visits, sessions, tried):
    assert visit(visits, sessions) == tried
