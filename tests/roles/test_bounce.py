"""bounce: what is logged, and what senders are told."""

import asyncio
import errno
import os
import re
import tempfile

import pytest
from roles.serving import FakeRole, run

from pyfix.conf.error import ConfigError
from pyfix.roles import bounce, cleanup
from pyfix.service import cleanup as cleanup_service
from pyfix.service.bounce import INTERFACE, Append, Entry, Notify, Trouble
from pyfix.service.interface import Nothing
from pyfix.spool import log
from pyfix.spool.content import read_content
from pyfix.spool.directories import Spool
from pyfix.spool.queue_file import read_envelope
from pyfix.spool.record import END, EXTRACTED, TextEncoder, encode
from pyfix.system import flusher
from pyfix.system.kernel import KernelSync

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
    assert role.journal.lines[0] == f"{QUEUE_ID}: sender non-delivery notification: {name}"
    assert role.journal.lines[1].startswith(f"{name}: message-id=")


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


def test_a_damaged_message_comes_back_as_far_as_it_can_be_read(tmp_path):
    async def scenario(role):
        await append(role)
        await notify(role, CONTENT + b"x\n" * 200_000, damaged=True)

    role = go(tmp_path, scenario, bounce_size_limit="1000000")
    ((_, _, content),) = notices(tmp_path)
    assert b"\n\nbody\nx\nx\n" in content
    assert content.endswith(b"--\n")
    assert logged(tmp_path) == []
    assert any(f"warning: {QUEUE_ID}: the returned message is cut: " in line for line in role.journal.lines)


def test_a_notice_that_is_refused_for_its_size_comes_without_the_body(tmp_path):
    async def scenario(role):
        await append(role)
        await notify(role, CONTENT + b"x" * 9000)

    go(tmp_path, scenario, message_size_limit="5000")
    ((_, _, content),) = notices(tmp_path)
    assert b"Subject: hello\n\n--" in content
    assert logged(tmp_path) == []


def test_a_notice_that_is_refused_for_good_is_given_up(tmp_path):
    async def scenario(role):
        await append(role)
        assert await notify(role) == ""

    role = go(tmp_path, scenario, message_size_limit="10")
    assert notices(tmp_path) == []
    assert logged(tmp_path) == []
    text = "sender non-delivery notification refused: 552 5.3.4 Error: message file too big: giving up"
    assert f"warning: {QUEUE_ID}: {text}" in role.journal.lines


DELAYED = Entry("bob@example.org", 100, "4.4.1", "connect to mx: Connection refused", "delayed")
DELIVERED = Entry("bob@example.org", 100, "2.0.0", "delivered to mailbox", "delivered", notify=2)
KINDS = {"failure": ("bounce", ENTRY), "delay": ("defer", DELAYED), "success": ("trace", DELIVERED),
         "verify": ("trace", DELIVERED)}  # fmt: skip


def tell(directory, kind, sender="ada@example.com", entry=None, **parameters):
    """Has a notice made of one entry; the role."""
    name, usual = KINDS[kind]

    async def scenario(role):
        await append(role, entry or usual, name=name)
        await notify(role, kind=kind, sender=sender)

    return go(directory, scenario, **parameters)


@pytest.mark.parametrize(
    ("kind", "subject", "event", "action", "left"),
    [
        ("failure", "Undelivered Mail Returned to Sender", "sender non-delivery notification", "failed", False),
        ("delay", "Delayed Mail (still being retried)", "sender delay notification", "delayed", True),
        ("success", "Successful Mail Delivery Report", "sender delivery status notification", "delivered", False),
        ("verify", "Mail Delivery Status Report", "sender delivery status notification", "delivered", False),
    ],
)
def test_each_kind_of_notice(tmp_path, kind, subject, event, action, left):
    role = tell(tmp_path, kind, delay_warning_time="4h")
    ((name, envelope, content),) = notices(tmp_path)
    assert (envelope.sender, [r.address for r in envelope.recipients]) == ("", ["ada@example.com"])
    assert f"\nSubject: {subject}\n".encode() in content
    assert f"\nAction: {action}\n".encode() in content
    assert (b"\nbody\n" in content) is (kind == "failure")
    assert (b"Will-Retry-Until: " in content) is (kind == "delay")
    assert b"for more than 4 hour(s)" in content or kind != "delay"
    assert bool(logged(tmp_path, KINDS[kind][0])) is left
    assert role.journal.lines[0] == f"{QUEUE_ID}: {event}: {name}"


