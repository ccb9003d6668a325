"""local: what becomes of a message for a user of this machine."""

import errno
import gc
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import msgspec
import pytest
from roles.serving import Log

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.roles import local
from pyfix.roles.local import LocalAgent, start
from pyfix.service.delivery import Deliver, Delivered, Recipient
from pyfix.service.dispatch import Call, Connection
from pyfix.spool.record import END, EXTRACTED, TextEncoder, encode
from pyfix.system import account, mailbox
from pyfix.system.unix import Peer

CONTENT = b"Subject: hello\n\nFrom here to there\nend\n"


class Machine:
    """An agent with one user, ada, and what it did."""

    def __init__(self, directory: pathlib.Path, **parameters: str) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        self.spool = directory / "spool"
        self.spool.mkdir(exist_ok=True)
        self.log = Log()
        self.ada = account.Account("ada", os.geteuid(), os.getegid(), "Ada", str(self.home), "/bin/sh")
        settings = {"mail_spool_directory": str(self.spool), "myhostname": "mx.example.org"} | parameters
        conf = Config(str(directory), [Assignment(name, value, "main.cf", 1) for name, value in settings.items()])
        self.actor = account.Actor()
        self.agent = LocalAgent(conf, self.log, self.actor)
        self.message = directory / "message"

    def deliver(
        self,
        *recipients: Recipient,
        content: bytes = CONTENT,
        sender: str = "eve@example.com",
        verify: bool = False,
    ) -> Delivered:
        encoder = TextEncoder()
        self.message.write_bytes(
            encode(b"M", b"") + encoder.encode(content) + encoder.finish() + encode(EXTRACTED, b"") + encode(END, b"")
        )
        fd = os.open(self.message, os.O_RDONLY)
        request = Deliver(
            queue_id="4abc",
            message=0,
            content_offset=2,
            size=len(content),
            transport="local",
            nexthop="example.org",
            sender=sender,
            recipients=recipients,
            arrival_usec=0,
            active_usec=0,
            verify=verify,
        )
        call = Call(request, [fd], Connection(Peer(0, 0, 0)))
        done = self.agent.deliver(call)
        self.actor.be_itself()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        return done

    def to(self, address: str, **names) -> tuple[str, str, str]:
        (outcome,) = self.deliver(Recipient(9, address), **names).outcomes
        return outcome.status, outcome.dsn, outcome.reason


@pytest.fixture(autouse=True)
def no_other_thread():
    """Threads of tests before would forbid changes of identity. Those of a pool end when it is collected."""
    gc.collect()
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(5)


@pytest.fixture
def accounts(monkeypatch):
    """The user database: names to accounts, or an exception."""
    known: dict[str, object] = {}

    def by_name(name: str):
        found = known.get(name)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(account, "by_name", by_name)
    return known


@pytest.fixture
def machine(tmp_path, accounts):
    def make(**parameters: str) -> Machine:
        made = Machine(tmp_path, **parameters)
        accounts["ada"] = made.ada
        return made

    return make


HEAD = b"Return-Path: <eve@example.com>\nX-Original-To: ada@example.org\nDelivered-To: ada@example.org\n"


def test_maildir_in_the_home_directory(machine) -> None:
    host = machine(home_mailbox="Maildir/")
    assert host.to("ada@example.org") == ("sent", "2.0.0", "delivered to maildir")
    (name,) = os.listdir(host.home / "Maildir/new")
    assert name.endswith(".mx.example.org")
    assert (host.home / "Maildir/new" / name).read_bytes() == HEAD + CONTENT


@pytest.mark.parametrize(("home_mailbox", "kind"), [("Maildir/", "maildir"), ("mbox", "mailbox")])
def test_nothing_is_delivered_where_that_is_to_be_found_out_only(machine, home_mailbox: str, kind: str) -> None:
    host = machine(home_mailbox=home_mailbox)
    assert host.to("ada@example.org", verify=True) == ("sent", "2.0.0", f"delivers to {kind}")
    assert host.to("nobody.here@example.org", verify=True)[:2] == ("bounced", "5.1.1")
    assert os.listdir(host.home) == []


