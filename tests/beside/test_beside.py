"""Postfix and pyfix are given the same mail, and do the same with it, but for what docs/differences.md tells."""

import re
from pathlib import Path

import pytest
from beside import hosts, mix
from beside.compare import compare
from beside.differences import DIFFERENCES, Change, Other, Varying
from beside.normal import Normal, by_destination, ordered

ID, NOTICE = "4jXkSP4KSwzHYBh", "4jXkSQ1x2YzHYBj"
DOCUMENT = Path(__file__).parents[2] / "docs/differences.md"


@pytest.mark.system
@pytest.mark.usefixtures("root")
def test_pyfix_does_what_postfix_does():
    messages = mix.messages()
    postfix, pyfix = (Normal(seen, messages).observations() for seen in hosts.record(messages))
    unlisted, gone = compare(postfix, pyfix, DIFFERENCES)
    told = "\n".join(unlisted[:100])
    assert not unlisted, f"{len(unlisted)} of {len(postfix)} observations differ from what is listed:\n{told}"
    assert not gone, f"listed, but no longer so: {gone}"


def test_the_mix_has_enough_of_everything():
    messages = mix.messages()
    assert len(messages) >= 200
    assert {message.way for message in messages} == {"smtp", "sendmail"}


def test_each_difference_has_its_row_in_the_document():
    table = DOCUMENT.read_text().partition("## What it does not show")[0]
    rows = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)[1:]
    assert sorted(rows) == sorted(DIFFERENCES)


def seen(*log, answers=()):
    return Normal(hosts.Seen(log=[["qmgr", line] for line in log], answers={"a": list(answers)}), mix.messages())


def test_a_queue_id_is_shown_as_its_message():
    normal = seen(f"{ID}: bounce notification: {NOTICE}", answers=[f"250 2.0.0 Ok: queued as {ID}"])
    assert normal.text(f"{NOTICE}: from {ID}") == "a/bounce 1: from a"
    assert normal.text("4jXkSQ1x2YzHYBk: x") == "UNKNOWN-ID: x"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("to=<a>, delay=0.5, delays=0.1/0/0.4/0, dsn=2.0.0", "to=<a>, delay=D, delays=D, dsn=2.0.0"),
        ("Date: Sun, 22 Nov 2026 22:36:05 +0000 (UTC)", "Date: DATE"),
        ("Date: Mon, 1 Jan 2024 12:00:00 +0100", "Date: Mon, 1 Jan 2024 12:00:00 +0100"),
        ('"arrival_time": 1795386964, "x": 1', '"arrival_time": TIME, "x": 1'),
        (f"*** MESSAGE CONTENTS deferred/B/{ID} ***", "*** MESSAGE CONTENTS deferred/a ***"),
        ("log_client_port=35828", "log_client_port=PORT"),
    ],
)
def test_what_differs_anyway_is_not_compared(text, normal):
    assert seen(answers=[f"queued as {ID}"]).text(text) == normal


def test_deliveries_at_one_time_stand_in_one_order():
    one, two = "smtp: X: to=<a@b>, relay", "local: X: to=<u@h>, relay"
    first, later = "qmgr: X: from=<>", "smtp: X: to=<c@b>, relay"
    assert ordered([first, one, later, two, first]) == ordered([first, two, one, later, first])
    assert ordered([one, later]) != ordered([later, one])


def test_recipients_of_a_notice_stand_in_one_order():
    one, two, three = "<a@x>: no", "<b@w>: host said:\n    no", "<c@x>: never"
    notice = "Subject: s\n\n{}\n\n{}\n\n{}\n\nend"
    assert by_destination(notice.format(one, two, three)) == notice.format(two, one, three)
    assert by_destination(notice.format(three, one, two)) == notice.format(two, three, one)


def test_what_is_not_listed_is_told_and_what_is_gone_too():
    theirs, ours = {("log", "m"): ["a", "b"]}, {("log", "m"): ["a", "c"]}
    unlisted, _ = compare(theirs, ours, {})
    assert unlisted == ["== log: m\n   @@ -1,2 +1,2 @@\n    a\n   -b\n   +c"]
    assert compare(theirs, ours, {"what": [Change("log: .*", "b", "c")]}) == ([], [])
    assert compare(theirs, ours, {"what": [Varying("log: .*", "^[bc]$")]}) == ([], [])
    assert compare(theirs, ours, {"what": [Other("log: m")]}) == ([], [])
    assert compare(theirs, ours, {"what": [Change("queue: .*", "b", "c")]})[0] == unlisted
    assert compare(theirs, theirs, {"what": [Other("log: m")]}) == ([], [f"what: {Other('log: m')}"])
