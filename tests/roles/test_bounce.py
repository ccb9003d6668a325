"""bounce: what is logged, and what senders are told."""

import errno
import os
import re
import tempfile

import pytest
from roles.serving import FakeRole, run

from pyfix.roles import bounce, cleanup
from pyfix.service import cleanup as cleanup_service
from pyfix.service.bounce import INTERFACE, Append, Entry, Notify, Trouble
from pyfix.spool import log
from pyfix.spool.content import read_content
from pyfix.spool.directories import Spool
from pyfix.spool.queue_file import read_envelope
from pyfix.spool.record import END, EXTRACTED, TextEncoder, encode

QUEUE_ID = "4jXZHh6nLGzDLbP"
ENTRY = Entry("bob@example.org", 100, "5.1.1", 'unknown user: "bob"', "failed")
CONTENT = b"From: ada@example.com\nSubject: hello\n\nbody\n"
PARAMETERS = {"myorigin": "example.org", "append_dot_mydomain": "no"}


def go(directory, scenario, **parameters):
    async def both(role: FakeRole) -> None:
        await cleanup.start(role)
        await bounce.start(role)
        await scenario(role)

    return run(directory, both, **(PARAMETERS | parameters))


def logged(directory, name="bounce"):
    spool = Spool(str(directory / "spool"))
    try:
        return list(log.read(spool, name, QUEUE_ID))
    finally:
        spool.close()


def notices(directory):
    found = []
    for path in sorted((directory / "spool/incoming").iterdir()):
        fd = os.open(path, os.O_RDONLY)
        envelope = read_envelope(fd)
        found.append((path.name, envelope, b"".join(read_content(fd, envelope.content_offset))))
        os.close(fd)
    return found


async def append(role, *entries, name="bounce", queue_id=QUEUE_ID):
    await role.client(INTERFACE).call("Append", Append(queue_id, name, entries or (ENTRY,)))


async def notify(role, content=CONTENT, damaged=False, **fields):
    with tempfile.TemporaryFile() as file:
        encoder = TextEncoder()
        file.write(encode(b"M", b"") + encoder.encode(content) + encoder.finish())
        if not damaged:
            file.write(encode(EXTRACTED, b"") + encode(END, b""))
        file.flush()
        usual = {
            "queue_id": QUEUE_ID,
            "message": 0,
            "content_offset": 2,
            "size": len(content),
            "sender": "ada@example.com",
            "arrival_usec": 1_795_364_681_000_000,
        }
        return (await role.client(INTERFACE).call("Notify", Notify(**(usual | fields)), (file.fileno(),))).notice_id


def test_entries_are_added_to_logs(tmp_path):
    full = Entry(
        "eve@x", 200, "4.4.1", "later", "delayed", "eve", "rfc822;eve", 4, "mail.example.net", "450 4.4.1 later"
    )

    async def scenario(role):
        await append(role, ENTRY)
        await append(role, full, ENTRY)
        await append(role, full, name="defer")

    go(tmp_path, scenario)
    assert [entry.recipient for entry in logged(tmp_path)] == ["bob@example.org", "eve@x", "bob@example.org"]
    (entry,) = logged(tmp_path, "defer")
    assert [getattr(entry, name) for name in full.__struct_fields__] == [
        getattr(full, name) for name in full.__struct_fields__
    ]


def test_the_sender_is_told(tmp_path):
    told = []

    async def scenario(role):
        await append(role)
        told.append(await notify(role, envid="an id"))

    role = go(tmp_path, scenario)
    ((name, envelope, content),) = notices(tmp_path)
    assert told == [name]
    assert envelope.sender == ""
    assert [(r.address, r.notify) for r in envelope.recipients] == [("ada@example.com", 1)]
    received = rb"Received: by mx\.example\.org \(pyfix\)\n\tid %s; [^\n]*\n" % name.encode()
    assert re.match(received + rb"Date: [^\n]*\nFrom: Mail Delivery System <MAILER-DAEMON@example\.org>\n", content)
    assert b"\nMessage-Id: <" in content
    assert b"\nOriginal-Envelope-Id: an id\n" in content
    assert b"\nReturn-Path: <ada@example.com>\n" + CONTENT + b"\n--" in content
    assert logged(tmp_path) == []
    assert role.journal.lines[-1] == f"{QUEUE_ID}: sender non-delivery notification: {name}"


def test_a_large_message_comes_back_without_its_body(tmp_path):
    async def scenario(role):
        await append(role)
        await notify(role, CONTENT + b"x" * 60_000)

    go(tmp_path, scenario)
    ((_, _, content),) = notices(tmp_path)
    assert b"Subject: hello\n\n--" in content
    assert b"xxx" not in content


@pytest.mark.parametrize(
    ("sender", "entry", "lines"),
    [
        ("", ENTRY, []),
        ("double-bounce@mx.example.org", ENTRY,
         [f"warning: {QUEUE_ID}: undeliverable postmaster notification discarded"]),
        ("ada@example.com", Entry("bob@example.org", 100, "5.1.1", "unknown", "failed", notify=1), []),
    ],
    ids=["null sender", "double bounce", "nobody wants to know"],
)  # fmt: skip
def test_no_notice_is_due(tmp_path, sender, entry, lines):
    async def scenario(role):
        await append(role, entry)
        assert await notify(role, sender=sender) == ""

    role = go(tmp_path, scenario)
    assert notices(tmp_path) == []
    assert logged(tmp_path) == []
    assert role.journal.lines == lines


def test_without_a_log_there_is_nothing_to_tell(tmp_path):
    async def scenario(role):
        assert await notify(role) == ""

    go(tmp_path, scenario)
    assert notices(tmp_path) == []


@pytest.mark.parametrize(
    ("parameters", "damaged", "reason"),
    [
        ({"message_size_limit": "10"}, False, "552"),
        ({}, True, "the file ends"),
    ],
    ids=["refused", "damaged message"],
)
def test_a_notice_that_cannot_be_stored_is_asked_for_again(tmp_path, parameters, damaged, reason):
    async def scenario(role):
        await append(role)
        with pytest.raises(Trouble):
            await notify(role, damaged=damaged)
        await role.idle()

    role = go(tmp_path, scenario, **parameters)
    assert notices(tmp_path) == []
    assert len(logged(tmp_path)) == 1
    (line,) = [line for line in role.journal.lines if "sender notification failed" in line]
    assert reason in line


def test_a_cleanup_that_is_lost_is_trouble(tmp_path):
    async def scenario(role):
        def lose(call):
            raise ConnectionError(call)

        role.implement(cleanup_service.INTERFACE, {"Open": lose, "Commit": lose})
        await bounce.start(role)
        await append(role)
        with pytest.raises(Trouble):
            await notify(role)
        role.bugs.clear()

    role = run(tmp_path, scenario, **PARAMETERS)
    assert len(logged(tmp_path)) == 1
    assert any("sender notification failed" in line for line in role.journal.lines)


def test_a_log_that_cannot_be_written_is_trouble(tmp_path, monkeypatch):
    def failing(_fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def scenario(role):
        with monkeypatch.context() as patch, pytest.raises(Trouble):
            patch.setattr(os, "fsync", failing)
            await append(role)

    role = go(tmp_path, scenario)
    assert logged(tmp_path) == []
    assert role.journal.lines[0].startswith(f"warning: {QUEUE_ID}: bounce log: [Errno 5]")


def test_a_queue_id_names_no_other_file(tmp_path):
    async def scenario(role):
        with pytest.raises(Trouble):
            await append(role, queue_id="../incoming/x")

    go(tmp_path, scenario)
    assert notices(tmp_path) == []