POSTMASTER, DOUBLE = "postmaster@example.org", "double-bounce@mx.example.org"


@pytest.mark.parametrize(
    ("kind", "sender", "classes", "told"),
    [
        ("failure", "ada@example.com", "bounce", [("", "ada@example.com"), (DOUBLE, POSTMASTER)]),
        ("failure", "ada@example.com", "2bounce, delay", [("", "ada@example.com")]),
        ("failure", "", "2bounce", [(DOUBLE, POSTMASTER)]),
        ("failure", "", "resource, software", []),
        ("failure", DOUBLE, "bounce, 2bounce, delay", []),
        ("failure", DOUBLE.upper(), "bounce, 2bounce, delay", []),
        ("delay", "ada@example.com", "delay", [("", "ada@example.com"), (DOUBLE, POSTMASTER)]),
        ("delay", "ada@example.com", "bounce", [("", "ada@example.com")]),
        ("delay", "", "bounce", []),
        ("delay", "", "delay", [(DOUBLE, POSTMASTER)]),
        ("delay", DOUBLE, "delay", []),
        ("success", "", "bounce", []),
        ("success", "", "2bounce", [(DOUBLE, POSTMASTER)]),
        ("success", DOUBLE, "2bounce", []),
    ],
)
def test_postmaster_gets_to_know_what_notify_classes_says(tmp_path, kind, sender, classes, told):
    tell(tmp_path, kind, sender, notify_classes=classes)
    found = [(envelope.sender, r.address) for _, envelope, _ in notices(tmp_path) for r in envelope.recipients]
    assert sorted(found) == sorted(told)
    for _, envelope, content in notices(tmp_path):
        if envelope.sender:
            assert b"\nAuto-Submitted: auto-" in content
            assert (b"\nbody\n" in content) is (sender == "" and kind != "success")
            assert (b"Subject: Postmaster" in content) is (kind != "success")


def test_postmaster_hears_of_failures_that_the_sender_did_not_want_to_know(tmp_path):
    tell(tmp_path, "failure", entry=Entry("bob@x", 1, "5.1.1", "unknown", "failed", notify=1), notify_classes="bounce")
    ((_, envelope, content),) = notices(tmp_path)
    assert envelope.sender == DOUBLE
    assert b"<bob@x>: unknown" in content


@pytest.mark.parametrize(("notify_flags", "due"), [(0, True), (8, True), (10, True), (1, False), (4, False)])
def test_a_delay_is_told_to_who_wants_to_know(tmp_path, notify_flags, due):
    tell(tmp_path, "delay", entry=Entry("bob@x", 1, "4.4.1", "later", "delayed", notify=notify_flags))
    assert len(notices(tmp_path)) == due


def test_a_postmaster_who_cannot_be_told_is_warned_of_only(tmp_path):
    told = []

    async def scenario(role):
        def open_message(call):
            os.close(call.take_fd(call.parameters.content))
            if call.parameters.sender:
                raise cleanup.refused(451, "4.3.0", "later")
            told.append(call.parameters.queue_id)
            return Nothing()

        def commit(_call):
            return cleanup_service.Committed("x")

        def store(call):
            open_message(call)
            return commit(call)

        handlers = {"Open": open_message, "Commit": commit, "Store": store}
        role.implement(cleanup_service.INTERFACE, handlers)
        await bounce.start(role)
        await append(role)
        assert [await notify(role)] == told

    role = run(tmp_path, scenario, **PARAMETERS, notify_classes="bounce")
    assert logged(tmp_path) == []
    assert role.journal.lines[-1].startswith(f"warning: {QUEUE_ID}: postmaster notice failed: ")


def test_mail_with_a_variable_return_path_comes_back_recipient_by_recipient(tmp_path):
    entries = [
        Entry("bob@example.org", 100, "5.1.1", "unknown", "failed", "list@example.org"),
        Entry("eve@example.net", 200, "5.1.1", "unknown", "failed"),
        Entry("eve@example.net", 200, "5.1.1", "unknown", "failed"),
        Entry("zoe@example.net", 300, "5.1.1", "unknown", "failed", notify=1),
    ]

    async def scenario(role):
        await append(role, *entries)
        await notify(role, sender="owner@example.com", verp_delimiters="+=")

    go(tmp_path, scenario)
    found = {r.address: content for _, envelope, content in notices(tmp_path) for r in envelope.recipients}
    assert set(found) == {"owner+list=example.org@example.com", "owner+eve=example.net@example.com"}
    assert b"eve" not in found["owner+list=example.org@example.com"]


