from functools import partial

import pytest

from pyfix.service import events
from pyfix.service.story import FileLog, JournalLog, elapsed, parse_line, tell
from pyfix.system.journal_reader import Entry

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
Nov 22 15:57:06 mx pyfix/smtpd[10]: NOQUEUE: reject: RCPT from x[192.0.2.1]: 554 5.7.1 no; from=<o@e> to=<x@y>
Nov 22 15:57:06 mx pyfix/local[15]: 4dVBkT2XY2z7: to=<s@e>, relay=local, status=sent (delivered to maildir)
Nov 22 15:57:06 mx pyfix/qmgr[12]: 4dVBkT2XY2z7: removed
Nov 22 15:57:07 mx pyfix/qmgr[12]: warning: 4dVBkT0Qz8z1: something odd
"""
# 22 November 2026, 16:00 UTC
NOW = 1795363200.0
SECOND = 1_000_000


def file_log(text=LOG):
    return FileLog(lambda: iter(text.removesuffix("\n").split("\n")), NOW)


def journal_log(text=LOG):
    """A journal in which these lines have the fields that service/events.py gives them."""
    return JournalLog(partial(read, [entry(line) for line in text.removesuffix("\n").split("\n")]))


def entry(text):
    line = parse_line(text, NOW)
    fields = {"PYFIX_QUEUE_ID": line.queue_id or ("NOQUEUE" if "NOQUEUE" in text else "")}
    if line.related:
        fields["PYFIX_RELATED_ID"] = line.related[0]
    for mark, name in ((" from=<", "PYFIX_SENDER"), (" to=<", "PYFIX_RECIPIENT")):
        if mark in text:
            fields[name] = text.partition(mark)[2].partition(">")[0]
    return Entry(line.time, line.program, line.message, {name: value for name, value in fields.items() if value})


def read(entries, fields, values, *, newest_first=False):
    found = [e for e in entries if any(e.fields.get(field) in values for field in fields)]
    return iter(found[::-1] if newest_first else found)


@pytest.fixture(params=[file_log, journal_log], ids=["file", "journal"])
def log(request):
    return request.param


def shown(story):
    return [f"{line.program.rpartition('/')[2]} {line.queue_id[-2:]} {line.message.split()[-1]}" for line in story]


def test_the_story_of_a_message_goes_on_with_its_notice(log):
    assert shown(tell("4dVBkT0Qz8z1", log())) == [
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


def test_from_the_notice_it_leads_back_to_its_cause(log):
    assert list(tell("4dVBkT2XY2z7", log())) == list(tell("4dVBkT0Qz8z1", log()))


def test_a_message_that_is_only_mentioned_is_no_relative(log):
    assert shown(tell("4dVBkT0Qz8z2", log())) == ["smtpd z2 client=localhost[127.0.0.1]"]


def test_a_message_that_was_requeued_is_followed(log):
    text = (
        "Nov  2 05:57:04 mx pyfix/postsuper[1]: 4dVBkT0Qz8z1: requeued\n"
        "Nov  2 05:57:05 mx pyfix/pickup[2]: 4dVBkT2XY2z7: uid=0 from=<a@b> orig_id=4dVBkT0Qz8z1\n"
    )
    assert [line.queue_id for line in tell("4dVBkT0Qz8z1", log(text))] == ["4dVBkT0Qz8z1", "4dVBkT2XY2z7"]


def test_an_unknown_message_has_no_story(log):
    assert list(tell("4dVBkT0Qz8z9", log())) == []


def test_names_that_other_hosts_gave_do_not_hide_the_notice(log):
    head = "Nov  2 05:57:05 mx pyfix/x[2]: "
    text = "".join(f"{head}4dVBkT0Qz8z1: status=sent (queued as 4dVBkT0Qz8zB{n:05d})\n" for n in range(500))
    text += f"{head}4dVBkT0Qz8z1: sender non-delivery notification: 4dVBkT2XY2z7\n{head}4dVBkT2XY2z7: removed\n"
    told = list(tell("4dVBkT0Qz8z1", log(text)))
    assert len(told) == 502
    assert told[-1].message == "4dVBkT2XY2z7: removed"


def test_the_newest_messages_of_an_address(log):
    assert [line.queue_id for line in log().recent("s@e", 10)] == ["4dVBkT0Qz8z1", "4dVBkT2XY2z7"]
    assert [line.queue_id for line in log().recent("s@e", 1)] == ["4dVBkT2XY2z7"]
    assert log().recent("s@", 10) == []


def test_an_address_is_found_in_the_form_that_lines_have():
    text = 'Nov 22 15:57:04 mx pyfix/qmgr[12]: 4dVBkT0Qz8z1: from=<"odd user"@e>, size=300, nrcpt=1 (queue active)\n'
    for address in ("odd user@e", '"odd user"@e'):
        assert [line.queue_id for line in file_log(text).recent(address, 10)] == ["4dVBkT0Qz8z1"]


def test_refusals_are_among_what_an_address_has(log):
    message, refusal = log().recent("x@y", 10)
    assert (message.queue_id, refusal.queue_id) == ("4dVBkT0Qz8z1", "")
    assert refusal.message.startswith("NOQUEUE: reject: ")


@pytest.mark.parametrize(
    "stamp",
    ["Nov  2 05:57:04", "2026-11-22T15:57:04+00:00", "2026-11-22T15:57:04.123456+01:00", "2026-11-22T15:57:04Z"],
)
def test_time_stamps(stamp):
    line = parse_line(f"{stamp} mx pyfix/smtpd[10]: 4dVBkT0Qz8z1: client=x[::1]", NOW)
    assert (line.stamp, line.program, line.queue_id) == (stamp, "pyfix/smtpd", "4dVBkT0Qz8z1")


def test_the_time_of_an_iso_stamp_is_exact():
    line = parse_line("2026-11-22T16:57:04.123456+01:00 mx pyfix/smtpd[10]: x", NOW)
    assert line.time == int(NOW - 176) * SECOND + 123456


def test_the_year_of_a_traditional_stamp_is_the_last_that_fits():
    def when(stamp, now=NOW):
        return parse_line(f"{stamp} mx pyfix/smtpd[10]: x", now).time // SECOND

    assert when("Nov 22 15:57:05") - when("Nov 22 15:57:04") == 1
    assert when("Dec 31 23:59:59") < when("Jan  1 00:00:00") < NOW
    assert when("Nov 23 10:00:00") > NOW  # clocks may differ


@pytest.mark.parametrize(
    "text",
    ["", "no log line", "Nov 22 15:57:04 mx kernel: something", "Xyz 22 15:57:04 mx a[1]: x",
     "Nov 22 :::::::: mx a[1]: x", "2026-99-99T15:57:04 mx a[1]: x", "x" * 100_000],
)  # fmt: skip
def test_what_is_no_log_line(text):
    assert parse_line(text, NOW) is None


@pytest.mark.parametrize("message", ["NOQUEUE: reject: RCPT from x", "statistics: max", "warning: hostname: x"])
def test_lines_about_no_message(message):
    assert parse_line(f"Nov 22 15:57:04 mx pyfix/smtpd[10]: {message}", NOW).queue_id == ""


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(-5, "0s"), (0, "0s"), (12_345, "0.012s"), (59_999_000, "59.999s"), (5 * SECOND, "5s"), (1000 * SECOND, "16m40s"),
     (11_100 * SECOND, "3h05m"), (360_000 * SECOND, "4d04h")],
)  # fmt: skip
def test_elapsed_time(microseconds, text):
    assert elapsed(SECOND, SECOND + microseconds) == text


def test_events_lead_to_what_the_log_file_leads_to():
    """Journal and log file tell the same story: the related message's field, and what is read out of the line."""
    delays = (0.0, 0.0, 0.0, 0.0)
    other = "4dVBkT2XY2z7"
    for event in (
        events.notice("4dVBkT0Qz8z1", "sender non-delivery notification", other),
        events.requeued("4dVBkT0Qz8z1", 0, "a@b", other),
        events.delivery("4dVBkT0Qz8z1", "a@b", "c@d", "", "x", delays, "2.0.0", "sent", f"250 Ok: queued as {other}"),
        events.delivery("4dVBkT0Qz8z1", "a@b", "c@d", "", "local", delays, "2.0.0", "sent", f"forwarded as {other}"),
    ):
        assert event.fields["PYFIX_RELATED_ID"] == other
        assert parse_line(f"Nov 22 15:57:04 mx a[1]: {event.message}", NOW).related == (other,)
