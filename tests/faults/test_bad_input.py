"""Configurations and queue files that are wrong: what is wrong is said, with its place, and all else goes on."""

import contextlib
import os
import pwd
import random
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time

import pytest
from service.role_process import role
from system_under_test import ROOT, SystemUnderTest

from pyfix.spool.directories import ALL_DIRECTORIES
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.queue_file import QueueFileWriter
from pyfix.spool.queue_id import QueueIds
from pyfix.system.durable import DurableFile

pytestmark = pytest.mark.system

USER = pwd.getpwuid(os.getuid()).pw_name
ROLES = sorted(path.stem for path in (ROOT / "pyfix/roles").glob("*.py") if path.stem != "__init__")
SPOOLERS = ["bounce", "cleanup", "pickup", "postdrop", "qmgr", "showq"]
"""The roles that work in the queue directory."""
MAKERS = {"bounce": ("bounce", "defer", "trace"), "cleanup": ("hold", "incoming"), "qmgr": ALL_DIRECTORIES}
"""Which directories of it a role makes where they are missing: those that it can see."""
EX_CONFIG, EX_TEMPFAIL = 78, 75

BAD = {
    "recursion": ("myhostname = $mydomain\nmydomain = $myhostname\n", 2, "myhostname", "refers to itself"),
    "number": ("message_size_limit = 10k\n", 2, "message_size_limit", 'bad number "10k"'),
    "bounds": ("hash_queue_depth = 99\n", 2, "hash_queue_depth", '"99" is too large'),
    "time": ("queue_run_delay = 5x\n", 2, "queue_run_delay", 'bad time "5x"'),
    "truth value": ("append_dot_mydomain = perhaps\n", 2, "append_dot_mydomain", 'bad truth value "perhaps"'),
    "no assignment": ("just words\n", 2, "", "not an assignment"),
}
"""Lines of a main.cf: the line and the parameter to be named, and the reason."""
RESTRICTIONS = {
    "unknown restriction": "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destinatoin\n",
    "unknown class": "smtpd_recipient_restrictions = permit_mynetworks, nosuchclass, reject\n",
    "open relay": "smtpd_relay_restrictions = permit\n",
}


def place(file, line, parameter):
    return f"{file}, line {line}: " + (f"parameter {parameter}: " if parameter else "")


def role_source(name):
    return f"from pyfix.roles.{name} import main\nmain()\n"


def directory(tmp_path, name, bad):
    """A place for a role, whose main.cf is wrong from its second line on."""
    place = tmp_path / name.replace(" ", "-")
    (place / "spool").mkdir(parents=True)
    return place, f"queue_directory = {place}/spool\n{bad}"


def refusal(running):
    """What a role that does not start says: its status, its log and its exit status."""
    status = running.wait_notify("STATUS=Not started: ")
    return status.removeprefix("STATUS=Not started: "), running.log.read_text(), running.wait()


def command(directory, name, *arguments):
    source = f"import sys; sys.argv[0] = {name!r}; from pyfix.commands.{name} import main; sys.exit(main())"
    environment = os.environ | {
        "MAIL_CONFIG": str(directory), "PYTHONPATH": str(ROOT), "PYFIX_LOG": str(directory / "log"),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", source, *arguments], env=environment, capture_output=True, text=True, timeout=30
    )


# -- main.cf --


@pytest.mark.parametrize("name", ROLES)
def test_no_role_starts_with_a_wrong_main_cf(tmp_path, name):
    """Exit status 78; file, line and parameter in the log and in systemd's status."""
    with contextlib.ExitStack() as stack:
        started = {}
        for case, (bad, *_) in BAD.items():
            where, main_cf = directory(tmp_path, case, bad)
            started[case] = stack.enter_context(role(where, role_source(name), main_cf=main_cf))
        for case, running in started.items():
            _, line, parameter, reason = BAD[case]
            status, log, exit_status = refusal(running)
            wanted = place(running.main_cf, line, parameter)
            assert status.startswith(wanted), case
            assert reason in status
            assert f"pyfix/{name}[" in log
            assert f"fatal: {wanted}" in log
            assert exit_status == EX_CONFIG