def test_log_line(machine) -> None:
    host = machine(home_mailbox="Maildir/")
    host.deliver(Recipient(9, "ada@example.org", "info@example.org"))
    (line,) = host.log.lines
    assert re.fullmatch(
        r"4abc: to=<ada@example\.org>, orig_to=<info@example\.org>, relay=local, delay=\d+, "
        r"delays=0/\d+/0/0(\.\d+)?, dsn=2\.0\.0, status=sent \(delivered to maildir\)",
        line,
    )


def test_mbox_in_the_spool(machine) -> None:
    host = machine()
    assert host.to("Ada@example.org", content=b"Subject: x\n\nno line end") == ("sent", "2.0.0", "delivered to mailbox")
    host.to("ada@example.org", sender="")
    first, second = (host.spool / "ada").read_bytes().split(b"\n\nFrom MAILER-DAEMON  ")
    assert re.fullmatch(rb"From eve@example\.com  \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", first.split(b"\n")[0])
    assert first.endswith(b"\nDelivered-To: Ada@example.org\nSubject: x\n\nno line end")
    assert second.endswith(b"\nSubject: hello\n\n>From here to there\nend\n\n")


def test_maildir_in_the_spool_and_mbox_in_the_home_directory(tmp_path, accounts) -> None:
    (tmp_path / "a").mkdir()
    host = Machine(tmp_path / "a", mail_spool_directory=f"{tmp_path}/a/spool/")
    accounts["ada"] = host.ada
    assert host.to("ada@example.org")[2] == "delivered to maildir"
    assert len(os.listdir(host.spool / "ada/new")) == 1
    (tmp_path / "b").mkdir()
    host = Machine(tmp_path / "b", home_mailbox="mbox")
    accounts["ada"] = host.ada
    assert host.to("ada@example.org")[2] == "delivered to mailbox"
    assert (host.home / "mbox").exists()


def test_the_extension_is_cut_off_for_the_look_up_only(machine) -> None:
    host = machine(home_mailbox="Maildir/", recipient_delimiter="+")
    assert host.to("ada+Lists@example.org")[0] == "sent"
    (name,) = os.listdir(host.home / "Maildir/new")
    assert b"\nDelivered-To: ada+Lists@example.org\n" in (host.home / "Maildir/new" / name).read_bytes()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("bob@example.org", ("bounced", "5.1.1", 'unknown user: "bob"')),
        ("../ada@example.org", ("bounced", "5.1.1", 'unknown user: "../ada"')),
        ("@example.org", ("bounced", "5.1.3", 'null username in "@example.org"')),
    ],
)
def test_nobody_to_deliver_to(machine, address: str, expected: tuple[str, str, str]) -> None:
    assert expected == machine().to(address)


def test_with_soft_bounce_nothing_is_returned(machine) -> None:
    host = machine(soft_bounce="yes")
    assert host.to("bob@example.org") == ("deferred", "4.1.1", 'unknown user: "bob"')
    assert host.log.lines[-1].endswith('dsn=4.1.1, status=SOFTBOUNCE (unknown user: "bob")')


def test_a_user_database_in_trouble_defers(machine, accounts) -> None:
    accounts["ada"] = OSError(errno.EIO, "Input/output error")
    host = machine()
    accounts["ada"] = OSError(errno.EIO, "Input/output error")
    assert host.to("ada@example.org") == ("deferred", "4.0.0", "user lookup error")


def test_an_account_is_believed_for_a_moment_only(machine, accounts, monkeypatch) -> None:
    host = machine(home_mailbox="Maildir/")
    now = 100.0
    monkeypatch.setattr(local, "monotonic", lambda: now)
    assert host.to("ada@example.org")[0] == "sent"
    del accounts["ada"]
    assert host.to("ada@example.org")[0] == "sent"
    assert host.to("bob@example.org")[0] == "bounced"
    assert host.to("ada+lists@example.org")[0] == "bounced"
    accounts["bob"] = host.ada._replace(name="bob")
    assert host.to("bob@example.org")[0] == "sent"
    assert host.to("ada@example.org")[0] == "bounced"
    del accounts["bob"]
    assert host.to("bob@example.org")[0] == "sent"
    now += 1.5
    assert host.to("bob@example.org")[0] == "bounced"
    accounts["ada"] = host.ada
    assert host.to("ada@example.org")[0] == "sent"
    del accounts["ada"]
    now += 1.5
    assert host.to("ada@example.org")[0] == "bounced"


