import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.spool import log
from pyfix.spool.log import LogEntry
from pyfix.system import durable
from pyfix.system.durable import NoSpace

QUEUE_ID = "4jXZ1m485RzD2qY"
ENTRY = LogEntry(
    recipient="x@example.org",
    offset=300,
    status="5.1.1",
    reason="host mx[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)",
    action="failed",
    original="y@example.org",
    orcpt="rfc822;y@example.org",
    notify=12,
    remote_mta="mx.example.org",
    diagnostic="550 5.1.1 no such user",
)


@pytest.mark.parametrize("name", ["bounce", "defer"])
def test_entries_come_back_in_their_order(spool, name):
    other = LogEntry(recipient="z@example.org", offset=1, status="4.0.0", reason="r", action="delayed")
    log.addition(spool, name, QUEUE_ID, [ENTRY]).commit()
    log.addition(spool, name, QUEUE_ID, [other, ENTRY]).commit()
    assert list(log.read(spool, name, QUEUE_ID)) == [ENTRY, other, ENTRY]


def test_no_log_has_no_entries(spool):
    assert list(log.read(spool, "bounce", QUEUE_ID)) == []


def test_quoted_addresses_come_back(spool):
    entry = LogEntry(recipient='a b"c@example.org', offset=0, status="5.0.0", reason="r", action="failed")
    log.addition(spool, "bounce", QUEUE_ID, [entry]).commit()
    assert list(log.read(spool, "bounce", QUEUE_ID)) == [entry]
    descriptor = spool.open("bounce", QUEUE_ID)
    assert b'\nrecipient="a b\\"c"@example.org\n' in os.read(descriptor, 1000)
    os.close(descriptor)


def test_the_null_address_comes_back(spool):
    entry = LogEntry(recipient="", offset=5, status="5.0.0", reason="r", action="failed")
    log.addition(spool, "bounce", QUEUE_ID, [entry]).commit()
    assert list(log.read(spool, "bounce", QUEUE_ID)) == [entry]


@given(st.text(), st.text(), st.text())
def test_no_text_of_a_remote_host_makes_a_line(reason, diagnostic, host):
    entry = LogEntry(
        recipient="x@example.org",
        offset=1,
        status="5.0.0",
        reason="x" + reason,
        action="failed",
        diagnostic="x" + diagnostic,
        remote_mta="x" + host,
    )
    data = log.format_entry(entry)
    assert data.count(b"\n") == 12
    assert data.startswith(b"\n<x@example.org>: x")
    assert data.endswith(b"\n\n")


def test_a_full_disk_adds_nothing(spool, monkeypatch):
    log.addition(spool, "defer", QUEUE_ID, [ENTRY]).commit()

    def full(_):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", full)
        with pytest.raises(NoSpace):
            log.addition(spool, "defer", QUEUE_ID, [ENTRY, ENTRY]).commit()
    assert list(log.read(spool, "defer", QUEUE_ID)) == [ENTRY]


@pytest.mark.parametrize(
    ("data", "entries"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b"garbage\n\n\nrecipient=a@b\nreason=r\n", [("a@b", "r", "4.0.0", 0)]),
        (b"<a@b>: old style\n\n", [("a@b", "old style", "4.0.0", 0)]),
        (b"recipient=a@b\noffset=12x\nunknown=1\n=\n\n", [("a@b", "(description unavailable)", "4.0.0", 0)]),
        (b"recipient=a@b\nreason=" + b"x" * 20_000 + b"\n\n", [("a@b", "x" * (16_384 - 7), "4.0.0", 0)]),
        (b"recipient=a@b\nreason=\xff\n\n", [("a@b", "\ufffd", "4.0.0", 0)]),
    ],
    ids=["empty", "blank", "garbage", "old", "malformed", "long", "bytes"],
)
def test_what_is_malformed_is_passed_over(spool, data, entries):
    durable.Addition(spool.make_room("defer", QUEUE_ID), data, spool.descriptor).commit()
    found = list(log.read(spool, "defer", QUEUE_ID))
    assert [(entry.recipient, entry.reason, entry.status, entry.offset) for entry in found] == entries