@pytest.mark.parametrize("name", ROLES)
def test_no_role_starts_when_main_cf_cannot_be_read(tmp_path, name):
    """What is in its place cannot be read by root either."""
    (tmp_path / "etc" / "main.cf").mkdir(parents=True)
    environment = {"MAIL_CONFIG": str(tmp_path / "etc"), "PYFIX_LOG": str(tmp_path / "log"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", role_source(name)], env=os.environ | environment, timeout=30)
    assert done.returncode == EX_CONFIG
    assert f"fatal: {tmp_path}/etc/main.cf: Is a directory" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("case", RESTRICTIONS)
def test_smtpd_does_not_start_with_restrictions_that_it_cannot_keep(tmp_path, case):
    where, main_cf = directory(tmp_path, case, RESTRICTIONS[case])
    parameter = RESTRICTIONS[case].partition(" ")[0]
    with role(where, role_source("smtpd"), main_cf=main_cf) as running:
        status, log, exit_status = refusal(running)
        assert status.startswith(place(running.main_cf, 2, parameter))
        assert f"fatal: {status}" in log
        assert exit_status == EX_CONFIG


@pytest.mark.parametrize("name", SPOOLERS)
def test_no_role_starts_without_its_queue_directory(tmp_path, name):
    with role(tmp_path, role_source(name), main_cf=f"\nqueue_directory = {tmp_path}/nowhere\n") as running:
        status, log, exit_status = refusal(running)
        assert status == f"{place(running.main_cf, 2, 'queue_directory')}{tmp_path}/nowhere: No such file or directory"
        assert f"fatal: {status}" in log
        assert exit_status == EX_CONFIG


@pytest.mark.parametrize("name", MAKERS)
def test_missing_queues_are_made_at_the_start(tmp_path, name):
    where, main_cf = directory(tmp_path, name, "")
    with role(where, role_source(name), main_cf=main_cf) as running:
        running.wait_notify("READY=1")
        made = {path.name: path.stat().st_mode & 0o777 for path in (where / "spool").iterdir()}
        assert made.keys() == set(MAKERS[name])
        assert set(made.values()) == {0o700}


@pytest.mark.parametrize("case", [*BAD, *RESTRICTIONS])
def test_check_and_up_say_the_same_as_the_roles(tmp_path, case):
    bad, line, parameter = BAD[case][:3] if case in BAD else (RESTRICTIONS[case], 2, RESTRICTIONS[case].split(" ")[0])
    where, main_cf = directory(tmp_path, "etc", bad)
    (where / "main.cf").write_text(main_cf)
    wanted = f"pyfix: error: {place(where / 'main.cf', line, parameter)}"
    checked = command(where, "pyfix", "check")
    assert (checked.returncode, checked.stderr.startswith(wanted)) == (1, True), checked.stderr
    started = command(where, "pyfix", "up", "--prefix", str(tmp_path))
    assert (started.returncode, started.stderr.startswith(wanted)) == (EX_CONFIG, True), started.stderr
    assert not (tmp_path / "run").exists()


def test_postconf_names_the_place_of_what_it_cannot_expand(tmp_path):
    where, main_cf = directory(tmp_path, "etc", BAD["recursion"][0])
    (where / "main.cf").write_text(main_cf)
    done = command(where, "postconf", "-x", "myhostname")
    assert done.returncode == 1
    assert f"{place(where / 'main.cf', 2, 'myhostname')}the value refers to itself" in done.stderr
    (where / "main.cf").write_text("just words\n")
    assert f"{where}/main.cf, line 1: not an assignment" in command(where, "postconf", "myhostname").stderr
    (where / "main.cf").unlink()
    (where / "main.cf").mkdir()
    assert f"{where}/main.cf: Is a directory" in command(where, "postconf").stderr


@pytest.mark.parametrize("name", ROLES)
def test_a_wrong_main_cf_at_reload_keeps_what_was_running(tmp_path, name):
    where, main_cf = directory(tmp_path, name, "")
    cases = [BAD["recursion"][:3], BAD["number"][:3]]
    if name == "smtpd":
        cases += [(bad, 2, bad.split(" ")[0]) for bad in RESTRICTIONS.values()]
    if name in {"bounce", "cleanup", "postdrop"}:
        cases.append((f"queue_directory = {where}/nowhere\n", 2, "queue_directory"))
    with role(where, role_source(name), main_cf=main_cf) as running:
        running.wait_notify("READY=1")
        for bad, line, parameter in cases:
            running.main_cf.write_text(main_cf + bad)
            running.send(signal.SIGHUP)
            status = running.wait_notify("STATUS=Reload failed: ")
            wanted = place(running.main_cf, line, parameter)
            assert wanted in status
            assert re.search(
                f"error: {re.escape(wanted)}.*: the configuration that was running", running.log.read_text()
            )
        running.main_cf.write_text(main_cf)
        running.send(signal.SIGHUP)
        running.wait_notify("RELOADING=1")
        running.wait_notify("READY=1")
        running.send(signal.SIGTERM)
        assert running.wait() == 0


def test_up_starts_a_role_that_its_configuration_prevents_later_and_later(tmp_path):
    """Nobody is turned away meanwhile: connections wait until the configuration is mended."""
    with SystemUnderTest(tmp_path / "s") as system:
        main_cf = system.etc / "main.cf"
        good = main_cf.read_text()
        main_cf.write_text(good + "message_size_limit = 10k\n")
        wanted = place(main_cf, good.count("\n") + 1, "message_size_limit")
        (smtpd,) = system.roles()["smtpd"]
        smtpd.kill()
        system.wait_log(r"pyfix/up\[\d+\]: pyfix-smtpd\.service: ended with status 78")
        with socket.create_connection(("127.0.0.1", system.smtp_port), timeout=10) as waiting:
            system.wait_log(rf"(?s)(pyfix/smtpd\[\d+\]: fatal: {re.escape(wanted)}.*){{4}}")
            main_cf.write_text(good)
            assert waiting.recv(100).startswith(b"220 ")
        assert len(re.findall(r"pyfix/smtpd\[\d+\]: fatal: ", system.log_text())) <= 8


# -- queue files --


class Queue:
    """A running system, and what is put into its queues."""

    def __init__(self, system, scratch):
        self.system = system
        self._scratch = scratch
        self._ids = QueueIds()

    def new_id(self):
        return self._ids.new(time.time_ns() // 1000)

    def whole_file(self, recipient=f"{USER}@mail.example.com", lines=20):
        """The bytes of a good queue file."""
        writer = QueueFileWriter(DurableFile(str(self._scratch / self.new_id())))
        now = time.time_ns() // 1000
        writer.begin(NewMessage("sender@example.com", now, now // 10**6, (NewRecipient(recipient),)))
        writer.write_content(b"Subject: whole\n\n" + b"a line of the message\n" * lines)
        writer.finish()
        writer.commit()
        (path,) = self._scratch.iterdir()
        try:
            return path.read_bytes()
        finally:
            path.unlink()

    def path(self, queue, queue_id):
        return self.system.spool / queue / queue_id

    def put(self, queue, content, mode=0o700):
        """A file of that content; its queue ID."""
        queue_id = self.new_id()
        path = self._scratch / queue_id
        path.write_bytes(content)
        path.chmod(mode)
        path.rename(self.path(queue, queue_id))
        return queue_id

    def flush(self):
        done = self.system.run("postqueue", "-f")
        assert done.returncode == 0, done.stderr

    def mail_flows(self):
        """A message that came after all others is delivered, by the same queue manager."""
        before = self.system.log_text().count("status=sent")
        with smtplib.SMTP("127.0.0.1", self.system.smtp_port, timeout=30) as smtp:
            smtp.sendmail("a@example.com", [f"{USER}@mail.example.com"], "Subject: x\r\n\r\n")
        self.system.wait_until(lambda: self.system.log_text().count("status=sent") > before, "delivery", 20)

    def wait_corrupt(self, queue_ids, where):
        for queue_id in queue_ids:
            self.system.wait_log(f"warning: {queue_id}: {where}: .*: saved to corrupt")
            kept = self.path("corrupt", queue_id)
            assert kept.stat().st_mode & 0o777 == 0o400
            kept.unlink()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("queue")
    with SystemUnderTest(scratch / "system") as running:
        yield running
        log = running.log_text()
    assert "panic:" not in log
    assert "Traceback" not in log


@pytest.fixture
def queue(system, tmp_path):
    """A queue whose manager must still be there when the test ends."""
    system.wait_until(lambda: "qmgr" in system.roles(), "the queue manager")
    (manager,) = system.roles()["qmgr"]
    yield Queue(system, tmp_path)
    assert [p.pid for p in system.roles()["qmgr"]] == [manager.pid]
    system.wait_empty(10)


def record(kind, data, length=None):
    """A record; ``length``: the bytes of what it says of its length."""
    return kind + (bytes([len(data)]) if length is None else length) + data


def hostile(good):
    """Files that are no messages, by what is wrong with them."""
    rng = random.Random(1)
    size, rest = good[:97], good[97:]
    assert size[:1] == b"C"
    sender = rest.index(b"S\x12sender@example.com")
    return {
        "nothing": b"",
        "zeroes": bytes(4096),
        "garbage": rng.randbytes(20_000),
        "text": b"From: somebody\nSubject: not a queue file\n\ntext\n" * 50,
        "garbage behind the size record": size + rng.randbytes(20_000),
        "no end": good[:-2],
        "two ends missing": good[:-4],
        "no size record": rest,
        "two size records": size + good,
        "no sender": good.replace(b"S\x12sender@example.com", b"F\x12sender@example.com"),
        "two senders": size + rest[:sender] + b"S\x01x" + rest[sender:],
        "a length that never ends": size + b"T" + b"\xff" * 5000,
        "a length of 2**62": size + record(b"T", b"x" * 100, b"\xff" * 8 + b"\x3f"),
        "a length of 2**31 - 1": size + record(b"S", b"x" * 100, b"\xff\xff\xff\xff\x07"),
        "a negative size": b"C\x5f" + b" ".join(b"%15d" % n for n in (-5, -5, 1, 0, -5, 0)) + rest,
        "an enormous size": b"C\x5f" + b" ".join(b"%15d" % n for n in (10**14, 500, 1, 0, 10**14, 0)) + rest,
        "a content that begins nowhere": b"C\x5f" + b" ".join(b"%15d" % n for n in (1, 10**14, 1, 0, 1, 0)) + rest,
        "digits of another script": size.replace(b"0", "٣".encode()) + rest,
        "a million attributes": size + b"".join(b"A\x0ba%07d=xy" % n for n in range(30_000)) + rest,
        "unknown records": size + b"\x00\x01x\xff\x01y" + rest,
        "pointer records": size + b"p\x0f" + b"%15d" % 0 + rest,
    }


@pytest.mark.parametrize("where", ["incoming", "deferred"])
def test_what_is_no_message_goes_to_corrupt(queue, where):
    queue_ids = {name: queue.put(where, content) for name, content in hostile(queue.whole_file()).items()}
    queue.flush()
    queue.wait_corrupt(queue_ids.values(), where)
    queue.mail_flows()


@pytest.mark.parametrize("where", ["incoming", "deferred"])
def test_a_message_that_was_cut_off_anywhere_goes_to_corrupt(queue, where):
    good = queue.whole_file()
    places = sorted({1, 2, 50, 96, 97, 98, len(good) - 1, *range(60, len(good), len(good) // 16)})
    queue_ids = [queue.put(where, good[:end]) for end in places]
    delivered = queue.put(where, good)
    queue.flush()
    queue.wait_corrupt(queue_ids, where)
    queue.system.wait_log(f"{delivered}: removed")
    assert len(places) >= 20
    queue.mail_flows()


@pytest.mark.parametrize("where", ["incoming", "deferred"])
def test_what_is_no_file_is_left_alone_and_warned_of_once(queue, where, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(queue.whole_file())
    outside.chmod(0o700)
    ids = [queue.new_id() for _ in range(5)]
    paths = [queue.path(where, queue_id) for queue_id in ids]
    paths[0].mkdir(mode=0o700)
    (paths[0] / queue.new_id()).write_bytes(b"x")
    os.mkfifo(paths[1], 0o700)
    paths[2].symlink_to(outside)
    paths[3].symlink_to(paths[3].name)
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(queue.system.spool / where, os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{here}/{ids[4]}")
        os.close(here)
    queue.flush()
    for queue_id in ids:
        queue.system.wait_log(f"warning: bogus file in the queue: {where}/{queue_id}")
    queue.flush()
    queue.mail_flows()
    log = queue.system.log_text()
    for queue_id, path in zip(ids, paths, strict=True):
        assert log.count(queue_id) == 1
        assert path.lstat()
    assert outside.stat().st_mode & 0o777 == 0o700
    next(paths[0].iterdir()).unlink()
    paths[0].rmdir()
    for path in paths[1:]:
        path.unlink()


@pytest.mark.parametrize("where", ["incoming", "deferred"])
def test_a_file_that_is_not_ready_is_not_delivered(queue, where):
    """Without the owner's execute bit it is still being written, whatever it holds."""
    queue_id = queue.put(where, queue.whole_file(), mode=0o600)
    queue.flush()
    queue.mail_flows()
    assert queue_id not in queue.system.log_text()
    queue.path(where, queue_id).unlink()


def test_names_that_are_no_queue_ids_are_left_alone(queue):
    """They hold whole messages, and stay where they are."""
    names = ["..ABCDEF", "4X", "not-an-id", "-flag", "A" * 200, "naïve\n", "core"]
    for name in names:
        queue.path("incoming", queue.put("incoming", queue.whole_file())).rename(queue.path("incoming", name))
    queue.flush()
    queue.mail_flows()
    for name in names:
        queue.path("incoming", name).unlink()


def test_the_wrong_mode_does_not_keep_a_whole_message_from_delivery(queue):
    queue_id = queue.put("incoming", queue.whole_file(), mode=0o777)
    queue.flush()
    queue.system.wait_log(f"{queue_id}: removed")


def test_content_that_is_broken_behind_a_good_envelope_stops_nothing(queue):
    """The agent finds it, and the message stays for the administrator."""
    good = queue.whole_file()
    start = good.index(b"N\x0eSubject: whole")
    queue_id = queue.put("incoming", good[:start] + b"\xff" * 16 + good[start + 16 :])
    queue.flush()
    queue.system.wait_log(f"{queue_id}: to=<.*status=deferred \\(.*corrupt")
    queue.mail_flows()
    assert queue.system.run("postsuper", "-d", queue_id).returncode == 0
    queue.system.wait_until(lambda: not queue.system.queue_ids(), "removal")


@pytest.mark.parametrize("where", ["maildrop"])
def test_what_is_no_submission_goes_to_corrupt(queue, where):
    rng = random.Random(2)
    good = queue.whole_file()
    contents = [b"", rng.randbytes(3000), good[:200], b"T" + b"\xff" * 100, bytes(500)]
    queue_ids = [queue.put(where, content) for content in contents]
    queue.wait_corrupt(queue_ids, where)
    queue.mail_flows()


# -- the queue directory --


def test_a_second_queue_manager_refuses_to_start(queue):
    system = queue.system
    environment = system.environment | {"PYFIX_RUNTIME": str(system.directory / "elsewhere")}
    done = subprocess.run([sys.executable, "-c", role_source("qmgr")], env=environment, timeout=30)
    assert done.returncode == EX_TEMPFAIL
    assert f"fatal: another queue manager is at work in {system.spool}" in system.log_text()
    queue.mail_flows()


def test_a_second_system_on_the_same_queue_directory_moves_no_mail(tmp_path):
    """Its queue manager says why, again and again; when the first system has ended it takes over."""
    with SystemUnderTest(tmp_path / "first") as first:
        second = SystemUnderTest(
            tmp_path / "second", f"queue_directory = {first.spool}\nmail_spool_directory = {first.mail}/\n"
        )
        second.spool = first.spool
        with second:
            second.wait_log(rf"pyfix/qmgr\[\d+\]: fatal: another queue manager is at work in {first.spool}")
            with smtplib.SMTP("127.0.0.1", second.smtp_port, timeout=30) as smtp:
                smtp.sendmail("a@example.com", [f"{USER}@mail.example.com"], "Subject: x\r\n\r\n")
            first.run("postqueue", "-f")
            first.wait_log("status=sent")
            assert "status=sent" not in second.log_text()
            first.stop()
            with smtplib.SMTP("127.0.0.1", second.smtp_port, timeout=30) as smtp:
                smtp.sendmail("a@example.com", [f"{USER}@mail.example.com"], "Subject: x\r\n\r\n")
            second.wait_log("status=sent")
            assert "panic:" not in first.log_text() + second.log_text()


def test_left_overs_and_bogus_files_are_seen_to_at_the_start(tmp_path):
    system = SystemUnderTest(tmp_path / "s")
    queue = Queue(system, tmp_path / "scratch")
    (tmp_path / "scratch").mkdir()
    for name in ("incoming", "active", "deferred"):
        (system.spool / name).mkdir(parents=True, mode=0o700)
    unfinished = queue.put("incoming", queue.whole_file(), mode=0o600)
    os.utime(queue.path("incoming", unfinished), (1, 1))
    broken = queue.put("active", b"garbage")
    interrupted = queue.put("active", queue.whole_file())
    queue.path("incoming", "not-an-id").write_bytes(b"x")
    queue.path("active", "5YdirectoryzB").mkdir()
    with system:
        system.wait_log(f"{interrupted}: removed")
        system.wait_log(f"warning: {broken}: incoming: .*: saved to corrupt")
        system.wait_log("warning: bogus file in the queue: incoming/not-an-id")
        assert not queue.path("incoming", unfinished).exists()
        assert unfinished not in system.log_text()
        assert "panic:" not in system.log_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spool: (spool / "incoming").chmod(0o777), r"incoming can be written to by others \(mode 0777\)"),
        (lambda spool: (spool / "hold").rmdir(), "hold does not exist"),
        (lambda spool: ((spool / "defer").rmdir(), (spool / "defer").write_text("")), "defer is not a directory"),
        (lambda spool: os.chown(spool / "deferred", 12345, 12345), "deferred belongs to user 12345, not to"),
    ],
    ids=["writable", "missing", "file", "owner"],
)
def test_check_says_what_is_wrong_with_the_queue_directory(tmp_path, change, said):
    if "belongs" in said and os.getuid() != 0:
        pytest.skip("only root can give files away")
    where, main_cf = directory(tmp_path, "etc", f"mail_owner = {USER}\n")
    (where / "main.cf").write_text(main_cf)
    with role(where, role_source("qmgr"), main_cf=main_cf) as running:
        running.wait_notify("READY=1")
    assert command(where, "pyfix", "check").stderr == ""
    change(where / "spool")
    checked = command(where, "pyfix", "check")
    assert checked.returncode == 1
    assert re.search(said, checked.stderr)


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_in_a_queues_place_keeps_a_role_from_starting_and_is_named(tmp_path, name):
    where, main_cf = directory(tmp_path, "etc", "")
    queue = MAKERS[name][-1]
    (where / "spool" / queue).write_text("")
    with role(where, role_source(name), main_cf=main_cf) as running:
        status, log, exit_status = refusal(running)
        assert status == f"{place(running.main_cf, 1, 'queue_directory')}{where}/spool/{queue}: Not a directory"
        assert exit_status == EX_CONFIG
        assert "panic:" not in log
