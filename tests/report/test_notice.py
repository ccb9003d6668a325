import email
import email.policy
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pyfix.report.copies import Copy
from pyfix.report.notice import Notice, Reporter, Subject, header_of
from pyfix.report.template import BUILT_IN
from pyfix.spool.log import LogEntry

REPORTER = Reporter("mx.example.org", "pyfix", 50_000)
SUBJECT = Subject("4jXZHh6nLGzDLbP", "ada@example.com", 1_795_364_681_000_000, size=100)
COPY = Copy("sender non-delivery notification", "", "ada@example.com", 4, "FULL")
DATE = (1_795_366_239, -18_000, "EST")
ENTRY = LogEntry("bob@example.org", 100, "5.1.1", 'unknown user: "bob"', "failed", orcpt="rfc822;bob@example.org")
ORIGINAL = b"From: ada@example.com\nSubject: \xc3\xa9\n\nbody\n"


def notice(*entries, kind="failure", reporter=REPORTER, copy=COPY, template=None, with_body=True, **subject):
    about = replace(SUBJECT, **subject)
    if "sender" in subject:
        copy = replace(copy, recipient=subject["sender"])
    text = template or BUILT_IN[kind]
    return Notice(reporter, kind, text, copy, about, lambda: iter(entries or (ENTRY,)), DATE, with_body=with_body)


def content(made, original=ORIGINAL):
    return b"".join(made.content([original[i : i + 7] for i in range(0, len(original), 7)]))


def parts(text):
    message = email.message_from_bytes(text, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message.defects == []
    return message, message.get_payload()


def status_fields(text):
    """The message/delivery-status part: a list of groups, each a dict."""
    (body,) = re.findall(
        rb"Content-Type: message/(?:global-)?delivery-status\n(?:Content-T[^\n]*\n)?\n(.*?)\n--", text, re.DOTALL
    )
    unfolded = re.sub(rb"\n +", b" ", body).decode()
    groups = unfolded.strip("\n").split("\n\n")
    return [dict(re.fullmatch("([A-Za-z-]+): ?(.*)", line).groups() for line in g.split("\n")) for g in groups]


def test_a_notice():
    message, (text, status, original) = parts(content(notice()))
    assert message["Date"].datetime.isoformat() == "2026-11-22T11:50:39-05:00"
    assert (message["From"], message["To"]) == ("Mail Delivery System <MAILER-DAEMON>", "ada@example.com")
    assert message["Subject"] == "Undelivered Mail Returned to Sender"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    assert "This is the mail system at host $myhostname." in text.get_content()
    assert text.get_content().endswith('\n\n<bob@example.org>: unknown user: "bob"\n')
    assert status.get_content_type() == "message/delivery-status"
    assert original.get_content_type() == "message/rfc822"


def test_the_status_part():
    remote = replace(
        ENTRY,
        recipient="eve@example.net",
        offset=200,
        orcpt="",
        original="eve",
        status="5.7.1",
        reason="host mail.example.net[192.0.2.1] said: 550 5.7.1 no (in reply to RCPT TO command)",
        remote_mta="mail.example.net",
        diagnostic="550 5.7.1 no",
    )
    assert status_fields(content(notice(ENTRY, remote, envid="an id"))) == [
        {
            "Reporting-MTA": "dns; mx.example.org",
            "Original-Envelope-Id": "an id",
            "X-pyfix-Queue-ID": "4jXZHh6nLGzDLbP",
            "X-pyfix-Sender": "rfc822; ada@example.com",
            "Arrival-Date": "Sun, 22 Nov 2026 11:24:41 -0500 (EST)",
        },
        {
            "Final-Recipient": "rfc822; bob@example.org",
            "Original-Recipient": "rfc822;bob@example.org",
            "Action": "failed",
            "Status": "5.1.1",
            "Diagnostic-Code": 'X-pyfix; unknown user: "bob"',
        },
        {
            "Final-Recipient": "rfc822; eve@example.net",
            "Original-Recipient": "rfc822; eve",
            "Action": "failed",
            "Status": "5.7.1",
            "Remote-MTA": "dns; mail.example.net",
            "Diagnostic-Code": "smtp; 550 5.7.1 no",
        },
    ]


def test_an_address_that_was_expanded_is_named_with_the_one_it_was():
    entry = replace(ENTRY, original="list@example.org")
    assert b"\n<bob@example.org> (expanded from <list@example.org>): unknown user" in content(notice(entry))


@pytest.mark.parametrize(
    ("failed", "kind", "expected"),
    [
        ({}, "message/rfc822", b"\n\nReturn-Path: <ada@example.com>\n" + ORIGINAL + b"\n--"),
        ({"copy": replace(COPY, ret="HDRS")}, "text/rfc822-headers", b"Subject: \xc3\xa9\n\n--"),
        ({"with_body": False}, "text/rfc822-headers", b"Subject: \xc3\xa9\n\n--"),
        ({"size": 50_001}, "text/rfc822-headers", b"Subject: \xc3\xa9\n\n--"),
        ({"smtputf8": True}, "message/global", ORIGINAL + b"\n--"),
        ({"smtputf8": True, "with_body": False}, "message/global-headers", b"Subject: \xc3\xa9\n\n--"),
        ({"sender": "ad é@x"}, "message/global", b'\n\nReturn-Path: <"ad \xc3\xa9"@x>\n' + ORIGINAL),
    ],
)
def test_what_comes_back(failed, kind, expected):
    text = content(notice(**failed))
    assert f"\nContent-Type: {kind}\n".encode() in text
    assert expected in text


def test_internationalised_notices():
    text = content(notice(replace(ENTRY, recipient="bób@example.org", orcpt=""), smtputf8=True))
    assert b"report-type=global-delivery-status;" in text
    assert status_fields(text)[1]["Final-Recipient"] == "utf-8; bób@example.org"


@pytest.mark.parametrize(("notify", "due"), [(0, True), (4, True), (6, True), (1, False), (2, False), (8, False)])
def test_only_wanted_failures_are_told(notify, due):
    entry = replace(ENTRY, notify=notify)
    assert notice(entry).is_due() is due
    assert (b"bob@example.org" in content(notice(entry))) is due
    both = content(notice(entry, replace(ENTRY, recipient="eve@x", orcpt="", offset=7)))
    assert (b"<bob@example.org>" in both) is due
    assert b"<eve@x>" in both


def test_what_the_log_says_twice_is_told_once():
    assert content(notice(ENTRY, ENTRY)).count(b"Final-Recipient") == 1


@given(st.text(max_size=60), st.text(st.sampled_from("ab \n\r\t\x85\u2028:.-"), max_size=400))
def test_no_text_of_others_can_add_lines(address, text):
    entry = LogEntry(address, 1, "5.0.0", text, "failed", "", text, 0, text, text)
    made = notice(entry, envid=text)
    assert [len(group) for group in status_fields(content(made))] == [5 if text else 4, 6 if text else 4]
    for line in content(made, b"\n").split(b"\n"):
        assert len(line) <= 998


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        (b"A: b\nC: d\n\nbody\n\nmore\n", b"A: b\nC: d\n"),
        (b"A: b\n", b"A: b\n"),
        (b"\nbody\n", b""),
        (b"", b""),
    ],
)
def test_the_header_of_a_message(original, expected):
    for step in (1, 2, 3, 100):
        chunks = [original[i : i + step] for i in range(0, len(original), step)]
        assert b"".join(header_of(chunks)) == expected


def test_nothing_is_read_behind_the_header():
    def original():
        yield b"A: b\n"
        yield b"\nbody"
        raise AssertionError

    assert list(header_of(original())) == [b"A: b\n"]
