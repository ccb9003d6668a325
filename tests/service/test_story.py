import pytest

from pyfix.service.story import parse_line, tell

LOG = """\
Nov 22 15:57:04 mx pyfix/smtpd[10]: connect from localhost[127.0.0.1]
Nov 22 15:57:04 mx pyfix/smtpd[10]: 4dVBkT0Qz8z1: client=localhost[127.0.0.1]
Nov 22 15:57:04 mx pyfix/cleanup[11]: 4dVBkT0Qz8z1: message-id=<a@b>
Nov 22 15:57:04 mx pyfix/smtpd[10]: 4dVBkT0Qz8z2: client=localhost[127.0.0.1]
Nov 22 15:57:05 mx pyfix/qmgr[12]: 4dVBkT0Qz8z1: from=<s@e>, size=300, nrcpt=1 (queue active)
Nov 22 15:57:05 mx pyfix/smtp[13]: 4dVBkT0Qz8z1: to=<x@y>, relay=none, delay=1, status=bounced (no 4dVBkT0Qz8z2)
Nov 22 15:57:05 mx pyfix/bounce[14]: 4dVBkT0Qz8z1: sender non-delivery notification: 4dVBkT2XY2z7
Nov 22 15:57:05 mx pyfix/cleanup[11]: 4dVBkT2XY2z7: message-id=<c@d>
Nov 22 15:57:05 mx pyfix/qmgr[12]: 4dVBkT0Qz8z1: removed
Nov 22 15:57:06 mx pyfix/local[15]: 4dVBkT2XY2z7: to=<s@e>, relay=local, status=sent (delivered to maildir)
Nov 22 15:57:06 mx pyfix/qmgr[12]: 4dVBkT2XY2z7: removed
Nov 22 15:57:07 mx pyfix/qmgr[12]: warning: 4dVBkT0Qz8z1: something odd
"""


def lines(log=LOG):
    return lambda: iter(log.removesuffix("\n").split("\n"))


def shown(story):
    return [f"{line.program.rpartition('/')[2]} {line.queue_id[-2:]} {line.message.split()[-1]}" for line in story]


def test_the_story_of_a_message_goes_on_with_its_notice():
    assert shown(tell("4dVBkT0Qz8z1", lines())) == [
        "smtpd z1 client=localhost[127.0.0.1]",
        "cleanup z1 message-id=<a@b>",
        "qmgr z1 active)",
        "smtp z1 4dVBkT0Qz8z2)",
        "bounce z1 4dVBkT2XY2z7",
        "cleanup z7 message-id=<c@d>",
        "qmgr z1 removed",
        "local z7 maildir)",
        "qmgr z7 removed",
        "qmgr z1 odd",
    ]


def test_from_the_notice_it_leads_back_to_its_cause():
    assert tell("4dVBkT2XY2z7", lines()) == tell("4dVBkT0Qz8z1", lines())


def test_a_message_that_is_only_mentioned_is_no_relative():
    assert shown(tell("4dVBkT0Qz8z2", lines())) == ["smtpd z2 client=localhost[127.0.0.1]"]


def test_a_message_that_was_requeued_is_followed():
    log = (
        "Nov  2 05:57:04 mx pyfix/postsuper[1]: 4dVBkT0Qz8z1: requeued\n"
        "Nov  2 05:57:05 mx pyfix/pickup[2]: 4dVBkT2XY2z7: uid=0 from=<a@b> orig_id=4dVBkT0Qz8z1\n"
    )
    assert [line.queue_id for line in tell("4dVBkT0Qz8z1", lines(log))] == ["4dVBkT0Qz8z1", "4dVBkT2XY2z7"]


def test_an_unknown_message_has_no_story():
    assert tell("4dVBkT0Qz8z9", lines()) == []


@pytest.mark.parametrize(
    "stamp",
    ["Nov  2 05:57:04", "2026-11-22T15:57:04+00:00", "2026-11-22T15:57:04.123456+01:00", "2026-11-22T15:57:04Z"],
)
def test_time_stamps(stamp):
    line = parse_line(f"{stamp} mx pyfix/smtpd[10]: 4dVBkT0Qz8z1: client=x[::1]")
    assert (line.time, line.program, line.pid, line.queue_id) == (stamp, "pyfix/smtpd", 10, "4dVBkT0Qz8z1")


@pytest.mark.parametrize("text", ["", "no log line", "Nov 22 15:57:04 mx kernel: something", "x" * 100_000])
def test_what_is_no_log_line(text):
    assert parse_line(text) is None


@pytest.mark.parametrize("message", ["NOQUEUE: reject: RCPT from x", "statistics: max", "warning: hostname: x"])
def test_lines_about_no_message(message):
    assert parse_line(f"Nov 22 15:57:04 mx pyfix/smtpd[10]: {message}").queue_id == ""
