"""pickup: from maildrop/ to cleanup, and what happens when cleanup does not want it."""

import asyncio
import os
import pathlib
import re

import pytest
from roles.serving import FakeRole, run

from pyfix.conf.config import Config
from pyfix.roles import pickup
from pyfix.service import bounce, cleanup
from pyfix.service.interface import Nothing
from pyfix.spool.directories import Spool
from pyfix.spool.maildrop import MaildropWriter, NewSubmission
from pyfix.spool.queue_id import QueueIds, is_queue_id
from pyfix.system.clock import now_usec

IDS = QueueIds()
CONTENT = b"Subject: x\n\nhello\n"


def drop(directory: pathlib.Path, content: bytes = CONTENT, **fields) -> str:
    """A file in maildrop/ as postdrop makes it; its name."""
    (directory / "spool").mkdir(exist_ok=True)
    spool = Spool(str(directory / "spool"))
    spool.make_directories()
    name = IDS.new(now_usec())
    writer = MaildropWriter(spool.create(name, "maildrop"))
    submission = {"sender": "ada", "recipients": ("bob@example.com",), "arrival_usec": now_usec(), "uid": 1000}
    writer.begin(NewSubmission(**(submission | fields)))
    writer.write_content(content)
    writer.finish()
    writer.commit()
    spool.close()
    return name


def files(directory: pathlib.Path, queue: str = "maildrop") -> list[str]:
    return sorted(p.name for p in (directory / "spool" / queue).iterdir())


class Cleanup:
    """Takes messages; ``answers`` are errors to raise at Commit, one after the other."""

    def __init__(self, role: FakeRole, *answers) -> None:
        self.role = role
        self.answers = list(answers)
        self.got: list[tuple[cleanup.Open, bytes]] = []
        self.left: list[list[str]] = []
        role.implement(cleanup.INTERFACE, {"Open": self.open, "Commit": self.commit, "Store": self.store})

    def open(self, call) -> None:
        reading = asyncio.create_task(asyncio.to_thread(_read_all, call.take_fd(call.parameters.content)))
        call.connection.state = (call.parameters, reading)

    async def store(self, call) -> cleanup.Committed:
        self.open(call)
        return await self.commit(call)

    async def commit(self, call) -> cleanup.Committed:
        request, reading = call.connection.state
        content = await reading
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.left.append(files(self.role.directory))
        self.got.append((request, content))
        return cleanup.Committed(request.queue_id)


def _read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


class Bounce:
    """Keeps what it is told."""

    def __init__(self, role: FakeRole) -> None:
        self.entries: list[bounce.Append] = []
        self.notices: list[bounce.Notify] = []
        role.implement(bounce.INTERFACE, {"Append": self.append, "Notify": self.notify})

    def append(self, call) -> Nothing:
        self.entries.append(call.parameters)
        return Nothing()

    def notify(self, call) -> bounce.Notified:
        self.notices.append(call.parameters)
        os.close(call.take_fd(call.parameters.message))
        return bounce.Notified("4notice")


def refusal(code: int, status: str, text: str) -> cleanup.Refused:
    return cleanup.Refused(cleanup.RefusedParameters(code, status, text))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(pickup, "_FIRST_DELAY", 0.02)
    seconds = Config.seconds
    monkeypatch.setattr(Config, "seconds", lambda conf, name: 0.1 if name == "max_idle" else seconds(conf, name))


def until_idle(tmp_path, *answers, scenario=None, parameters=None):
    """Runs pickup until it ends by itself; the role and what cleanup and bounce got."""
    services = []

    async def main(role: FakeRole) -> None:
        services.extend((Cleanup(role, *answers), Bounce(role)))
        await pickup.start(role)
        if scenario is not None:
            await scenario(role)
        await role.stopped.wait()

    role = run(tmp_path, main, **(parameters or {}))
    return role, *services