def test_a_loop_bounces(machine) -> None:
    host = machine(home_mailbox="Maildir/")
    host.to("ada@example.org")
    (name,) = os.listdir(host.home / "Maildir/new")
    again = (host.home / "Maildir/new" / name).read_bytes()
    expected = ("bounced", "5.4.6", "mail forwarding loop for ada@example.org")
    assert expected == host.to("ada@example.org", content=again)
    assert len(os.listdir(host.home / "Maildir/new")) == 1


def test_no_home_directory_defers(machine) -> None:
    host = machine(home_mailbox="Maildir/")
    host.home.rmdir()
    reason = f"cannot access home directory {host.home}: No such file or directory"
    assert host.to("ada@example.org") == ("deferred", "4.3.0", reason)
    assert not host.home.exists()


def test_a_required_home_directory_defers_mail_for_the_spool_too(machine) -> None:
    host = machine(require_home_directory="yes")
    host.home.rmdir()
    assert host.to("ada@example.org")[:2] == ("deferred", "4.3.0")


@pytest.mark.parametrize("home_mailbox", ["Maildir/", "mbox"])
def test_a_full_mailbox_bounces_and_stays_as_it_was(machine, home_mailbox: str) -> None:
    host = machine(home_mailbox=home_mailbox, mailbox_size_limit="2000", message_size_limit="1000")
    status, dsn, reason = host.to("ada@example.org", content=b"x" * 3000 + b"\n")
    assert (status, dsn) == ("bounced", "5.2.2")
    assert reason.endswith("error writing message: File too large")
    assert [p for p in host.home.rglob("*") if p.is_file() and p.stat().st_size] == []


def test_a_full_disk_defers(machine, monkeypatch) -> None:
    def full(*_args: object) -> None:
        raise mailbox.MailboxError(errno.ENOSPC, "error writing message: No space left on device")

    host = machine(home_mailbox="Maildir/")
    monkeypatch.setattr(mailbox, "deliver_to_maildir", full)
    expected = ("deferred", "4.3.0", "maildir delivery failed: error writing message: No space left on device")
    assert expected == host.to("ada@example.org")


def test_what_is_no_mailbox_bounces(machine) -> None:
    host = machine()
    (host.spool / "ada").mkdir()
    reason = f"cannot update mailbox {host.spool}/ada for user ada. cannot open file: Is a directory"
    assert host.to("ada@example.org") == ("bounced", "5.2.0", reason)
    (host.spool / "ada").rmdir()
    os.mkfifo(host.spool / "ada")
    reason = f"destination {host.spool}/ada is not a regular file"
    assert host.to("ada@example.org") == ("bounced", "5.2.0", reason)


def test_a_mailbox_of_someone_else_defers(machine, accounts) -> None:
    host = machine()
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    (host.spool / "ada").write_bytes(b"")
    os.chown(host.spool / "ada", 65534, -1)
    reason = f"destination {host.spool}/ada is not owned by recipient"
    assert host.to("ada@example.org") == ("deferred", "4.2.0", reason)


def test_each_recipient_has_an_outcome_of_its_own(machine) -> None:
    host = machine(home_mailbox="Maildir/")
    done = host.deliver(Recipient(5, "bob@example.org"), Recipient(7, "ada@example.org"))
    assert [(o.offset, o.status) for o in done.outcomes] == [(5, "bounced"), (7, "sent")]


def test_a_torn_queue_file_defers_and_delivers_nothing(machine, monkeypatch) -> None:
    host = machine(home_mailbox="Maildir/")
    whole = TextEncoder.finish
    monkeypatch.setattr(TextEncoder, "finish", lambda self: whole(self) + encode(b"?", b""))
    assert host.to("ada@example.org") == ("deferred", "4.3.0", "message file is corrupt")
    assert os.listdir(host.home / "Maildir/new") == []
    assert os.listdir(host.home / "Maildir/tmp") == []


