"""cleanup: what is stored of a transaction, and what is left of one that came to nothing."""

import asyncio
import contextlib
import errno
import os
import pathlib

import pytest
from roles.serving import FakeRole, run

from pyfix.roles import cleanup
from pyfix.service import announcing, queue
from pyfix.service.cleanup import INTERFACE, Open, Recipient, Refused
from pyfix.service.interface import Nothing
from pyfix.spool.content import read_content
from pyfix.spool.directories import Space, Spool
from pyfix.spool.envelope import SMTPUTF8_RECIPIENT, Envelope
from pyfix.spool.queue_file import read_envelope
from pyfix.system import flusher
from pyfix.system.durable import DurableFile
from pyfix.system.kernel import KernelSync

QUEUE_ID = "4jXZHh6nLGzDLbP"
CONTENT = b"From: ada\nSubject: x\n\nhello\n"
PARAMETERS = {"myorigin": "example.org", "append_dot_mydomain": "no"}


def go(directory, scenario, **parameters):
    return run(directory, scenario, **(PARAMETERS | parameters))


def incoming(directory: pathlib.Path) -> list[pathlib.Path]:
    return sorted((directory / "spool/incoming").iterdir())


def stored(path: pathlib.Path) -> tuple[Envelope, bytes]:
    assert path.stat().st_mode & 0o777 == 0o700
    fd = os.open(path, os.O_RDONLY)
    try:
        envelope = read_envelope(fd)
        return envelope, b"".join(read_content(fd, envelope.content_offset))
    finally:
        os.close(fd)


def request(**fields) -> Open:
    usual = {
        "queue_id": QUEUE_ID,
        "content": 0,
        "sender": "ada",
        "recipients": (Recipient("bob@example.com"),),
        "arrival_usec": 1_795_364_681_000_001,
    }
    return Open(**(usual | fields))


class Opener:
    """A caller: a connection, and the writing end of its transaction's pipe."""

    def __init__(self, session) -> None:
        self.session = session
        self.pipe = -1

    async def open(self, **fields) -> None:
        reading, writing = os.pipe()
        self.pipe, old = writing, self.pipe
        try:
            await self.session.call("Open", request(**fields), (reading,))
        finally:
            os.close(reading)
            if old >= 0:
                os.close(old)

    async def write(self, content: bytes) -> None:
        await asyncio.to_thread(_write, self.pipe, content)

    async def commit(self) -> str:
        os.close(self.pipe)
        self.pipe = -1
        return (await self.session.call("Commit", Nothing())).queue_id

    def close(self) -> None:
        self.session.close()
        if self.pipe >= 0:
            os.close(self.pipe)