def test_a_message_is_handed_over_and_then_removed(tmp_path) -> None:
    content = b"Subject: x\n\n" + b"y" * 70 + b"\n" * 300_000
    arrival = now_usec() - 5_000_000
    name = drop(
        tmp_path,
        content,
        recipients=("bob@example.com", "eve@example.com"),
        arrival_usec=arrival,
        full_name="Ada L",
        envid="e1",
        ret="HDRS",
        notify=4,
        encoding="8bit",
        smtputf8=True,
        trace_flags=512,
        verp_delimiters="+=",
    )
    role, taken, _ = until_idle(tmp_path)
    ((request, got),) = taken.got
    assert got == content
    assert taken.left == [[name]], "the file is there until cleanup has answered"
    assert files(tmp_path) == []
    assert is_queue_id(request.queue_id)
    assert request.queue_id != name
    assert [r.address for r in request.recipients] == ["bob@example.com", "eve@example.com"]
    assert [r.notify for r in request.recipients] == [4, 4]
    assert (request.sender, request.full_name, request.arrival_usec) == ("ada", "Ada L", arrival)
    assert (request.envid, request.ret, request.encoding, request.smtputf8) == ("e1", "HDRS", "8bit", True)
    assert not request.extract_recipients
    assert request.verp_delimiters == "+="
    assert request.attributes == {"rewrite_context": "local", "trace_flags": "512"}
    assert re.fullmatch(
        rf"Received: by mx\.example\.org \(pyfix, from userid 1000\)\n\tid {request.queue_id}; "
        r"\w{3}, [ \d]\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4} \(\w+\)",
        request.trace,
    )
    assert role.journal.lines == [f"{request.queue_id}: uid=1000 from=<ada>"]


def test_recipients_from_headers_are_cleanups_work(tmp_path) -> None:
    drop(tmp_path, recipients=(), extract_recipients=True)
    _, taken, _ = until_idle(tmp_path)
    assert taken.got[0][0].extract_recipients


def test_content_cannot_continue_the_received_header(tmp_path) -> None:
    drop(tmp_path, b" folded\n")
    _, taken, _ = until_idle(tmp_path)
    assert taken.got[0][1] == b"\n folded\n"


def test_files_that_come_while_it_runs_are_taken_at_once(tmp_path) -> None:
    async def scenario(role: FakeRole) -> None:
        for _ in range(3):
            drop(tmp_path)
            await asyncio.sleep(0.02)

    _, taken, _ = until_idle(tmp_path, scenario=scenario)
    assert len(taken.got) == 3


def test_many_files_are_taken_in_order_of_their_names(tmp_path) -> None:
    for number in range(30):
        drop(tmp_path, recipients=(f"r{number}@example.com",))
    _, taken, _ = until_idle(tmp_path)
    assert sorted(r.recipients[0].address for r, _ in taken.got) == sorted(f"r{n}@example.com" for n in range(30))
    assert files(tmp_path) == []


@pytest.mark.parametrize("times", [1, 3])
def test_a_refusal_for_now_is_tried_again(tmp_path, times: int) -> None:
    name = drop(tmp_path)
    role, taken, notices = until_idle(tmp_path, *[refusal(452, "4.3.1", "Insufficient system storage")] * times)
    assert len(taken.got) == 1
    assert notices.notices == []
    assert sum(line.startswith(f"warning: maildrop/{name}: ") for line in role.journal.lines) == times


