"""postdrop: what local users may submit, and what is left of what they may not."""

import asyncio
import contextlib
import os
import pathlib
import socket

import pytest
from roles.serving import FakeRole, run

from pyfix.roles import postdrop
from pyfix.service.interface import Nothing
from pyfix.service.postdrop import INTERFACE, Open, Refused
from pyfix.service.turns import Turns
from pyfix.service.varlink import InvalidParameter
from pyfix.spool.content import read_content
from pyfix.spool.maildrop import Submission, read_submission
from pyfix.system import account, durable
from pyfix.system.clock import now_usec

ADA = account.Account("ada", os.getuid(), 1, "Ada & Co,,", "/home/ada", "/bin/sh")


@pytest.fixture(autouse=True)
def ada(monkeypatch):
    monkeypatch.setattr(account, "by_uid", lambda _uid: ADA)


def maildrop(directory: pathlib.Path) -> list[pathlib.Path]:
    return sorted((directory / "spool").glob("maildrop/*"))


def stored(path: pathlib.Path) -> tuple[Submission, bytes]:
    fd = os.open(path, os.O_RDONLY)
    try:
        submission = read_submission(fd)
        return submission, b"".join(read_content(fd, submission.content_offset))
    finally:
        os.close(fd)


async def submit(role: FakeRole, content: bytes = b"Subject: x\n\nhello\n", **fields):
    session = await role.client(INTERFACE).session()
    reading, writing = os.pipe()
    try:
        request = Open(**({"content": 0, "sender": None, "recipients": ("bob@example.com",)} | fields))
        opened = session.send("Open", request, (reading,))
        os.close(reading)
        await asyncio.gather(opened, asyncio.to_thread(_write, writing, content))
        return (await session.call("Commit", Nothing())).queue_id
    finally:
        session.close()


def _write(fd: int, content: bytes) -> None:
    try:
        while content:
            content = content[os.write(fd, content) :]
    except BrokenPipeError:
        pass
    finally:
        os.close(fd)


def test_a_submission_is_stored_whole(tmp_path) -> None:
    content = b"Subject: x\n\n" + b"line\n" * 100_000 + b"no line end"
    before = now_usec()

    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        queue_id = await submit(
            role, content, recipients=("bob@example.com", "\u00e9@example.com"), envid="e=1", ret="HDRS", notify=6
        )
        assert [p.name for p in maildrop(tmp_path)] == [queue_id]
        assert role.work == 0

    run(tmp_path, scenario)
    (path,) = maildrop(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o700
    submission, text = stored(path)
    assert text == content + b"\n"
    assert [r.address for r in submission.recipients] == ["bob@example.com", "\u00e9@example.com"]
    assert [r.notify for r in submission.recipients] == [6, 6]
    assert (submission.sender, submission.full_name, submission.uid) == ("ada", "Ada Ada Co", os.getuid())
    assert (submission.envid, submission.ret) == ("e=1", "HDRS")
    assert before <= submission.arrival_usec <= now_usec()


def test_what_the_caller_says_of_itself(tmp_path) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        await submit(role, sender="", full_name="")
        await submit(role, sender="eve@example.org", full_name="Eve", recipients=(), extract_recipients=True)

    run(tmp_path, scenario)
    first, second = (stored(path)[0] for path in maildrop(tmp_path))
    assert (first.sender, first.full_name, first.uid) == ("", "", os.getuid())
    assert (second.sender, second.full_name, second.extract_recipients) == ("eve@example.org", "Eve", True)


@pytest.mark.parametrize(
    ("fields", "flags", "delimiters"),
    [({"trace": "record"}, "1024", ""), ({"trace": "verify"}, "512", ""), ({"verp_delimiters": "+="}, "", "+=")],
)
def test_reports_and_return_paths(tmp_path, fields, flags: str, delimiters: str) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        await submit(role, **fields)

    run(tmp_path, scenario)
    [(submission, _)] = map(stored, maildrop(tmp_path))
    assert (submission.attributes.get("trace_flags", ""), submission.verp_delimiters) == (flags, delimiters)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"recipients": ()}, "5.5.2"),
        ({"recipients": ("",)}, "5.5.2"),
        ({"recipients": ("a@b\nR\x05eve",)}, "5.5.2"),
        ({"recipients": ("a@b\0",)}, "5.5.2"),
        ({"sender": "a\r@b"}, "5.5.2"),
        ({"sender": "x" * 3000}, "5.5.2"),
        ({"full_name": "a\nb"}, "5.5.2"),
        ({"envid": "a\nb"}, "5.5.2"),
        ({"ret": "ALL"}, "5.5.2"),
        ({"notify": 3}, "5.5.2"),
        ({"encoding": "base64"}, "5.5.2"),
        ({"verp_delimiters": "+"}, "5.5.2"),
        ({"verp_delimiters": "@\n"}, "5.5.2"),
    ],
)
def test_envelopes_that_no_file_may_hold(tmp_path, fields, status: str) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        with pytest.raises(Refused) as caught:
            await submit(role, **fields)
        assert caught.value.parameters.status == status

    role = run(tmp_path, scenario)
    assert maildrop(tmp_path) == []
    assert role.work == 0


