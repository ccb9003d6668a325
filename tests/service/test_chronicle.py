import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.mail.address import quote_address
from pyfix.service import events
from pyfix.service.chronicle import STORY_LIMIT, Attempt, Chronicle, Event, Relative, plural
from pyfix.service.story import Line

ID, OTHER = "4dVBkT0Qz8z1", "4dVBkT2XY2z7"
SECOND = 1_000_000
DELAYS = (0.5, 0.1, 0.4, 0.0)


def chronicle(*told, whole=False):
    """A chronicle of lines, a second apart; each an event, or an event with the role that logs it."""
    found = Chronicle(ID, whole=whole)
    found.tell(lines(*told))
    return found


def lines(*told):
    for number, entry in enumerate(told):
        event, role = entry if isinstance(entry, tuple) and not hasattr(entry, "message") else (entry, "qmgr")
        queue_id = event.fields.get("PYFIX_QUEUE_ID", "")
        related = event.fields.get("PYFIX_RELATED_ID", "")
        message = event.message
        yield Line((number + 1) * SECOND, "", f"pyfix/{role}", queue_id, (related,) if related else (), message)


def delivery(recipient="x@y", status="sent", reason="250 Ok", original="", relay="mx.y[192.0.2.1]:25"):
    return events.delivery(ID, "s@e", recipient, original, relay, DELAYS, "2.0.0", status, reason)


def attempt(time, recipient="x@y", status="sent", reason="250 Ok", original="", relay="mx.y[192.0.2.1]:25"):
    return Attempt(time * SECOND, recipient, original, relay, "1", "0.5/0.1/0.4/0", "2.0.0", status, reason)


def story(found):
    beginning, end = found.story()
    return [*beginning, *end]


def test_who_sent_it_what_it_is_and_when_it_came_and_went():
    found = chronicle(
        (events.client(ID, "mx.e", "192.0.2.7", ", sasl_method=PLAIN, sasl_username=ann"), "smtpd"),
        (events.message_id(ID, "<a@b>"), "cleanup"),
        events.queue_active(ID, "s@e", 4300, 2),
        events.removed(ID),
    )
    assert (found.sender, found.size, found.recipient_count, found.identifier) == ("s@e", 4300, 2, "<a@b>")
    assert found.origin == "mx.e[192.0.2.7], logged in as ann"
    assert (found.arrived, found.removed) == (SECOND, 4 * SECOND)
    assert story(found) == [
        Event(SECOND, "smtpd: received from mx.e[192.0.2.7], logged in as ann"),
        Event(3 * SECOND, "qmgr: active, 2 recipients"),
        Event(4 * SECOND, "removed"),
    ]


def test_a_submission_tells_the_user_and_a_requeued_one_its_old_name():
    found = chronicle((events.pickup(ID, 1000, "a@b"), "pickup"))
    assert (found.origin, found.sender, found.relatives) == ("user 1000 of this machine", "a@b", [])
    found = chronicle((events.requeued(ID, 0, "a@b", OTHER), "pickup"))
    assert found.relatives == [Relative(OTHER, "requeued from")]


def test_each_recipient_has_its_attempts_and_the_last_of_them():
    found = chronicle(
        delivery("a@y", "deferred", "timed (out)"), delivery("b@y"), delivery("a@y", "deferred", "again"),
        delivery("a@y", "bounced", "no", original="c@z"),
    )  # fmt: skip
    assert found.recipients == {
        "a@y": (3, attempt(4, "a@y", "bounced", "no", original="c@z")),
        "b@y": (1, attempt(2, "b@y")),
    }
    assert found.statuses() == {"bounced": 1, "sent": 1}
    assert story(found)[0] == attempt(1, "a@y", "deferred", "timed (out)")


def test_a_message_becomes_active_often_and_the_story_tells_it_once():
    again = events.queue_active(ID, "s@e", 4300, 1)
    found = chronicle(events.queue_active(ID, "s@e", 4300, 2), again, again)
    assert (found.recipient_count, len(story(found))) == (2, 1)


@pytest.mark.parametrize(
    ("event", "relation"),
    [
        (events.notice(ID, "sender delay notification", OTHER), "sender delay notification"),
        (events.notice(OTHER, "sender non-delivery notification", ID), "sender non-delivery notification of"),
        (events.requeued(OTHER, 0, "a@b", ID), "requeued as"),
        (delivery(reason=f"250 2.0.0 Ok: queued as {OTHER}"), "went on as"),
        (delivery(relay="local", reason=f"forwarded as {OTHER}"), "went on as"),
        (events.delivery(OTHER, "a@b", "c@d", "", "x", DELAYS, "2.0.0", "sent", f"queued as {ID}"), "came on from"),
    ],
)
def test_the_messages_it_came_of_and_that_came_of_it(event, relation):
    assert chronicle(event, event).relatives == [Relative(OTHER, relation)]


def test_lines_of_other_messages_are_not_its_own():
    found = chronicle(events.removed(OTHER), events.queue_active(OTHER, "a@b", 1, 1))
    assert (found.arrived, found.removed, found.sender, story(found), found.relatives) == (0, 0, None, [], [])


def test_a_warning_is_part_of_the_story():
    found = Chronicle(ID)
    found.tell([Line(SECOND, "", "pyfix/cleanup", ID, (), f"{ID}: something odd")])
    found.tell([Line(SECOND, "", "pyfix/cleanup", ID, (), f"warning: {ID}: odd")])
    assert story(found) == [Event(SECOND, "cleanup: something odd"), Event(SECOND, f"cleanup: warning: {ID}: odd")]


def test_of_a_long_story_the_ends_are_kept_unless_it_is_to_be_whole():
    long = [delivery(reason=f"attempt {number}") for number in range(3 * STORY_LIMIT)]
    beginning, end = chronicle(*long).story()
    assert [entry.reason for entry in beginning] == [f"attempt {n}" for n in range(STORY_LIMIT)]
    assert [entry.reason for entry in end] == [f"attempt {n}" for n in range(2 * STORY_LIMIT, 3 * STORY_LIMIT)]
    assert chronicle(*long).length == 3 * STORY_LIMIT
    assert len(story(chronicle(*long, whole=True))) == 3 * STORY_LIMIT


def test_recipients_beyond_the_limit_are_counted(monkeypatch):
    monkeypatch.setattr("pyfix.service.chronicle.RECIPIENTS_LIMIT", 2)
    found = chronicle(*(delivery(f"{name}@y") for name in "abcda"))
    assert (sorted(found.recipients), found.unlisted) == (["a@y", "b@y"], 2)
    assert found.recipients["a@y"][0] == 2


texts = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=30)


@given(texts, texts, texts, st.sampled_from(["sent", "deferred", "bounced", "undeliverable"]))
def test_every_delivery_that_is_logged_is_understood(recipient, original, reason, status):
    original = original if original != recipient else ""
    event = delivery(recipient, status, reason, original)
    (found,) = story(chronicle(event))
    assert found == attempt(1, quote_address(recipient), status, reason, quote_address(original))


@given(st.text(max_size=200))
def test_no_line_is_trouble(text):
    found = Chronicle(ID)
    found.tell([Line(1, "", "pyfix/x", ID, (), f"{ID}: {text}")])
    assert found.arrived == 1
    assert re.fullmatch(r"[\d,]+ recipients?", plural(found.recipient_count, "recipient"))
