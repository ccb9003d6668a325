import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfix.intake.message import EXTRACTED_LIMIT, Envelope, Intake, Refusal, Settings

SETTINGS = Settings(
    myhostname="vm",
    header_size_limit=102400,
    header_address_token_limit=10240,
    hopcount_limit=50,
    message_size_limit=0,
    message_drop_headers=frozenset((b"bcc", b"content-length", b"resent-bcc", b"return-path")),
)
DATE = "Sun, 22 Nov 2026 16:24:41 +0000 (UTC)"
ENVELOPE = Envelope(queue_id="3053A190708", sender="s@x.example", arrival=1795364681, date=DATE, trace="Received: t")
MESSAGE_ID = b"Message-Id: <20261122162441.3053A190708@vm>\n"
ADDED = MESSAGE_ID + f"Date: {DATE}\n".encode()
BODY = b"\nbody\n"


def complete(address):
    """Standard form, as far as these tests need it."""
    return address if "@" in address else f"{address}@test.example"


def intake(settings=SETTINGS, *, local=True, **envelope):
    return Intake(settings, ENVELOPE._replace(**envelope), complete if local else None)


def canonical(content, machine, step=100_000):
    out = [machine.feed(content[i : i + step]) for i in range(0, len(content), step)]
    return b"".join(out) + machine.close()


# What a Postfix 3.10 made of messages from a client of its own, behind the Received field.
LOCAL = {
    "usual": (b"Subject: hi\n" + BODY, b"Subject: hi\n" + ADDED + b"From: s@x.example\n" + BODY),
    "addresses": (
        b"From: joe (c) <joe>\nTo: jane\nCc: a b\nReply-To: z\nErrors-To: e\nReturn-Receipt-To: y\nSender: q\n"
        b"Apparently-To: ap\nMail-Followup-To: mf\nDisposition-Notification-To: dn\nX-Other: foo\nMail-Reply-To: mr\n"
        b"Delivered-To: dd\nBcc: secret\nReturn-Path: <rp>\nContent-Length: 7\n" + BODY,
        b"From: joe (c) <joe@test.example>\nTo: jane@test.example\nCc: a@test.example, b@test.example\n"
        b"Reply-To: z@test.example\nErrors-To: e@test.example\nReturn-Receipt-To: y@test.example\n"
        b"Sender: q@test.example\nApparently-To: ap@test.example\nMail-Followup-To: mf@test.example\n"
        b"Disposition-Notification-To: dn@test.example\nX-Other: foo\nMail-Reply-To: mr\nDelivered-To: dd\n"
        + ADDED
        + BODY,
    ),
    "no header": (b"no header\n" + BODY, ADDED + b"From: s@x.example\n\nno header\n" + BODY),
    "nothing": (b"", ADDED + b"From: s@x.example\n"),
    "only a separator": (b"\n", ADDED + b"From: s@x.example\n\n"),
    "mailbox line": (
        b"From joe Mon\n>From x\nSubject: s\n" + BODY,
        b"X-Mailbox-Line: From joe Mon\n" + ADDED + b"From: s@x.example\n\n>From x\nSubject: s\n" + BODY,
    ),
    "space before the colon": (
        b"Subject : s\nFrom\t: joe\nMESSAGE-ID:\n <x@y>  \n" + BODY,
        b"Subject: s\nFrom: joe@test.example\nMESSAGE-ID:\n <x@y>  \n" + ADDED[len(MESSAGE_ID) :] + BODY,
    ),
    "sent again": (
        b"Resent-To: foo\nFrom: a@b\nSubject: s\n" + BODY,
        b"Resent-To: foo@test.example\nFrom: a@b\nSubject: s\nResent-"
        + MESSAGE_ID
        + f"Resent-Date: {DATE}\nResent-From: s@x.example\n".encode()
        + BODY,
    ),
    "sent again, complete": (
        b"Resent-Message-Id: <r@m>\nMessage-Id: <m@m>\nFrom: a@b\nDate: \nSubject: s\n" + BODY,
        b"Resent-Message-Id: <r@m>\nMessage-Id: <m@m>\nFrom: a@b\nDate: \nSubject: s\n"
        + f"Resent-Date: {DATE}\nResent-From: s@x.example\n".encode()
        + BODY,
    ),
    "unknown Resent- field": (
        b"Resent-Foo: x\n" + BODY,
        b"Resent-Foo: x\n" + ADDED + b"From: s@x.example\n" + BODY,
    ),
    "empty fields": (b"Message-Id:\nFrom:\nDate:\nTo:\n" + BODY, b"Message-Id:\nFrom:\nDate:\nTo:\n" + BODY),
    "nothing missing": (
        b"Message-Id: <a@b>\nDate: x\nFrom: a@b\n" + BODY,
        b"Message-Id: <a@b>\nDate: x\nFrom: a@b\n" + BODY,
    ),
    "bytes that are no UTF-8": (
        b"Message-Id: <a@b>\nDate: x\nFrom: \xff <joe>\nX: \xfe\n" + BODY,
        b"Message-Id: <a@b>\nDate: x\nFrom: \xff <joe@test.example>\nX: \xfe\n" + BODY,
    ),
}
REMOTE = {
    "usual": (b"Subject: hi\n" + BODY, b"Subject: hi\n" + BODY),
    "addresses": (
        b"From: joe\nTo: a b\nBcc: secret\nReturn-Path: <rp>\nContent-Length: 7\n" + BODY,
        b"From: joe\nTo: a b\n" + BODY,
    ),
    "no header": (b"no header\n" + BODY, b"\nno header\n" + BODY),
    "nothing": (b"", b""),
    "mailbox line": (b"From j\nSubject: s\n" + BODY, b"X-Mailbox-Line: From j\nSubject: s\n" + BODY),
    "space before the colon": (b"Subject : s\n" + BODY, b"Subject: s\n" + BODY),
}