def _write(fd: int, content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        while content:
            content = content[os.write(fd, content) :]


@contextlib.asynccontextmanager
async def opener(role: FakeRole):
    caller = Opener(await role.client(INTERFACE).session())
    try:
        yield caller
    finally:
        caller.close()


async def store(role: FakeRole, content: bytes = CONTENT, **fields) -> str:
    async with opener(role) as caller:
        await caller.open(**fields)
        await caller.write(content)
        return await caller.commit()


async def refusal(role: FakeRole, content: bytes = CONTENT, **fields) -> str:
    with pytest.raises(Refused) as caught:
        await store(role, content, **fields)
    parameters = caught.value.parameters
    return f"{parameters.code} {parameters.status} {parameters.text}"


def test_a_message_is_stored_with_its_envelope(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        await store(
            role,
            recipients=(
                Recipient("bob", notify=4),
                Recipient("bob@example.org"),
                Recipient("eve@example.com", "rfc822;e"),
            ),
            trace="Received: from x\n\tby y",
            full_name="Ada & Co",
            encoding="8bit",
            envid="an id",
            ret="HDRS",
            attributes={"log_client_name": "localhost", "rewrite_context": "local"},
        )

    role = go(tmp_path, scenario)
    (path,) = incoming(tmp_path)
    envelope, content = stored(path)
    assert path.name == QUEUE_ID
    assert (envelope.sender, envelope.arrival_usec) == ("ada@example.org", 1_795_364_681_000_001)
    assert [(r.address, r.original, r.orcpt, r.notify) for r in envelope.recipients] == [
        ("bob@example.org", "bob", "rfc822;bob", 4),
        ("bob@example.org", "", "rfc822;bob@example.org", 0),
        ("eve@example.com", "", "rfc822;e", 0),
    ]
    assert (envelope.encoding, envelope.envid, envelope.ret, envelope.full_name) == (
        "8bit",
        "an id",
        "HDRS",
        "Ada & Co",
    )
    assert envelope.attributes["log_client_name"] == "localhost"
    assert content.startswith(b"Received: from x\n\tby y\nFrom: ada@example.org\nSubject: x\nMessage-Id: <")
    assert content.endswith(b"\n\nhello\n")
    assert role.journal.lines == [f"{QUEUE_ID}: message-id=<{QUEUE_ID}@mx.example.org>"]
    assert role.work == 0


def test_foreign_mail_keeps_its_header(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        await store(role, attributes={"rewrite_context": "remote"})

    role = go(tmp_path, scenario)
    assert stored(incoming(tmp_path)[0])[1] == CONTENT
    assert role.journal.lines == [f"{QUEUE_ID}: message-id=<>"]


def test_foreign_mail_is_completed_with_remote_header_rewrite_domain(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        await store(role, attributes={"rewrite_context": "remote"})

    go(tmp_path, scenario, remote_header_rewrite_domain="domain.invalid")
    assert stored(incoming(tmp_path)[0])[1].startswith(b"From: ada@domain.invalid\n")


def test_recipients_come_from_the_header_where_that_is_wanted(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        await store(role, b"To: bob, eve\nBcc: \xc3\xa9@x\n\n", recipients=(Recipient("eve"),), extract_recipients=True)

    go(tmp_path, scenario)
    envelope, content = stored(incoming(tmp_path)[0])
    assert [r.address for r in envelope.recipients] == ["eve@example.org", "bob@example.org", "é@x"]
    assert content.startswith(b"To: bob@example.org, eve@example.org\nMessage-Id:")
    assert envelope.smtputf8 == SMTPUTF8_RECIPIENT


def test_a_large_message_streams(tmp_path):
    body = b"0123456789abcde\n" * 400_000

    async def scenario(role):
        await cleanup.start(role)
        await store(role, b"\n" + body, attributes={"rewrite_context": "remote"})

    go(tmp_path, scenario, message_size_limit="0")
    assert stored(incoming(tmp_path)[0])[1] == b"\n" + body


def test_many_transactions_at_once(tmp_path):
    ids = [f"4jXZHh6nLGzDLb{letter}" for letter in "BCDFGHJKLMNPQRST"]

    async def scenario(role):
        await cleanup.start(role)
        callers = [Opener(await role.client(INTERFACE).session()) for _ in ids]
        for queue_id, caller in zip(ids, callers, strict=True):
            await caller.open(queue_id=queue_id, attributes={"rewrite_context": "remote"})
        for part in (b"A: b\n", b"\n", b"body"):
            for caller in callers:
                await caller.write(part)
        assert await asyncio.gather(*(caller.commit() for caller in callers)) == ids
        for caller in callers:
            caller.close()

    go(tmp_path, scenario)
    assert [path.name for path in incoming(tmp_path)] == ids
    assert {stored(path)[1] for path in incoming(tmp_path)} == {b"A: b\n\nbody\n"}


def test_the_queue_manager_is_told(tmp_path):
    async def scenario(role):
        told = asyncio.get_running_loop().create_future()
        announced = lambda call: told.set_result(call.parameters.queue_id) or queue.Announced()  # noqa: E731 -- short
        role.implement(queue.QUEUE, {"Announce": announced, "Flush": lambda _call: Nothing()})
        await cleanup.start(role)
        await store(role)
        assert await told == QUEUE_ID

    go(tmp_path, scenario)


@pytest.mark.parametrize(("crowded", "pauses"), [(True, [3]), (False, [])])
def test_a_message_is_accepted_later_while_the_queue_manager_is_behind(tmp_path, monkeypatch, crowded, pauses):
    slept, announcers = [], []

    class Seen(announcing.Announcer):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            announcers.append(self)

    async def pause(delay):
        slept.append(delay)

    async def scenario(role):
        answer = queue.Announced(crowded=crowded)
        role.implement(queue.QUEUE, {"Announce": lambda _call: answer, "Flush": lambda _call: Nothing()})
        await cleanup.start(role)
        await store(role)
        async with asyncio.timeout(30):
            while announcers[0]._telling is not None:  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0.01)
        with monkeypatch.context() as patch:
            patch.setattr(cleanup.asyncio, "sleep", pause)
            await store(role, queue_id="4jXZHh6nLGzDLbQ")

    monkeypatch.setattr(announcing, "_LOAD", 1)
    monkeypatch.setattr(cleanup, "Announcer", Seen)
    go(tmp_path, scenario, in_flow_delay="3s")
    assert slept == pauses


@pytest.mark.parametrize(
    ("content", "fields", "parameters", "expected", "logged"),
    [
        (CONTENT, {"recipients": ()}, {}, "550 5.1.0 Error: no recipients specified", ""),
        (CONTENT, {"recipients": (), "extract_recipients": True}, {}, "550 5.1.0 Error: no recipients specified", ""),
        (b"\n" + b"x" * 200_000, {}, {"message_size_limit": "100000"}, "552 5.3.4 Error: message file too big",
         f"warning: {QUEUE_ID}: queue file size limit exceeded"),
        (b"Received: x\n" * 50, {}, {}, "554 5.4.0 Error: too many hops",
         f"warning: {QUEUE_ID}: message rejected: hopcount exceeded"),
        (CONTENT, {"queue_id": "../../x"}, {}, "451 4.3.0 Error: queue file write error",
         "warning: ../../x: not a queue ID: '../../x'"),
        (CONTENT, {"sender": "a\nRx@y"}, {}, "451 4.3.0 Error: queue file write error",
         f"warning: {QUEUE_ID}: NUL, CR or LF in a record: 'a\\nRx@y'"),
    ],
)  # fmt: skip
def test_refusals_leave_nothing(tmp_path, content, fields, parameters, expected, logged):
    async def scenario(role):
        await cleanup.start(role)
        assert await refusal(role, content, **fields) == expected
        assert role.work == 0

    role = go(tmp_path, scenario, **parameters)
    assert incoming(tmp_path) == []
    assert logged in ["", *role.journal.lines]


def test_a_refused_message_is_canceled(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        await refusal(role, recipients=())

    lines = go(tmp_path, scenario).journal.lines
    assert lines == [f"{QUEUE_ID}: message-id=<{QUEUE_ID}@mx.example.org>", f"{QUEUE_ID}: removed (canceled)"]


def test_a_name_that_is_taken_is_refused_and_the_message_stays(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        await store(role)
        assert await refusal(role, b"To: other\n\n") == "451 4.3.0 Error: queue file write error"

    go(tmp_path, scenario)
    (path,) = incoming(tmp_path)
    assert stored(path)[1].endswith(b"hello\n")


def test_closing_the_connection_aborts(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        async with opener(role) as caller:
            await caller.open()
            await caller.write(CONTENT + b"x" * 300_000)
            assert [path.stat().st_mode & 0o777 for path in incoming(tmp_path)] == [0o600]
        await role.idle()

    role = go(tmp_path, scenario)
    assert incoming(tmp_path) == []
    assert role.journal.lines == [f"{QUEUE_ID}: removed (canceled)"]


def test_another_transaction_on_a_connection_aborts_the_first(tmp_path):
    other = "4jXZHh6nLGzDLbQ"

    async def scenario(role):
        await cleanup.start(role)
        async with opener(role) as caller:
            await caller.open()
            await caller.open(queue_id=other)
            await caller.write(CONTENT)
            assert await caller.commit() == other
            await caller.open()
            await caller.write(CONTENT)
            assert await caller.commit() == QUEUE_ID

    role = go(tmp_path, scenario)
    assert [path.name for path in incoming(tmp_path)] == [QUEUE_ID, other]
    assert role.journal.lines[0] == f"{QUEUE_ID}: removed (canceled)"


def test_nothing_is_committed_that_was_not_opened(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        session = await role.client(INTERFACE).session()
        with pytest.raises(Refused) as caught:
            await session.call("Commit", Nothing())
        assert caught.value.parameters.code == 451
        session.close()

    go(tmp_path, scenario)


def test_content_must_come_through_a_pipe(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        session = await role.client(INTERFACE).session()
        with (tmp_path / "file").open("wb") as file, pytest.raises(Refused):
            await session.call("Open", request(), (file.fileno(),))
        session.close()

    go(tmp_path, scenario)
    assert incoming(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "452 4.3.1 Insufficient system storage"),
        (errno.EDQUOT, "452 4.3.1 Insufficient system storage"),
        (errno.EIO, "451 4.3.0 Error: queue file write error"),
    ],
)
@pytest.mark.parametrize("call", ["open", "write", "fchmod", "fsync", "the kernel's sync"])
def test_trouble_with_the_disk_leaves_nothing(tmp_path, monkeypatch, call, number, expected):
    if call == "the kernel's sync":
        place, name, real = KernelSync, "ended", KernelSync.ended
    else:
        place, name, real = os, call, getattr(os, call)
        monkeypatch.setattr(flusher, "KernelSync", no_kernel_sync)

    def failing(*arguments, **named):
        if call == "open" and not str(arguments[0]).startswith("incoming/"):
            return real(*arguments, **named)
        if call == "write" and not os.readlink(f"/proc/self/fd/{arguments[0]}").startswith(str(tmp_path)):
            return real(*arguments, **named)
        if place is KernelSync:
            return [(tag, number) for tag, _ in real(*arguments)]
        raise OSError(number, os.strerror(number))

    async def scenario(role):
        await cleanup.start(role)
        with monkeypatch.context() as patch:
            patch.setattr(place, name, failing)
            assert await refusal(role, b"\n" + b"x" * 300_000) == expected
        await store(role)

    role = go(tmp_path, scenario)
    assert [path.name for path in incoming(tmp_path)] == [QUEUE_ID]
    assert any(line.startswith(f"warning: {QUEUE_ID}: [Errno {number}]") for line in role.journal.lines)


@pytest.mark.parametrize(
    ("space", "parameters", "room"),
    [
        (Space(1_500_000, 1), {"message_size_limit": "1000000"}, True),
        (Space(1_499_999, 1), {"message_size_limit": "1000000"}, False),
        (Space(1_999_999, 1), {"message_size_limit": "1000000", "queue_minfree": "2000000"}, False),
        (Space(1_500_000, 0), {"message_size_limit": "1000000"}, False),
    ],
)
def test_there_must_be_room_before_a_message_is_begun(tmp_path, monkeypatch, space, parameters, room):
    monkeypatch.setattr(Spool, "free_space", lambda _spool: space)

    async def scenario(role):
        await cleanup.start(role)
        if room:
            await store(role)
        else:
            assert await refusal(role) == "452 4.3.1 Insufficient system storage"

    go(tmp_path, scenario, **parameters)
    assert len(incoming(tmp_path)) == room


def test_a_queue_directory_in_trouble_is_no_lack_of_room(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        (tmp_path / "spool/incoming").rmdir()
        assert await refusal(role) == "451 4.3.0 Error: queue file write error"
        (tmp_path / "spool/incoming").mkdir()
        await store(role)

    go(tmp_path, scenario)


def test_the_end_waits_for_open_transactions(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        async with opener(role) as caller:
            await caller.open()
            await caller.write(CONTENT)
            ended = asyncio.ensure_future(role.on_stop[0]())
            await asyncio.sleep(0)
            assert not ended.done()
            await caller.commit()
            await ended

    go(tmp_path, scenario)


def test_nothing_is_answered_before_the_file_is_durable(tmp_path, monkeypatch):
    """The answer must come after the sync has ended, whoever makes it."""
    order = []
    real = DurableFile.settle

    def settle(file, error):
        real(file, error)
        order.append("durable")

    monkeypatch.setattr(DurableFile, "settle", settle)

    async def scenario(role):
        await cleanup.start(role)
        await store(role)
        order.append("answered")

    go(tmp_path, scenario)
    assert order == ["durable", "answered"]


def no_kernel_sync(_room):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def whole_content():
    """A pipe's reading end, with all content in it."""
    reading, writing = os.pipe()
    os.write(writing, b"Subject: x\n\nhello\n")
    os.close(writing)
    return reading


def test_a_whole_message_is_stored_in_one_call(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        session = await role.client(INTERFACE).session()
        reading = whole_content()
        queue_id = (await session.call("Store", request(), (reading,))).queue_id
        os.close(reading)
        assert [path.name for path in (tmp_path / "spool" / "incoming").iterdir()] == [queue_id]

    go(tmp_path, scenario)


def test_store_tells_why_it_was_refused_and_leaves_nothing(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        session = await role.client(INTERFACE).session()
        with (tmp_path / "file").open("wb") as file, pytest.raises(Refused) as refused:
            await session.call("Store", request(), (file.fileno(),))
        assert refused.value.parameters.text == "Error: queue file write error"
        assert list((tmp_path / "spool" / "incoming").iterdir()) == []

    go(tmp_path, scenario)


def test_commit_tells_why_an_open_without_reply_was_refused(tmp_path):
    async def scenario(role):
        await cleanup.start(role)
        session = await role.client(INTERFACE).session()
        with (tmp_path / "file").open("wb") as file:
            session.oneway("Open", request(), (file.fileno(),))
        with pytest.raises(Refused) as refused:
            await session.call("Commit", Nothing())
        assert refused.value.parameters.text == "Error: queue file write error"

    go(tmp_path, scenario)
