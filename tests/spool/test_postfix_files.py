"""Files that Postfix 3.10 wrote (fixtures/): a maildrop file, two deferred messages and a defer log."""

import os
import shutil
from pathlib import Path

import pytest

from pyfix.spool import log
from pyfix.spool.content import read_content
from pyfix.spool.envelope import QueuedRecipient
from pyfix.spool.maildrop import read_submission
from pyfix.spool.queue_file import read_envelope

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def open_fixture():
    descriptors = []

    def opened(name):
        descriptors.append(os.open(FIXTURES / name, os.O_RDONLY))
        return descriptors[-1]

    yield opened
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_deferred_message(open_fixture):
    descriptor = open_fixture("deferred")
    envelope = read_envelope(descriptor)
    assert envelope.sender == "a@example.org"
    assert envelope.arrival_usec == 1_795_364_155_972_534
    assert envelope.create_time == 1_795_364_156
    assert envelope.full_name == "root"
    assert envelope.attributes == {"rewrite_context": "local", "message_id": "<4jXZ1m4BfdzD2px@vm>"}
    assert envelope.recipients == (
        QueuedRecipient(235, "b@example.org", "", "rfc822;b@example.org"),
        QueuedRecipient(301, "c@example.org", "", "rfc822;c@example.org"),
    )
    assert (envelope.size, envelope.content_offset, envelope.recipient_count) == (252, 318, 2)
    content = b"".join(read_content(descriptor, envelope.content_offset))
    assert content.startswith(b"Received: by vm (Postfix, from userid 0)\n\tid 4jXZ1m4BfdzD2px; ")
    assert content.endswith(b"\n\nhello\n.dot\nlast without nl\n")


def test_a_null_sender_with_dsn_parameters_and_a_long_line(open_fixture):
    descriptor = open_fixture("null_sender")
    envelope = read_envelope(descriptor)
    assert envelope.sender == ""
    assert (envelope.envid, envelope.ret) == ("env+1", "HDRS")
    assert envelope.recipients[0].notify == 12
    assert envelope.qmgr_flags == 24
    assert envelope.smtputf8 == 3
    content = b"".join(read_content(descriptor, envelope.content_offset))
    assert content.endswith(b"\n\n" + b"x" * 5000 + b"\n\xff\xfe\n")


def test_a_maildrop_file_with_recipients_from_headers(open_fixture):
    submission = read_submission(open_fixture("maildrop"))
    assert submission.sender == "root"
    assert [r.address for r in submission.recipients] == ["t1@example.org", "t2@example.org", "t3@example.org"]
    assert submission.attributes == {"rewrite_context": "local"}
    assert submission.uid == (FIXTURES / "maildrop").stat().st_uid
    assert not submission.requeued


def test_a_requeued_message(open_fixture):
    """postsuper -r moves the queue file as it is."""
    submission = read_submission(open_fixture("null_sender"))
    assert submission.requeued
    assert (submission.sender, submission.envid, submission.ret) == ("", "env+1", "HDRS")
    assert submission.smtputf8


def test_a_defer_log(spool):
    (Path(spool.root) / "defer/8").mkdir()
    shutil.copy(FIXTURES / "defer_log", Path(spool.root) / "defer/8/4jXZ1m485RzD2qY")
    entries = list(log.read(spool, "defer", "4jXZ1m485RzD2qY"))
    assert [entry.recipient for entry in entries] == ["t1@example.org", "t2@example.org", "t3@example.org"]
    assert entries[1] == log.LogEntry(
        recipient="t2@example.org",
        offset=623,
        status="4.3.0",
        reason="test deferral",
        action="delayed",
        orcpt="rfc822;t2@example.org",
    )
    assert b"".join(map(log.format_entry, entries)) == (FIXTURES / "defer_log").read_bytes()