def test_a_message_over_the_limit_leaves_nothing(tmp_path) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        await submit(role, b"x" * 999 + b"\n")
        with pytest.raises(Refused) as caught:
            await submit(role, b"x" * 300_000)
        assert (caught.value.parameters.status, caught.value.parameters.text) == ("5.3.4", "message file too big")

    run(tmp_path, scenario, message_size_limit="1000")
    assert len(maildrop(tmp_path)) == 1


@pytest.mark.parametrize(("error", "status"), [(durable.NoSpace, "4.3.1"), (durable.WriteError, "4.3.0")])
@pytest.mark.parametrize("step", ["write", "seal", "settle"])
def test_trouble_with_the_disk_is_temporary(tmp_path, monkeypatch, error, status: str, step: str) -> None:
    def fail(self, *_args) -> None:
        self.abort()
        raise error(28, "no", "maildrop/x")

    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        monkeypatch.setattr(durable.DurableFile, step, fail)
        with pytest.raises(Refused) as caught:
            await submit(role)
        assert caught.value.parameters.status == status

    role = run(tmp_path, scenario)
    assert maildrop(tmp_path) == []
    assert role.journal.lines == [f"warning: uid={os.getuid()}: maildrop/x: no"]


@pytest.mark.parametrize("committing", [False, True])
def test_a_caller_who_goes_away_before_commit_leaves_nothing(tmp_path, committing: bool) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        session = await role.client(INTERFACE).session()
        reading, writing = os.pipe()
        await session.call("Open", Open(0, "a", ("b",)), (reading,))
        os.close(reading)
        os.write(writing, b"half")
        assert (role.work, len(maildrop(tmp_path))) == (1, 1)
        if committing:  # the pipe is still open: Commit waits for its end
            session.send("Commit", Nothing())
        session.close()
        await role.idle()
        assert maildrop(tmp_path) == []
        os.close(writing)

    run(tmp_path, scenario)


@pytest.mark.parametrize("recipients", [("b",), ()])
def test_a_whole_submission_is_stored_or_refused_in_one_call(tmp_path, recipients) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        session = await role.client(INTERFACE).session()
        reading, writing = os.pipe()
        os.write(writing, b"x\n")
        os.close(writing)
        stored = session.send("Store", Open(0, "a", recipients), (reading,))
        os.close(reading)
        if recipients:
            assert (await stored).queue_id == maildrop(tmp_path)[0].name
        else:
            with pytest.raises(Refused, match="no recipients specified"):
                await stored
            assert maildrop(tmp_path) == []

    run(tmp_path, scenario)


def test_commit_tells_why_an_open_without_reply_was_refused(tmp_path) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        session = await role.client(INTERFACE).session()
        reading, writing = os.pipe()
        session.oneway("Open", Open(0, "a", ()), (reading,))
        os.close(reading)
        os.close(writing)
        with pytest.raises(Refused) as refused:
            await session.call("Commit", Nothing())
        assert (refused.value.parameters.status, refused.value.parameters.text) == ("5.5.2", "no recipients specified")

    run(tmp_path, scenario)


def test_a_caller_who_makes_the_pipe_blocking_holds_nobody_up(tmp_path) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        session = await role.client(INTERFACE).session()
        reading, writing = os.pipe()
        await session.call("Open", Open(0, "a", ("b",)), (reading,))
        os.set_blocking(reading, True)
        for _ in range(20):
            os.write(writing, b"x")
            await asyncio.sleep(0)
            os.set_blocking(reading, False)
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 1)  # steals what postdrop was told is there
            os.set_blocking(reading, True)
        await submit(role)
        os.close(reading)
        os.close(writing)
        session.close()

    run(tmp_path, scenario)


