"""``pyfix``: its verbs, with a directory of their own and no mail."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyfix.system.launch import AlreadyRunning, PidFile, arrange, role_command

ROOT = Path(__file__).parents[2]


def pyfix(*arguments, environment=None, **options):
    code = "from pyfix.commands.pyfix import main; main()"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYFIX")}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, text=True, capture_output=True,
        check=False, timeout=60, env=inherited | (environment or {}), **options,
    )  # fmt: skip


@pytest.fixture
def prefix(tmp_path):
    """A place with a main.cf and units that need no role: one that sleeps and one that is started by its socket."""
    (tmp_path / "etc").mkdir()
    user = os.environ.get("USER", "root")
    (tmp_path / "etc/main.cf").write_text(
        f"queue_directory = {tmp_path}/spool\ndata_directory = {tmp_path}/lib\nmail_owner = {user}\n"
    )
    units = tmp_path / "units"
    units.mkdir()
    (units / "pyfix-sleeper.service").write_text("[Service]\nExecStart=/bin/sleep 1000\nPrivateTmp=yes\nCPUWeight=5\n")
    (units / "pyfix-idle.service").write_text("[Service]\nExecStart=/bin/sleep 1000\n")
    (units / "pyfix-idle.socket").write_text("[Socket]\nListenStream=/run/pyfix/idle/s\n")
    for unit in (ROOT / "units").iterdir():
        (units / unit.name).symlink_to("/dev/null")
    return tmp_path


def up(prefix, *more):
    return pyfix("up", "--prefix", prefix, "--units", prefix / "units", *more)


def daemon(prefix):
    """Starts it in the background; its process ID."""
    done = up(prefix, "--daemon")
    assert (done.returncode, done.stderr) == (0, "")
    return int((prefix / "run/up.pid").read_text())


def end(pid):
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.system
def test_up_daemonises_status_shows_it_and_a_signal_ends_it(prefix):
    pid = daemon(prefix)
    try:
        status = pyfix("status", "--prefix", prefix)
        rows = {line.split()[0]: line.split() for line in status.stdout.split("\n") if line}
        assert status.returncode == 0
        assert rows["UNIT"][:3] == ["UNIT", "STATE", "PID"]
        assert rows["pyfix-sleeper"][1] == "active"
        assert int(rows["pyfix-sleeper"][2]) != pid
        assert rows["pyfix-idle"][1:3] == ["inactive", "-"]
        assert "Queue: 0 maildrop, 0 incoming, 0 active, 0 deferred, 0 hold" in status.stdout
        assert "\033" not in status.stdout
    finally:
        end(pid)
    assert sorted(p.name for p in (prefix / "run").iterdir()) == ["idle"]
    assert list((prefix / "run/idle").iterdir()) == []
    log = (prefix / "log").read_text()
    assert "the sandbox of the unit files is not applied: only systemd can do that" in log
    assert log.rstrip("\n").endswith("ended")


@pytest.mark.system
def test_two_cannot_run_in_one_place(prefix):
    pid = daemon(prefix)
    try:
        second = up(prefix)
        assert (second.returncode, f"another pyfix up is running here, process {pid}" in second.stderr) == (1, True)
    finally:
        end(pid)


@pytest.mark.system
def test_a_broken_main_cf_is_named_and_nothing_starts(prefix):
    with (prefix / "etc/main.cf").open("a") as file:
        file.write("message_size_limit = much\n")
    done = up(prefix)
    assert done.returncode == 78
    assert f"pyfix: error: {prefix}/etc/main.cf, line 4: parameter message_size_limit: " in done.stderr
    assert not (prefix / "run").exists()


@pytest.mark.system
def test_a_broken_unit_is_named(prefix):
    (prefix / "units/pyfix-idle.service").write_text("[Service]\nType=notify\nrubbish\n")
    done = up(prefix)
    assert (done.returncode, "pyfix-idle.service:3: neither [Section] nor Key=value" in done.stderr) == (78, True)


@pytest.mark.system
def test_explain_tells_what_is_not_applied(prefix):
    done = up(prefix, "--explain")
    assert done.stdout.split("\n") == [
        "pyfix-idle.service",
        "pyfix-idle.socket",
        "pyfix-sleeper.service",
        "  sandbox, not applied: PrivateTmp",
        "  not known to pyfix up: Service.CPUWeight",
        "",
    ]


@pytest.mark.system
def test_a_prefix_gets_a_main_cf_and_a_queue(tmp_path):
    (tmp_path / "u").mkdir()
    (tmp_path / "u/pyfix-x.service").write_text("[Service]\nExecStart=/bin/sleep 1000\n")
    for unit in (ROOT / "units").iterdir():
        (tmp_path / "u" / unit.name).symlink_to("/dev/null")
    done = pyfix("up", "--prefix", tmp_path / "p", "--units", tmp_path / "u", "--daemon")
    assert (done.returncode, done.stderr) == (0, "")
    end(int((tmp_path / "p/run/up.pid").read_text()))
    assert f"queue_directory = {tmp_path}/p/spool\n" in (tmp_path / "p/etc/main.cf").read_text()
    assert (tmp_path / "p/spool/maildrop").is_dir()


@pytest.mark.system
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), 64),
        (("what",), 64),
        (("up", "--nonsense"), 64),
        (("trace",), 64),
        (("trace", "no id!"), 64),
        (("--help",), 0),
    ],
)
def test_wrong_arguments(arguments, status):
    done = pyfix(*arguments)
    assert done.returncode == status
    assert "usage: pyfix up" in done.stdout + done.stderr


@pytest.mark.system
def test_status_of_nothing(tmp_path):
    done = pyfix("status", "--prefix", tmp_path)
    assert (done.returncode, done.stderr) == (1, f"pyfix: pyfix up is not running in {tmp_path}/run\n")


@pytest.mark.system
def test_status_after_a_kill(prefix):
    pid = daemon(prefix)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    done = pyfix("status", "--prefix", prefix)
    assert (done.returncode, done.stderr) == (1, f"pyfix: pyfix up was killed: its process {pid} is gone\n")


@pytest.mark.system
def test_check_finds_nothing_wrong(prefix):
    end(daemon(prefix))
    done = pyfix("check", "--prefix", prefix)
    assert (done.returncode, [line for line in done.stderr.split("\n") if "error" in line]) == (0, [])


@pytest.mark.system
def test_check_names_what_is_wrong(prefix):
    end(daemon(prefix))
    (prefix / "spool/active").rmdir()
    (prefix / "spool/hold").chmod(0o777)
    with (prefix / "etc/main.cf").open("a") as file:
        file.write("content_filter = scan:\n")
    done = pyfix("check", "--prefix", prefix)
    assert done.returncode == 1
    assert f"error: {prefix}/spool/active does not exist\n" in done.stderr
    assert f"error: {prefix}/spool/hold can be written to by others (mode 0777)\n" in done.stderr
    assert f"warning: {prefix}/etc/main.cf, line 4: parameter content_filter is not implemented" in done.stderr


@pytest.mark.system
def test_trace_reads_the_log_in_the_environment_or_the_one_named(tmp_path):
    log = tmp_path / "mail.log"
    log.write_bytes(
        b"Nov 22 15:57:04 mx pyfix/smtpd[10]: 4dVBkT0Qz8z1: client=\xff[127.0.0.1]\n"
        b"Nov 22 15:57:05 mx pyfix/qmgr[12]: 4dVBkT0Qz8z1: removed\n"
    )
    expected = (
        "Nov 22 15:57:04           pyfix/smtpd    4dVBkT0Qz8z1: client=\ufffd[127.0.0.1]\n"
        "Nov 22 15:57:05      +1s  pyfix/qmgr     4dVBkT0Qz8z1: removed\n"
    )
    for environment, arguments in (({"PYFIX_LOG": str(log)}, ()), ({}, ("--log", log))):
        done = pyfix("trace", "--lines", *arguments, "4dVBkT0Qz8z1", environment=environment)
        assert (done.returncode, done.stdout) == (0, expected)
    done = pyfix("trace", "--log", log, "4dVBkT0Qz8z2")
    assert (done.returncode, done.stderr) == (1, f"pyfix: no trace of 4dVBkT0Qz8z2 in {log}\n")
    done = pyfix("trace", "--log", tmp_path / "none", "4dVBkT0Qz8z2")
    assert (done.returncode, done.stderr) == (1, f"pyfix: error: No such file or directory: {tmp_path}/none\n")


def test_trace_of_an_address_tells_of_its_messages_and_refusals(tmp_path):
    log = tmp_path / "mail.log"
    log.write_text(
        "Nov 22 15:57:04 mx pyfix/smtpd[10]: NOQUEUE: reject: RCPT from x[::1]: 554 5.7.1 no; from=<a@b> to=<c@d>\n"
        "Nov 22 15:57:04 mx pyfix/qmgr[10]: 4dVBkT0Qz8z1: from=<a@b>, size=1, nrcpt=1 (queue active)\n"
        "Nov 22 15:57:04 mx pyfix/qmgr[10]: 4dVBkT0Qz8z2: from=<x@b>, size=1, nrcpt=1 (queue active)\n"
        "Nov 22 15:57:05 mx pyfix/qmgr[10]: 4dVBkT0Qz8z1: removed\n"
        "Nov 22 15:57:06 mx pyfix/smtpd[10]: NOQUEUE: reject: RCPT from x[::1]: 554 5.7.1 no; from=<a@b> to=<e@\x1bd>\n"
    )
    done = pyfix("trace", "--lines", "--log", log, "a@b")
    stories = [
        [line.split()[-1] for line in story.split("\n")] for story in done.stdout.removesuffix("\n").split("\n\n")
    ]
    assert (done.returncode, stories) == (0, [["to=<c@d>"], ["active)", "removed"], ["to=<e@?d>"]])
    done = pyfix("trace", "--log", log, "a@b")
    refused = "NOQUEUE: reject: RCPT from x[::1]: 554 5.7.1 no; from=<a@b>"
    assert (done.returncode, done.stdout.split("\n")) == (
        0,
        [
            f"Nov 22 15:57:04  {refused} to=<c@d>",
            "Nov 22 15:57:04  4dVBkT0Qz8z1  from <a@b>",
            f"Nov 22 15:57:06  {refused} to=<e@?d>",
            "",
        ],
    )


def test_a_role_of_a_checkout_is_run_by_this_python():
    argv = role_command(("/usr/libexec/pyfix/smtpd", "-w", "2"))
    assert argv == (sys.executable, "-P", "-c", "from pyfix.roles.smtpd import main; main()", "-w", "2")


@pytest.mark.parametrize("program", ["/usr/bin/true", "/usr/libexec/pyfix/../x", "/usr/libexec/pyfix/a;b"])
def test_other_programs_run_as_they_are(program):
    assert role_command((program,)) == (program,)


def test_a_prefix_moves_everything():
    arranged = arrange("/x", [], {"MAIL_CONFIG": "/elsewhere", "LANG": "C", "SECRET": "s"})
    assert arranged.places.moved("/run/pyfix/a/s") == "/x/run/a/s"
    assert arranged.places.moved("/var/spool/pyfix/maildrop") == "/x/spool/maildrop"
    assert arranged.places.moved("/run/pyfixed") == "/run/pyfixed"
    assert arranged.unit_directories == ("/x/etc/systemd", f"{ROOT}/units")
    assert set(arranged.environment) == {"PATH", "LANG", "MAIL_CONFIG", "PYFIX_RUNTIME", "PYFIX_LOG", "PYTHONPATH"}
    assert arranged.environment["MAIL_CONFIG"] == "/x/etc"


def test_without_a_prefix_the_environment_says_where_things_are():
    arranged = arrange("", ["/u"], {"MAIL_CONFIG": "/c", "PYFIX_RUNTIME": "/r"})
    assert arranged.places.moved("/etc/pyfix/x") == "/c/x"
    assert arranged.places.moved("/run/pyfix/a") == "/r/a"
    assert "PYFIX_LOG" not in arranged.environment
    assert arranged.unit_directories[0] == "/u"


def test_a_pid_file_is_held_by_one(tmp_path):
    held = PidFile(str(tmp_path / "run/up.pid"))
    held.write()
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        PidFile(str(tmp_path / "run/up.pid"))
    held.remove()
    PidFile(str(tmp_path / "run/up.pid")).remove()
