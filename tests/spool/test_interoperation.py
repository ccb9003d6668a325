"""Debian's Postfix and this spool, each with the files of the other."""

import os
import shutil
from pathlib import Path

import pytest

from pyfix.spool import log
from pyfix.spool.content import read_content
from pyfix.spool.directories import Spool
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.maildrop import MaildropWriter, NewSubmission, read_submission
from pyfix.spool.queue_file import QueueFileWriter, mark_done, read_envelope
from pyfix.spool.queue_id import QueueIds

pytestmark = pytest.mark.system

QUEUE_ID = "4jXZ1m485RzD2qY"
NOW_USEC = 1_795_364_156_025_085

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix runs as root only")


def _message(**fields):
    recipients = fields.pop("recipients", (NewRecipient("x@example.org", orcpt="rfc822;x@example.org"),))
    return NewMessage(
        **{"sender": "a@example.net", "arrival_usec": NOW_USEC, "create_time": NOW_USEC // 10**6} | fields,
        recipients=recipients,
    )


def _store(spool, message, content, queue="incoming", queue_id=QUEUE_ID, **finish):
    writer = QueueFileWriter(spool.create(queue_id, queue))
    writer.begin(message)
    writer.write_content(content)
    writer.finish(**finish)
    writer.commit()


CASES = {
    "plain": (_message(), b"Subject: x\n\nbody\n", {}),
    "unterminated": (_message(), b"Subject: x\n\nbody", {}),
    "8bit": (_message(encoding="8bit", smtputf8=1), b"Subject: \xc3\xa9\n\n\xff\xfe\0\r\n", {}),
    "long lines": (_message(), b"S: x\n\n" + b"".join(b"x" * n + b"\n" for n in (2047, 2048, 2049, 4096, 9000)), {}),
    "large": (_message(), b"Subject: x\n\n" + b"a line of usual length\n" * 30_000, {}),
    "null sender": (_message(sender=""), b"Subject: x\n\nbody\n", {}),
    "dsn": (_message(envid="a b+c", ret="FULL", recipients=(NewRecipient("x@y", notify=6),)), b"\nx\n", {}),
    "everything": (
        _message(full_name="F N", attributes={"a": "b"}, warn_time=NOW_USEC // 10**6 + 9, smtputf8=3),
        b"A: b\n\nx\n",
        {"attributes": {"message_id": "<x@y>"}},
    ),
    "many recipients": (_message(recipients=tuple(NewRecipient(f"r{i}@x.org") for i in range(3000))), b"\nx\n", {}),
    "from headers": (_message(recipients=()), b"To: t@x.org\n\nx\n", {"recipients": (NewRecipient("t@x.org"),)}),
}


@pytest.mark.parametrize("case", CASES)
def test_postcat_reads_our_queue_files(postfix, spool, case):
    message, content, finish = CASES[case]
    _store(spool, message, content, **finish)
    path = f"{spool.root}/incoming/{QUEUE_ID}"
    result = postfix.attempt("postcat", path)
    assert (result.returncode, result.stderr) == (0, b"")
    shown = result.stdout
    envelope, _, rest = shown.partition(f"*** MESSAGE CONTENTS {path} ***\n".encode())
    text, _, extracted = rest.rpartition(f"*** HEADER EXTRACTED {path} ***\n".encode())
    assert text == (content if content.endswith(b"\n") else content + b"\n")
    assert extracted.endswith(f"*** MESSAGE FILE END {path} ***\n".encode())
    assert f"\nsender: {message.sender}\n".encode() in envelope
    recipients = [*message.recipients, *finish.get("recipients", ())]
    assert (envelope + extracted).count(b"\nrecipient: ") + extracted.startswith(b"recipient: ") == len(recipients)
    for line in (b"\nmessage_arrival_time: Sun Nov 22 16:15:56 2026\n", b"\ncreate_time: Sun Nov 22 16:15:56 2026\n"):
        assert line in envelope


def test_postcat_reads_marks(postfix, spool):
    _store(spool, _message(recipients=(NewRecipient("d@x.org"), NewRecipient("t@x.org"))), b"\nx\n", "deferred")
    descriptor = spool.open("deferred", QUEUE_ID, write=True)
    mark_done(descriptor, read_envelope(descriptor).recipients[0].offset)
    os.close(descriptor)
    shown = postfix.run("postcat", f"{spool.root}/{spool.find('deferred', QUEUE_ID)}")
    assert b"\ndone_recipient: d@x.org\n" in shown
    assert b"\nrecipient: t@x.org\n" in shown


def test_postcat_reads_our_maildrop_files(postfix, spool):
    writer = MaildropWriter(spool.create(QUEUE_ID, "maildrop"))
    writer.begin(NewSubmission("a@x.org", ("b@x.org", "c@x.org"), NOW_USEC, 1000, full_name="F N", notify=2))
    writer.write_content(b"Subject: x\n\nlast")
    writer.finish()
    writer.commit()
    shown = postfix.run("postcat", f"{spool.root}/maildrop/{QUEUE_ID}")
    assert b"\nsender_fullname: F N\nsender: a@x.org\n" in shown
    assert b"\nrecipient: b@x.org\nnamed_attribute: notify_flags=2\nrecipient: c@x.org\n*** MESSAGE" in shown
    assert b"\nSubject: x\n\nlast\n*** HEADER" in shown


def test_postcat_finds_our_files_by_queue_id(postfix):
    """Both hash deferred mail into the same subdirectory."""
    spool = Spool(str(postfix.spool))
    ids = QueueIds()
    for number in range(20):
        queue_id = ids.new(NOW_USEC + number * 44_321)
        _store(spool, _message(), b"\nx\n", "deferred", queue_id)
        assert f"deferred/{spool.path('deferred', queue_id)[9]}/{queue_id}".encode() in postfix.run(
            "postcat", "-q", queue_id
        )
    spool.close()


@pytest.fixture
def deferred(postfix):
    """A Postfix that has accepted and deferred mail of all kinds, and stopped."""
    send = ["sendmail", "-i", "-f"]
    postfix.run(*send, "s@example.net", "a@example.org", "b@example.org", data=b"Subject: two\n\nlast")
    postfix.run(*send, "", "-N", "failure", "-V", "env", "n@example.org", data=b"Subject: \xc3\xa9\n\n\xff\n")
    postfix.run(*send, "l@example.net", "l@example.org", data=b"\n" + b"x" * 9000 + b"\n" + b"y" * 2048 + b"\n")
    postfix.run("sendmail", "-t", data=b"To: t1@example.org, t2@example.org\nSubject: t\n\nx\n")
    assert len(postfix.files("maildrop")) == 4
    with postfix.started():
        postfix.wait_for(lambda: not postfix.files("maildrop", "incoming", "active") and postfix.files("deferred"))
    return postfix


@as_root
def test_we_read_what_postfix_has_deferred(deferred):
    spool = Spool(str(deferred.spool))
    by_sender = {}
    for found in spool.scan("deferred"):
        descriptor = spool.open("deferred", found.queue_id)
        envelope = read_envelope(descriptor)
        content = b"".join(read_content(descriptor, envelope.content_offset))
        os.close(descriptor)
        by_sender[envelope.sender] = envelope, content
        assert content.startswith(b"Received: by oracle.example (Postfix, from userid 0)\n\tid ")
        entries = list(log.read(spool, "defer", found.queue_id))
        assert [(e.recipient, e.offset, e.reason) for e in entries] == [
            (r.address, r.offset, "test deferral") for r in envelope.recipients
        ]
        assert found.mtime > envelope.create_time
    spool.close()
    assert len(by_sender) == 4
    assert by_sender["s@example.net"][0].recipient_count == 2
    assert by_sender["s@example.net"][1].endswith(b"\n\nlast\n")
    assert by_sender[""][0].envid == "env"
    assert by_sender[""][0].recipients[0].notify == 4
    assert by_sender["l@example.net"][1].endswith(b"\n" + b"x" * 9000 + b"\n" + b"y" * 2048 + b"\n")


@as_root
def test_postfix_takes_over_our_spool(postfix):
    """What we accepted and put off, a Postfix that is started on our spool delivers (here: defers, with its reason)."""
    spool = Spool(str(postfix.spool))
    ids = QueueIds()
    names = {}
    for queue in ("incoming", "active", "deferred"):
        names[queue] = ids.new(NOW_USEC)
        recipients = (NewRecipient(f"{queue}@example.org", orcpt="rfc822;o@example.org"), NewRecipient("done@x.org"))
        _store(spool, _message(recipients=recipients), b"Subject: x\n\nbody\n", queue, names[queue])
        descriptor = spool.open(queue, names[queue], write=True)
        mark_done(descriptor, read_envelope(descriptor).recipients[1].offset)
        os.close(descriptor)
    entry = log.LogEntry("deferred@example.org", 0, "4.4.1", "our reason", "delayed")
    log.addition(spool, "defer", names["deferred"], [entry]).commit()
    spool.set_retry_time("deferred", names["deferred"], 1000)
    writer = MaildropWriter(spool.create(ids.new(NOW_USEC), "maildrop"))
    writer.begin(NewSubmission("u@example.net", ("maildrop@example.org",), NOW_USEC, 1000))
    writer.write_content(b"Subject: local\n\nx\n")
    writer.finish()
    writer.commit()
    postfix.own()
    with postfix.started():
        for queue in (*names, "maildrop"):
            postfix.wait_for(lambda queue=queue: f"to=<{queue}@example.org>" in postfix.log_text())
    text = postfix.log_text()
    assert "warning" not in text, text
    assert "done@x.org" not in text
    for queue_id in names.values():
        assert f"{queue_id}: from=<a@example.net>, size=" in text
    spool.close()


@as_root
def test_postfix_agrees_on_what_we_requeue(postfix, spool):
    """postsuper -r of either leaves what pickup of either reads."""
    our = Spool(str(postfix.spool))
    _store(our, _message(envid="e", ret="HDRS"), b"Subject: x\n\nbody\n", "deferred")
    postfix.own()
    postfix.run("postsuper", "-r", QUEUE_ID)
    descriptor = our.open("maildrop", QUEUE_ID)
    submission = read_submission(descriptor)
    os.close(descriptor)
    our.close()
    assert submission.requeued
    assert (submission.sender, submission.envid, submission.ret) == ("a@example.net", "e", "HDRS")


@as_root
def test_we_read_what_sendmail_has_submitted(postfix):
    postfix.run("sendmail", "-F", "F N", "-f", "s@example.net", "-B", "8BITMIME", "a@example.org", data=b"A: b\n\nx\n")
    (path,) = postfix.files("maildrop")
    shutil.copy(path, Path(path.parent) / QUEUE_ID)
    spool = Spool(str(postfix.spool))
    descriptor = spool.open("maildrop", QUEUE_ID)
    submission = read_submission(descriptor)
    assert submission.sender == "s@example.net"
    assert submission.full_name == "F N"
    assert submission.encoding == "8bit"
    assert [recipient.address for recipient in submission.recipients] == ["a@example.org"]
    assert b"".join(read_content(descriptor, submission.content_offset)) == b"A: b\n\nx\n"
    os.close(descriptor)
    spool.close()