def test_one_notice_for_all_with_disable_verp_bounces(tmp_path):
    async def scenario(role):
        await append(role, ENTRY, Entry("eve@x", 200, "5.1.1", "unknown", "failed"))
        await notify(role, verp_delimiters="+=")

    go(tmp_path, scenario, disable_verp_bounces="yes")
    ((_, envelope, _),) = notices(tmp_path)
    assert [r.address for r in envelope.recipients] == ["ada@example.com"]


def test_a_notice_joins_the_thread_of_its_message(tmp_path):
    async def scenario(role):
        await append(role)
        await notify(role, b"Message-ID: <1@x>\n" + CONTENT)

    go(tmp_path, scenario, enable_threaded_bounces="yes")
    ((_, _, content),) = notices(tmp_path)
    assert b"\nReferences: <1@x>\nIn-Reply-To: <1@x>\nAuto-Submitted:" in content


def test_the_texts_of_bounce_template_file(tmp_path):
    path = tmp_path / "templates"
    path.write_text("failure_template = <<END\nSubject: So sorry\n\nThis is $myhostname.\nEND\n")
    tell(tmp_path, "failure", bounce_template_file=str(path))
    ((_, _, content),) = notices(tmp_path)
    assert b"\nSubject: So sorry\n" in content
    assert b"\n\nThis is mx.example.org.\n\n<bob@example.org>: " in content


@pytest.mark.parametrize("text", [None, "nonsense\n", "failure_template = <<END\n\n$nothing_of_the_kind\nEND\n"])
def test_a_template_file_that_cannot_be_used_is_an_error(tmp_path, text):
    path = tmp_path / "templates"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match="bounce_template_file"):
        run(tmp_path, bounce.start, bounce_template_file=str(path))


def test_a_cleanup_that_is_lost_is_trouble(tmp_path):
    async def scenario(role):
        def lose(call):
            raise ConnectionError(call)

        role.implement(cleanup_service.INTERFACE, {"Open": lose, "Commit": lose, "Store": lose})
        await bounce.start(role)
        await append(role)
        with pytest.raises(Trouble):
            await notify(role)
        role.bugs.clear()

    role = run(tmp_path, scenario, **PARAMETERS)
    assert len(logged(tmp_path)) == 1
    assert any("sender notification failed" in line for line in role.journal.lines)


def test_entries_of_one_message_at_a_time_are_all_logged(tmp_path):
    async def scenario(role):
        entries = [Entry(f"u{number}@x", number, "5.1.1", "unknown", "failed") for number in range(1, 40)]
        await asyncio.wait_for(asyncio.gather(*(append(role, entry) for entry in entries)), 20)

    go(tmp_path, scenario)
    assert sorted(entry.offset for entry in logged(tmp_path)) == list(range(1, 40))


@pytest.mark.parametrize("kernel", [True, False])
def test_a_log_that_cannot_be_written_is_trouble(tmp_path, monkeypatch, kernel):
    """Nothing is added, and who waited for its turn is not in the way of the next."""

    def failing(_fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fail(syncs, at_least=0):
        return [(tag, errno.EIO) for tag, _ in ended(syncs, at_least)]

    ended = KernelSync.ended
    if not kernel:
        monkeypatch.setattr(flusher, "KernelSync", failing)

    async def scenario(role):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            patch.setattr(KernelSync, "ended", fail)
            results = await asyncio.gather(append(role), append(role), return_exceptions=True)
            assert [type(result) for result in results] == [Trouble, Trouble]
        assert logged(tmp_path) == []
        await append(role)
        assert len(logged(tmp_path)) == 1
        (tmp_path / "spool/bounce" / QUEUE_ID).unlink()

    role = go(tmp_path, scenario)
    assert logged(tmp_path) == []
    assert role.journal.lines[0].startswith(f"warning: {QUEUE_ID}: bounce log: [Errno 5]")


def test_a_queue_id_names_no_other_file(tmp_path):
    async def scenario(role):
        with pytest.raises(Trouble):
            await append(role, queue_id="../incoming/x")

    go(tmp_path, scenario)
    assert notices(tmp_path) == []