def test_no_cleanup_no_loss(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pyfix.service.client.CONNECT_PATIENCE", 0)
    drop(tmp_path)
    late: list[Cleanup] = []

    async def main(role: FakeRole) -> None:
        await pickup.start(role)
        while not role.journal.lines:  # noqa: ASYNC110 -- the journal has no event to wait for
            await asyncio.sleep(0.005)
        assert len(files(tmp_path)) == 1
        late.append(Cleanup(role))
        await role.stopped.wait()

    run(tmp_path, main)
    assert len(late[0].got) == 1
    assert files(tmp_path) == []


def test_a_refusal_for_good_is_told_to_the_sender(tmp_path) -> None:
    drop(tmp_path, recipients=("bob@example.com", "eve@example.com"), notify=4)
    role, taken, notices = until_idle(tmp_path, refusal(552, "5.3.4", "Message file too big"))
    assert taken.got == []
    (append,) = notices.entries
    assert append.log == "bounce"
    assert [(e.recipient, e.status, e.reason, e.notify) for e in append.entries] == [
        ("bob@example.com", "5.3.4", "Message file too big", 4),
        ("eve@example.com", "5.3.4", "Message file too big", 4),
    ]
    assert notices.notices[0].sender == "ada"
    assert notices.notices[0].queue_id == append.queue_id
    assert files(tmp_path) == []
    assert role.journal.lines[-1] == f"warning: {append.queue_id}: 5.3.4 Message file too big"


def test_with_soft_bounce_a_refusal_for_good_is_tried_again(tmp_path) -> None:
    drop(tmp_path)
    answer = refusal(552, "5.3.4", "Message file too big")
    _, taken, notices = until_idle(tmp_path, answer, parameters={"soft_bounce": "yes"})
    assert notices.entries == []
    assert len(taken.got) == 1


def test_no_recipients_at_all(tmp_path) -> None:
    drop(tmp_path, recipients=(), extract_recipients=True)
    _, _, notices = until_idle(tmp_path, refusal(554, "5.1.3", "no recipients specified"))
    assert [e.recipient for e in notices.entries[0].entries] == ["unknown"]
    assert files(tmp_path) == []


def test_a_null_sender_gets_no_notice(tmp_path) -> None:
    drop(tmp_path, sender="")
    _, _, notices = until_idle(tmp_path, refusal(552, "5.3.4", "Message file too big"))
    assert notices.entries == []
    assert notices.notices == []
    assert files(tmp_path) == []


def test_what_is_no_submission_goes_to_corrupt(tmp_path) -> None:
    name = drop(tmp_path)
    path = tmp_path / "spool/maildrop" / name
    path.write_bytes(path.read_bytes()[:-4])
    good = drop(tmp_path)
    linked = drop(tmp_path)
    os.link(tmp_path / "spool/maildrop" / linked, tmp_path / "second")
    role, taken, _ = until_idle(tmp_path)
    assert files(tmp_path, "corrupt") == sorted([name, linked])
    assert len(taken.got) == 1
    assert files(tmp_path) == []
    assert any(line.startswith(f"warning: {name}: maildrop: ") for line in role.journal.lines)
    assert good not in files(tmp_path, "corrupt")


def test_a_file_that_is_not_whole_is_left_alone(tmp_path) -> None:
    (tmp_path / "spool").mkdir()
    spool = Spool(str(tmp_path / "spool"))
    spool.make_directories()
    file = spool.create("4jXZ1m485RzD2qY", "maildrop")

    async def scenario(role: FakeRole) -> None:
        drop(tmp_path)
        await asyncio.sleep(0.3)
        assert files(tmp_path) == ["4jXZ1m485RzD2qY"]
        assert not role.stopped.is_set(), "the path unit would start it again at once"
        file.abort()

    _, taken, _ = until_idle(tmp_path, scenario=scenario)
    assert len(taken.got) == 1


def test_a_stop_lets_the_message_at_hand_finish(tmp_path) -> None:
    async def main(role: FakeRole) -> None:
        taken = Cleanup(role)
        whole, commit = asyncio.Event(), taken.commit

        async def slow(call) -> cleanup.Committed:
            whole.set()
            await asyncio.sleep(0.05)
            return await commit(call)

        taken.commit = slow
        role._servers[0].implementation._entries["io.pyfix.Cleanup.Commit"].handler = slow
        drop(tmp_path)
        await pickup.start(role)
        await whole.wait()
        await role.on_stop[0]()
        assert len(taken.got) == 1
        assert files(tmp_path) == []

    run(tmp_path, main)