@pytest.mark.parametrize("step", [1, 5, 100_000])
@pytest.mark.parametrize("case", LOCAL.values(), ids=LOCAL.keys())
def test_content_from_our_clients(case, step):
    assert canonical(case[0], intake(), step) == b"Received: t\n" + case[1]


@pytest.mark.parametrize("step", [1, 5, 100_000])
@pytest.mark.parametrize("case", REMOTE.values(), ids=REMOTE.keys())
def test_content_from_elsewhere(case, step):
    assert canonical(case[0], intake(local=False), step) == b"Received: t\n" + case[1]


def test_missing_fields_are_added_for_all_with_always_add_missing_headers():
    machine = intake(SETTINGS._replace(always_add_missing_headers=True), local=False)
    expected = b"Received: t\nTo: bar\n" + ADDED + b"From: s@x.example\n" + BODY
    assert canonical(b"To: bar\n" + BODY, machine) == expected


@pytest.mark.parametrize(
    ("content", "added"),
    [
        (b"\n", True),
        (b"Bcc: x\n\n", True),
        (b"Apparently-To: x\n\n", True),
        (b"Resent-From: x\n\n", True),
        (b"To: x\n\n", False),
        (b"Cc: x\n\n", False),
        (b"Resent-To: x\n\n", False),
    ],
)
def test_undisclosed_recipients(content, added):
    machine = intake(SETTINGS._replace(undisclosed_recipients_header="To: undisclosed-recipients:;"))
    assert (b"\nTo: undisclosed-recipients:;\n\n" in canonical(content, machine)) is added


@pytest.mark.parametrize(
    ("sender", "full_name", "form", "expected"),
    [
        ("s@x.example", "", "standard", "s@x.example"),
        ("s@x.example", "Foo Bar", "standard", "Foo Bar <s@x.example>"),
        ("s@x.example", "Foo, Bar", "standard", '"Foo, Bar" <s@x.example>'),
        ("s@x.example", "Jürgen", "standard", "=?utf-8?Q?J=C3=BCrgen?= <s@x.example>"),
        ("s@x.example", "x\nBcc: y", "standard", '"x Bcc: y" <s@x.example>'),
        ("a b@x.example", "", "standard", '"a b"@x.example'),
        ("", "Foo Bar", "standard", "MAILER-DAEMON"),
        ("s@x.example", "Foo (Bar)", "obsolete", "s@x.example (Foo \\(Bar\\))"),
    ],
)
def test_the_author_is_the_sender(sender, full_name, form, expected):
    machine = intake(SETTINGS._replace(header_from_format=form), sender=sender, full_name=full_name)
    assert f"\nFrom: {expected}\n\nb".encode() in canonical(b"\nb", machine)


@pytest.mark.parametrize(
    ("content", "local", "expected"),
    [
        (b"Message-Id: <a@b> (comment)\nMessage-Id: <c@d>\n", True, [(False, "<a@b> (comment)"), (False, "<c@d>")]),
        (b"Message-ID:\n <x@y>  \n", True, [(False, "<x@y>  ")]),
        (b"Message-ID: a\n b\tc\x01d\xff\n", True, [(False, "a? b?c?d\ufffd")]),
        (b"", True, [(False, "<20261122162441.3053A190708@vm>")]),
        (b"", False, [(False, "<>")]),
        (b"Message-Id:\n", False, [(False, "")]),
        (b"Resent-To: x\n", True, [(True, "<20261122162441.3053A190708@vm>"), (False, "<>")]),
        (b"Resent-Message-Id: <r@m>\nMessage-Id: <m@m>\n", False, [(True, "<r@m>"), (False, "<m@m>")]),
    ],
)
def test_identifiers_for_the_log(content, local, expected):
    machine = intake(local=local)
    canonical(content + b"\n", machine)
    assert machine.message_ids == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"To: a@b\nCc: c, a@b\nBcc: e\nFrom: joe\n", ["a@b", "c", "a@b", "e"]),
        (b"To: a@b\nResent-To: g\nResent-Bcc: h\n", ["g", "h"]),
        (b"Resent-Date: x\nTo: a@b\n", ["a@b"]),
        (b"Apparently-To: x@y\nBcc: e\n", ["e"]),
        (b"To: undisclosed-recipients:;\nCc: <>\n", []),
        (b"To: a@b\nno header\nCc: c@d\n", ["a@b"]),
        (b"To: \xff@b\n", ["\ufffd@b"]),
    ],
)
def test_recipients_from_the_header(content, expected):
    machine = intake(extract_recipients=True)
    stored = canonical(content + BODY, machine)
    assert machine.extracted == expected
    assert b"Bcc" not in stored