def test_other_users_mail_waits_where_local_is_not_root(machine, accounts, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    host = machine(home_mailbox="Maildir/")
    accounts["ada"] = host.ada._replace(uid=12345)
    reason = 'uid 54321 may not deliver to user "ada": the local role is not root'
    assert host.to("ada@example.org") == ("deferred", "4.3.0", reason)


def test_lines_can_be_switched_off(machine) -> None:
    host = machine(home_mailbox="Maildir/", enable_original_recipient="no", prepend_delivered_header="command")
    host.to("ada@example.org")
    (name,) = os.listdir(host.home / "Maildir/new")
    assert (host.home / "Maildir/new" / name).read_bytes() == b"Return-Path: <eve@example.com>\n" + CONTENT


def test_a_mailbox_limit_below_the_message_limit_is_a_mistake(machine) -> None:
    with pytest.raises(ConfigError, match="mailbox_size_limit: is smaller than message_size_limit"):
        machine(mailbox_size_limit="100")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others")
@pytest.mark.parametrize("mode", [0o1777, 0o2775, 0o755], ids=oct)
def test_root_delivers_as_the_user(accounts, mode: int) -> None:
    directory = pathlib.Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        host = Machine(directory)
        host.spool.chmod(mode)
        os.chown(host.spool, 0, 8)
        accounts["ada"] = host.ada._replace(uid=65534, gid=65533)
        assert host.to("ada@example.org")[2] == "delivered to mailbox"
        status = (host.spool / "ada").stat()
        assert (status.st_uid, status.st_gid) == (65534, 8 if mode == 0o2775 else 65533)
        assert os.listdir(host.spool) == ["ada"]
        shutil.rmtree(host.home)
        host.home.mkdir()
        os.chown(host.home, 65534, 65533)
        host.agent = LocalAgent(
            Config("", [Assignment("home_mailbox", "Maildir/", "", 1), Assignment("myhostname", "h", "", 1)]),
            host.log,
            host.actor,
        )
        assert host.to("ada@example.org")[2] == "delivered to maildir"
        assert {(p.stat().st_uid, p.stat().st_gid) for p in host.home.rglob("*")} == {(65534, 65533)}
        (host.home / "Maildir/new").chmod(0)
        assert host.to("ada@example.org")[:2] == ("deferred", "4.2.0")
    finally:
        shutil.rmtree(directory)
    assert (os.geteuid(), os.getegid()) == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others")
def test_every_delivery_is_done_as_its_own_recipient_and_every_look_up_as_root(
    public_directory, accounts, monkeypatch
) -> None:
    taken: list[int] = []
    asked: list[tuple[str, int]] = []
    take, find = account._take, account.by_name

    def noted_take(uid: int, gid: int) -> None:
        taken.append(uid)
        take(uid, gid)

    def noted_find(name: str) -> account.Account | None:
        asked.append((name, os.geteuid()))
        return find(name)

    monkeypatch.setattr(account, "_take", noted_take)
    monkeypatch.setattr(account, "by_name", noted_find)
    host = Machine(public_directory, home_mailbox="Maildir/")
    for name, uid in (("ada", 65534), ("bob", 65533)):
        home = public_directory / name
        home.mkdir(mode=0o700)
        os.chown(home, uid, uid)
        accounts[name] = host.ada._replace(name=name, uid=uid, gid=uid, home=str(home))
    order = ("ada", "ada", "bob", "ada", "eve", "ada")
    done = host.deliver(*[Recipient(place, f"{name}@example.org") for place, name in enumerate(order)])
    assert [outcome.status for outcome in done.outcomes] == ["sent", "sent", "sent", "sent", "bounced", "sent"]
    for name, number in (("ada", 4), ("bob", 1)):
        found = list((public_directory / name).rglob("Maildir/new/*"))
        assert len(found) == number
        assert {path.stat().st_uid for path in found} == {accounts[name].uid}
    # one change for the first two; the look-up of nobody's name is a reason to become root and ada again
    assert taken == [65534, 65533, 65534, 65534]
    assert asked == [(name, 0) for name in ("ada", "bob", "ada", "eve")]


def deliver_with_two_capabilities(directory: pathlib.Path) -> tuple[str, str, str]:
    """What becomes of mail to a user when root has CAP_SETUID and CAP_SETGID alone, as in local's unit."""
    program = """
import os, pathlib, sys
from roles.test_local import Machine
from pyfix.system import account
known = {}
account.by_name = known.get
host = Machine(pathlib.Path(sys.argv[1]))
known["ada"] = host.ada._replace(uid=65534, gid=65534)
print(*host.to("ada@example.org"), sep="|")
"""
    capabilities = "-all,+setuid,+setgid"
    done = subprocess.run(
        ["setpriv", f"--bounding-set={capabilities}", sys.executable, "-c", program, str(directory)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, dsn, reason = done.stdout.strip().split("|")
    return status, dsn, reason


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others")
@pytest.mark.parametrize(
    ("group", "mode", "is_new", "expected"),
    [
        # as Debian's /var/mail is
        (8, 0o2775, True, ("sent", "2.0.0")),
        (8, 0o2775, False, ("sent", "2.0.0")),
        (8, 0o2770, False, ("sent", "2.0.0")),
        (0, 0o1777, True, ("sent", "2.0.0")),
        (0, 0o755, False, ("sent", "2.0.0")),
        (0, 0o755, True, ("deferred", "4.2.0")),
        (8, 0o2555, True, ("deferred", "4.2.0")),
    ],
)
def test_mailboxes_where_root_cannot_give_files_away(public_directory, group, mode, is_new, expected) -> None:
    spool = public_directory / "spool"
    spool.mkdir()
    os.chown(spool, 0, group)
    spool.chmod(mode)
    if not is_new:
        (spool / "ada").write_bytes(b"")
        (spool / "ada").chmod(0o600)
        os.chown(spool / "ada", 65534, 65534)
    status, dsn, _ = deliver_with_two_capabilities(public_directory)
    assert (status, dsn) == expected
    if status == "sent":
        found = (spool / "ada").stat()
        assert (found.st_uid, found.st_mode & 0o777) == (65534, 0o600)
        assert found.st_gid == (group or 65534 if is_new else 65534)
        assert b"\nSubject: hello\n" in (spool / "ada").read_bytes()
    assert os.listdir(spool) == (["ada"] if status == "sent" else [])


class Worker:
    """A forked worker of the role, with the test at the other end of its connection."""

    def __init__(self, tmp_path, monkeypatch) -> None:
        self.sock, theirs = socket.socketpair()
        told, self.go_on = os.pipe()
        self.working, tell = os.pipe()
        self._pipes = (told, self.go_on, self.working, tell)

        def deliver(_agent, _call) -> Delivered:
            os.write(tell, b"w")
            os.read(told, 1)
            return Delivered(())

        monkeypatch.setattr(LocalAgent, "deliver", deliver)
        role = Log()
        role.conf, role.journal = Config(str(tmp_path)), role
        serve = start(role)
        self.pid = os.fork()
        if self.pid == 0:
            self.sock.close()
            serve(theirs)
            os._exit(0)
        theirs.close()
        self.sock.settimeout(10)

    def call(self) -> None:
        request = Deliver("4abc", 0, 0, 0, "local", "", "", (), 0, 0)
        call = {"method": "io.pyfix.Delivery.Deliver", "parameters": msgspec.to_builtins(request)}
        with open(os.devnull, "rb") as nothing:
            socket.send_fds(self.sock, [msgspec.json.encode(call) + b"\0"], [nothing.fileno()])

    def status(self) -> int:
        status = os.waitpid(self.pid, 0)[1]
        self.sock.close()
        for fd in self._pipes:
            os.close(fd)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.system
def test_an_idle_worker_ends_when_it_is_told_to(tmp_path, monkeypatch) -> None:
    worker = Worker(tmp_path, monkeypatch)
    worker.call()
    os.read(worker.working, 1)
    os.write(worker.go_on, b"g")
    assert worker.sock.recv(1000).startswith(b'{"parameters"')
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.status() == 0


@pytest.mark.system
def test_a_worker_finishes_its_delivery_and_answers_before_it_ends(tmp_path, monkeypatch) -> None:
    worker = Worker(tmp_path, monkeypatch)
    worker.call()
    os.read(worker.working, 1)
    os.kill(worker.pid, signal.SIGTERM)
    os.write(worker.go_on, b"g")
    assert worker.sock.recv(1000).startswith(b'{"parameters"')
    assert worker.status() == 0