def test_what_is_no_pipe_is_refused(tmp_path) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        session = await role.client(INTERFACE).session()
        one, other = socket.socketpair()
        file = os.open(tmp_path, os.O_RDONLY)
        for fd in (file, one.fileno()):
            with pytest.raises(Refused) as caught:
                await session.call("Open", Open(0, "a", ("b",)), (fd,))
            assert caught.value.parameters.status == "5.5.4"
        os.close(file)
        one.close()
        other.close()
        with pytest.raises(InvalidParameter):
            await session.call("Open", Open(0, "a", ("b",)))
        assert role.work == 0

    run(tmp_path, scenario)
    assert maildrop(tmp_path) == []


def test_calls_out_of_order(tmp_path) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        session = await role.client(INTERFACE).session()
        with pytest.raises(Refused):
            await session.call("Commit", Nothing())
        reading, writing = os.pipe()
        await session.call("Open", Open(0, "a", ("b",)), (reading,))
        with pytest.raises(Refused):
            await session.call("Open", Open(0, "a", ("b",)), (reading,))
        os.close(reading)
        os.close(writing)
        assert (await session.call("Commit", Nothing())).queue_id == maildrop(tmp_path)[0].name
        with pytest.raises(Refused):
            await session.call("Commit", Nothing())
        session.close()

    run(tmp_path, scenario)


def test_silence_is_not_waited_for_for_ever(tmp_path) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        session = await role.client(INTERFACE).session()
        reading, writing = os.pipe()
        await session.call("Open", Open(0, "a", ("b",)), (reading,))
        with pytest.raises(Refused) as caught:
            await session.call("Commit", Nothing())
        assert caught.value.parameters.status == "4.4.2"
        os.close(reading)
        os.close(writing)

    run(tmp_path, scenario, ipc_timeout="1")
    assert maildrop(tmp_path) == []


@pytest.mark.parametrize(
    ("allowed", "fine"),
    [("ada", True), ("bob, ada", True), ("!ada, static:anyone", False), ("", False), ("bob", False)],
)
def test_authorized_submit_users(tmp_path, allowed: str, fine: bool) -> None:
    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        if fine:
            await submit(role)
            return
        with pytest.raises(Refused) as caught:
            await submit(role)
        text = f"User ada({os.getuid()}) is not allowed to submit mail"
        assert (caught.value.parameters.status, caught.value.parameters.text) == ("5.7.1", text)

    run(tmp_path, scenario, authorized_submit_users=allowed)
    assert len(maildrop(tmp_path)) == fine


def test_a_user_database_in_trouble_is_temporary(tmp_path, monkeypatch) -> None:
    def fail(_uid: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(account, "by_uid", fail)

    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        with pytest.raises(Refused) as caught:
            await submit(role)
        assert caught.value.parameters.status == "4.3.0"

    run(tmp_path, scenario)


def test_a_user_without_a_name_must_give_a_sender(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(account, "by_uid", lambda _uid: None)

    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        with pytest.raises(Refused) as caught:
            await submit(role)
        assert caught.value.parameters.text == f"no login name found for user ID {os.getuid()}"
        await submit(role, sender="x@example.com")

    run(tmp_path, scenario)


def test_a_user_at_the_limit_waits_and_others_do_not() -> None:
    async def scenario() -> None:
        turns = Turns(2, 3)
        await turns.take(1)
        await turns.take(1)
        third = asyncio.create_task(turns.take(1))
        await turns.take(2)
        assert not third.done()
        fourth = asyncio.create_task(turns.take(3))
        turns.give_back(1)
        await asyncio.wait_for(asyncio.wait({third, fourth}, return_when=asyncio.FIRST_COMPLETED), 5)
        turns.give_back(2)
        await asyncio.gather(third, fourth)
        for uid in (1, 1, 3):
            turns.give_back(uid)
        await asyncio.wait_for(turns.all_back(), 5)

    asyncio.run(scenario())


def test_more_submissions_at_a_time_than_the_limit_all_get_through(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(postdrop, "UID_LIMIT", 3)

    async def scenario(role: FakeRole) -> None:
        await postdrop.start(role)
        assert len(set(await asyncio.gather(*(submit(role) for _ in range(20))))) == 20

    run(tmp_path, scenario)
    assert len(maildrop(tmp_path)) == 20