def test_recipients_are_not_taken_from_the_header_unasked():
    machine = intake()
    canonical(b"To: a@b\n\n", machine)
    assert machine.extracted == []


def refused(content, machine):
    with pytest.raises(Refusal) as caught:
        canonical(content, machine, step=1000)
    return f"{caught.value.code} {caught.value.status} {caught.value.text}"


def test_hops_are_counted_with_our_own():
    canonical(b"received: x\n" * 48 + BODY, intake())
    assert refused(b"Received: x\n" * 49 + BODY, intake()) == "554 5.4.0 Error: too many hops"


def test_a_message_may_have_the_limit_and_not_more():
    limit = len(canonical(b"To: x\n\n" + b"y" * 5000, intake()))
    settings = SETTINGS._replace(message_size_limit=limit)
    canonical(b"To: x\n\n" + b"y" * 5000, intake(settings))
    assert refused(b"To: x\n\n" + b"y" * 5001, intake(settings)) == "552 5.3.4 Error: message file too big"
    assert refused(b"To: x\n" * 900, intake(settings)) == "552 5.3.4 Error: message file too big"


def test_a_header_cannot_name_more_recipients_than_fit_into_memory():
    content = b"To: a@b" + b",a@b" * 999 + b"\n"
    machine = intake(extract_recipients=True)
    assert refused(content * 21, machine) == "554 5.5.3 Error: too many recipients in message header"
    assert len(machine.extracted) <= EXTRACTED_LIMIT + 1000


def test_the_body_passes_as_it_is():
    machine = intake()
    machine.feed(b"A: b\n\nbody")
    chunk = b"From: x\n.\n\0"
    assert machine.feed(chunk) is chunk
    assert machine.close() == b""


@pytest.mark.parametrize(
    ("content", "stored"),
    [(b"A: b\n\n.\r.\r\n\rx\r\n", b"A: b\n\n. . \n x \n"), (b"A: b\rB: c\n\nx\n", b"A: b B: c\n\nx\n")],
    ids=["body", "header"],
)
def test_a_cr_that_ends_no_line_becomes_a_space(content, stored):
    """What the next host might take for a line's end, and so for the end of the message, never gets there."""
    assert canonical(content, intake(local=False)).endswith(stored)
    kept = intake(SETTINGS._replace(replace_stray_cr=False), local=False)
    assert b"\r" in canonical(content, kept)


def test_a_line_of_the_header_is_cut_off_at_a_nul_and_one_of_the_body_is_not():
    machine = intake(extract_recipients=True)
    stored = canonical(b"To: a\0, b\n\t,c\nSubject: x\0\n\nx\0y\n", machine)
    assert stored.startswith(b"Received: t\nTo: a@test.example\n\t,c@test.example\nSubject: x\nMessage-Id: ")
    assert stored.endswith(b"\n\nx\0y\n")
    assert machine.extracted == ["a", "c"]


def test_8bit_headers_are_noticed():
    for content, expected in ((b"A: b\n\n\xff", False), (b"A: \xc3\xa9\n\n", True)):
        machine = intake()
        canonical(content, machine)
        assert machine.has_8bit_header is expected


@given(
    st.lists(
        st.sampled_from([b"To: a", b"From: b\n", b"From ", b"\n", b" ", b"Resent-To: x\n", b"Bcc: y"]), max_size=12
    ),
    st.booleans(),
    st.data(),
)
@settings(max_examples=150)
def test_splitting_content_anywhere_makes_no_difference(pieces, local, data):
    content = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
    machine = intake(local=local, extract_recipients=True)
    out = [machine.feed(content[a:b]) for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    whole = intake(local=local, extract_recipients=True)
    assert b"".join(out) + machine.close() == canonical(content, whole)
    assert (machine.message_ids, machine.extracted) == (whole.message_ids, whole.extracted)
