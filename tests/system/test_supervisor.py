"""The supervisor with real processes: small services that say who they are."""

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]

DRIVER = """
import sys
from pyfix.system.identity import Identities
from pyfix.system.supervisor import Plan, Supervisor
from pyfix.system.unit_files import Places, load_units

units, prefix = sys.argv[1:]
places = Places.below(prefix)
loaded = load_units([units], places)
plan = Plan(loaded.services, loaded.sockets, loaded.timers, loaded.paths, {"PATH": "/usr/bin:/bin"}, places.run)
say = lambda text: print(text, flush=True)
Supervisor(plan, Identities("pyfix", change=False), say, prefix + "/state").run(lambda: say("ready"))
"""

# A service: "who" answers with what it was given; other words are what it does next.
SERVICE = """
import json, os, signal, socket, sys, time
def notify(text):
    if "NOTIFY_SOCKET" in os.environ:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
        s.send(text.encode())
reloads = 0
def reload(*_):
    global reloads
    reloads += 1
signal.signal(signal.SIGHUP, reload)
count = int(os.environ.get("LISTEN_FDS", "0"))
listeners = [socket.socket(fileno=3 + i) for i in range(count)]
if "orphan" in sys.argv and os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(sys.argv[-1], "w").write(str(os.getpid()))
    time.sleep(1000)
notify("READY=1\\nSTATUS=" + (sys.argv[1] if len(sys.argv) > 1 else ""))
import select
while True:
    for listener in select.select(listeners, [], [])[0]:
        client, _ = listener.accept()
        word = client.recv(100).decode()
        if word == "who":
            fds = sorted(int(f) for f in os.listdir("/proc/self/fd"))
            client.send(json.dumps({
                "pid": os.getpid(), "ppid": os.getppid(), "argv": sys.argv[1:],
                "names": os.environ.get("LISTEN_FDNAMES"), "listen_pid": int(os.environ["LISTEN_PID"]),
                "env": dict(os.environ), "reloads": reloads, "fds": fds,
                "umask": os.umask(0o777), "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
                "limit": __import__("resource").getrlimit(__import__("resource").RLIMIT_NOFILE)[0],
            }).encode())
        elif word == "exit":
            os._exit(0)
        elif word == "alive":
            notify("WATCHDOG=1")
            client.send(b"ok")
        client.close()
"""


class System:
    """A supervisor below tmp_path, its units, and what it said."""

    def __init__(self, directory):
        self.units = directory / "units"
        self.units.mkdir()
        self.prefix = directory / "p"
        self.prefix.mkdir()
        self.service = directory / "service.py"
        self.service.write_text(SERVICE)
        self.process = None
        self.said = ""

    def unit(self, name, text):
        path = self.units / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).replace("SERVICE", f"{sys.executable} -ISB {self.service}"))

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, self.units, self.prefix], stdout=subprocess.PIPE, cwd=ROOT
        )
        return self.wait_for("ready\n")

    def wait_for(self, text, seconds=10):
        """Reads what it says until the text was said."""
        end = time.monotonic() + seconds
        while text not in self.said:
            assert select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0], self.said
            more = os.read(self.process.stdout.fileno(), 4096).decode()
            assert more, f"ended after {self.said}"
            self.said += more
        return self

    def state(self, name, **wanted):
        """A unit's state, as soon as it is as wanted."""
        for _ in attempts(f"{name} {wanted}"):
            try:
                found = json.loads((self.prefix / "state").read_text())["units"][name]
            except FileNotFoundError:
                continue
            if all(found[key] == value for key, value in wanted.items()):
                return found
        return None

    def ask(self, name, word="who"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            directory = os.open(self.prefix / "run", os.O_PATH)
            client.connect(f"/proc/self/fd/{directory}/{name}")
            os.close(directory)
            client.send(word.encode())
            answer = client.recv(65536)
        return json.loads(answer) if word == "who" else answer

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=20)
        self.said += rest.decode()
        return self.process.returncode


def attempts(what, seconds=10):
    """For waiting on what happens outside; each attempt yields the processor."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        select.select([], [], [], 0.01)
    pytest.fail(f"never happened: {what}")


def gone(pid):
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def system(tmp_path):
    system = System(tmp_path)
    system.unit(
        "pyfix-a.socket",
        "[Socket]\nListenStream=/run/pyfix/a/s\nFileDescriptorName=first\nSocketMode=0660\n",
    )
    system.unit("pyfix-a.service", "[Service]\nType=notify\nExecStart=SERVICE one\nExecReload=kill -HUP $MAINPID\n")
    yield system
    if system.process and system.process.poll() is None:
        system.stop()


def test_a_connection_starts_the_service_which_gets_the_socket(system):
    system.start()
    path = system.prefix / "run/a/s"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert system.state("pyfix-a.service")["state"] == "inactive"
    who = system.ask("a/s")
    assert (who["argv"], who["names"], who["listen_pid"]) == (["one"], "first", who["pid"])
    assert who["ppid"] == system.process.pid
    assert system.state("pyfix-a.service", state="active", pid=who["pid"])["status"] == "one"
    assert system.ask("a/s")["pid"] == who["pid"]


def test_a_service_inherits_nothing_but_its_sockets(system, monkeypatch):
    monkeypatch.setenv("LISTEN_FDS", "7")
    monkeypatch.setenv("SECRET", "x")
    system.start()
    who = system.ask("a/s")
    # 0 to 2, the listener, the client, and the listing of /proc/self/fd itself
    assert who["fds"] == [0, 1, 2, 3, 4, 5]
    assert who["mask"] == []
    assert set(who["env"]) - {"LC_CTYPE"} == {"PATH", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"}


def test_several_sockets_start_one_service(system):
    system.unit("pyfix-b.socket", "[Socket]\nListenStream=/run/pyfix/b/s\nService=pyfix-a.service\n")
    system.start()
    who = system.ask("b/s")
    assert who["names"] == "first:pyfix-b.socket"
    assert system.ask("a/s")["pid"] == who["pid"]


def test_tcp_sockets_listen_where_they_say(system):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    system.unit("pyfix-a.socket", f"[Socket]\nListenStream=127.0.0.1:{port}\n")
    system.start()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.send(b"who")
        assert json.loads(client.recv(65536))["argv"] == ["one"]


def test_what_the_unit_says_about_the_process_is_so(system):
    system.unit(
        "pyfix-a.service.d/more.conf",
        "[Service]\nEnvironment=A=b 'C=d e'\nUMask=0027\nLimitNOFILE=99\nRuntimeDirectory=own\nWatchdogSec=9\n",
    )
    system.start()
    who = system.ask("a/s")
    assert (who["umask"], who["limit"], who["env"]["A"], who["env"]["C"]) == (0o027, 99, "b", "d e")
    assert who["env"]["RUNTIME_DIRECTORY"] == str(system.prefix / "run/own")
    assert (who["env"]["WATCHDOG_USEC"], who["env"]["WATCHDOG_PID"]) == ("9000000", str(who["pid"]))


def test_a_drop_in_replaces_a_command(system):
    system.unit("pyfix-a.service.d/10-x.conf", "[Service]\nExecStart=\nExecStart=SERVICE two -o a=b\n")
    system.unit("pyfix-.service.d/20-y.conf", "[Service]\nEnvironment=ALL=1\n")
    system.start()
    who = system.ask("a/s")
    assert (who["argv"], who["env"]["ALL"]) == (["two", "-o", "a=b"], "1")


def test_a_masked_unit_does_not_exist(system):
    (system.units / "pyfix-b.service").symlink_to("/dev/null")
    system.start()
    assert list(json.loads((system.prefix / "state").read_text())["units"]) == ["pyfix-a.service"]


def test_a_service_that_is_killed_is_started_anew_and_no_connection_is_refused(system):
    system.unit("pyfix-a.service.d/r.conf", "[Service]\nRestart=on-failure\nRestartSec=50ms\n")
    system.start()
    first = system.ask("a/s")["pid"]
    os.kill(first, signal.SIGKILL)
    second = system.ask("a/s")["pid"]
    assert second != first
    assert system.state("pyfix-a.service", state="active")["restarts"] == 1
    assert "pyfix-a.service: ended with signal 9\n" in system.said + system.wait_for("signal 9\n").said
    assert gone(first)


def test_kills_at_any_moment_of_the_start_leave_one_process(system):
    """The seventh start in two hundred milliseconds is as good as the first."""
    system.unit(
        "pyfix-a.service.d/r.conf", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=0\n"
    )
    system.start()
    system.ask("a/s")
    for kill in range(12):
        pid = 0
        for _ in attempts("a process"):
            pid = system.state("pyfix-a.service")["pid"]
            if pid and not gone(pid):
                break
        select.select([], [], [], kill * 0.003)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        for _ in attempts("its end"):
            if gone(pid):
                break
    who = system.ask("a/s")
    children = Path(f"/proc/{system.process.pid}/task/{system.process.pid}/children").read_text().split()
    assert children == [str(who["pid"])]


def test_a_service_that_leaves_processes_behind_is_cleared_away_first(system, tmp_path):
    note = tmp_path / "orphan"
    system.unit(
        "pyfix-a.service",
        f"[Service]\nType=notify\nKillMode=mixed\nRestart=on-failure\nRestartSec=0\nExecStart=SERVICE orphan {note}\n",
    )
    system.start()
    first = system.ask("a/s")["pid"]
    for _ in attempts("the orphan"):
        if note.exists() and note.read_text():
            break
    orphan = int(note.read_text())
    os.kill(first, signal.SIGKILL)
    assert system.ask("a/s")["pid"] != first
    assert gone(orphan)


def test_an_idle_exit_is_no_failure_and_the_next_connection_starts_it_again(system):
    system.start()
    first = system.ask("a/s")["pid"]
    system.ask("a/s", "exit")
    assert system.state("pyfix-a.service", state="inactive")["result"] == "success"
    assert system.ask("a/s")["pid"] != first


def test_a_silent_service_is_ended_by_its_watchdog(system):
    system.unit("pyfix-a.service.d/w.conf", "[Service]\nWatchdogSec=300ms\nRestart=on-failure\nRestartSec=0\n")
    system.start()
    first = system.ask("a/s")["pid"]
    os.kill(first, signal.SIGSTOP)
    system.state("pyfix-a.service", state="stopping")
    os.kill(first, signal.SIGCONT)
    system.wait_for("pyfix-a.service: ended with signal 6, after its watchdog\n")
    assert system.state("pyfix-a.service", restarts=1)["pid"] != first


def test_signs_of_life_are_heard(system):
    system.unit("pyfix-a.service.d/w.conf", "[Service]\nWatchdogSec=400ms\n")
    system.start()
    first = system.ask("a/s")["pid"]
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert system.ask("a/s", "alive") == b"ok"
        select.select([], [], [], 0.05)
    assert system.ask("a/s")["pid"] == first


def test_a_service_that_never_becomes_ready_is_ended(system):
    system.unit("pyfix-a.service", "[Service]\nType=notify\nTimeoutStartSec=200ms\nExecStart=/bin/sleep 1000\n")
    system.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(system.prefix / "run/a/s"))
        system.wait_for("pyfix-a.service: ended with signal 15, after its timeout\n")


def test_only_the_main_process_may_notify(system):
    system.unit(
        "pyfix-a.service",
        "[Service]\nType=notify\nTimeoutStartSec=300ms\n"
        """ExecStart=/bin/sh -c '(SERVICE child) & sleep 1000'\n""",
    )
    system.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(system.prefix / "run/a/s"))
        system.wait_for("after its timeout\n")


def test_a_service_that_cannot_be_executed_fails_with_systemds_status(system):
    system.unit("pyfix-a.service", "[Service]\nExecStart=/nonexistent/program\n")
    system.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(system.prefix / "run/a/s"))
        system.wait_for("pyfix-a.service: ended with status 203\n")
        system.wait_for("pyfix-a.service: started too often, waits for ")
    assert system.state("pyfix-a.service", result="start-limit")


def test_sighup_reloads_those_that_run(system):
    system.unit("pyfix-b.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    system.start()
    assert system.ask("a/s")["reloads"] == 0
    sleeper = system.state("pyfix-b.service", state="active")["pid"]
    system.process.send_signal(signal.SIGHUP)
    for _ in attempts("the reload"):
        if system.ask("a/s")["reloads"] == 1:
            break
    assert system.state("pyfix-b.service")["pid"] == sleeper


def test_without_a_trigger_a_service_starts_at_once(system):
    system.unit("pyfix-b.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    system.start()
    assert system.state("pyfix-b.service", state="active")["pid"]


def test_a_timer_starts_its_service_and_again_after_its_end(system, tmp_path):
    log = tmp_path / "log"
    system.unit("pyfix-b.timer", "[Timer]\nOnActiveSec=50ms\nOnUnitInactiveSec=100ms\n")
    system.unit("pyfix-b.service", f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo x >>{log}'\n")
    system.start()
    for _ in attempts("three runs"):
        if log.exists() and len(log.read_text()) >= 6:
            break


def test_a_path_starts_its_service_when_files_are_there_or_appear(system):
    drop = system.prefix / "spool/maildrop"
    drop.mkdir(parents=True)
    (drop / "early").write_text("")
    system.unit("pyfix-b.path", "[Path]\nDirectoryNotEmpty=/var/spool/pyfix/maildrop\n")
    system.unit("pyfix-b.service", f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'rm -f {drop}/*'\n")
    system.start()
    for name in ("early", "late", "later"):
        for _ in attempts(f"the end of {name}"):
            if not list(drop.iterdir()) and system.state("pyfix-b.service")["state"] == "inactive":
                break
        (drop / f"after-{name}").write_text("")
    for _ in attempts("the last"):
        if not list(drop.iterdir()):
            break


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly(system, number):
    system.unit("pyfix-b.service", "[Service]\nRestart=always\nExecStart=/bin/sleep 1000\n")
    system.start()
    pids = [system.ask("a/s")["pid"], system.state("pyfix-b.service", state="active")["pid"]]
    assert system.stop(number) == 0
    assert [gone(pid) for pid in pids] == [True, True]
    assert sorted(p.name for p in system.prefix.rglob("*") if not p.is_dir()) == []


def test_services_end_in_the_reverse_order_of_after(system, tmp_path):
    log = tmp_path / "log"
    script = f"""/bin/sh -c 'trap "echo $0 >>{log}; exit" TERM; touch {log}.$0; while :; do sleep 0.05; done'"""
    for name, after in (("b", "c"), ("c", "d"), ("d", "")):
        system.unit(
            f"pyfix-{name}.service",
            f"[Unit]\nAfter={f'pyfix-{after}.service' if after else ''}\n[Service]\nExecStart={script} {name}\n",
        )
    system.start()
    for _ in attempts("three traps"):
        if all(Path(f"{log}.{name}").exists() for name in "bcd"):
            break
    assert system.stop() == 0
    assert log.read_text().split() == ["b", "c", "d"]


def test_a_circle_of_after_does_not_hinder_the_end(system):
    for name, after in (("b", "c"), ("c", "d"), ("d", "b")):
        system.unit(
            f"pyfix-{name}.service", f"[Unit]\nAfter=pyfix-{after}.service\n[Service]\nExecStart=/bin/sleep 1000\n"
        )
    system.start()
    assert system.stop() == 0


def test_a_second_signal_kills_what_does_not_end(system):
    system.unit(
        "pyfix-b.service", """[Service]\nExecStart=/bin/sh -c 'trap "" TERM; echo >&2; while :; do sleep 1; done'\n"""
    )
    system.start()
    pid = system.state("pyfix-b.service", state="active")["pid"]
    for _ in attempts("the trap"):
        if Path(f"/proc/{pid}/status").read_text().split("SigIgn:")[1].split()[0].endswith("4000"):
            break
    system.process.send_signal(signal.SIGTERM)
    system.wait_for("stopping\n")
    assert system.stop() == 0
    assert gone(pid)


def test_services_end_when_the_supervisor_is_killed(system):
    system.start()
    pid = system.ask("a/s")["pid"]
    system.process.kill()
    system.process.communicate()
    for _ in attempts("its end"):
        if gone(pid):
            break


def test_a_killed_supervisors_sockets_are_taken_over(system):
    system.start()
    system.process.kill()
    system.process.communicate()
    system.said = ""
    system.start()
    assert system.ask("a/s")["argv"] == ["one"]


@pytest.mark.parametrize("what", ["a file", "a socket in use"])
def test_what_is_in_the_way_of_a_socket_is_named_and_left_alone(system, what):
    path = system.prefix / "run/a/s"
    path.parent.mkdir(parents=True)
    if what == "a file":
        path.write_text("mine")
    else:
        owner = socket.socket(socket.AF_UNIX)
        owner.bind(str(path))
        owner.listen()
    process = subprocess.run(
        [sys.executable, "-c", DRIVER, system.units, system.prefix],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"pyfix-a.socket: cannot listen on {path}: Address already in use" in process.stderr
    assert path.exists()
    if what != "a file":
        owner.close()


def test_a_long_path_works(tmp_path):
    directory = tmp_path / ("x" * 100)
    directory.mkdir()
    system = System(directory)
    system.unit("pyfix-a.socket", "[Socket]\nListenStream=/run/pyfix/a/s\n")
    system.unit("pyfix-a.service", "[Service]\nType=notify\nExecStart=SERVICE one\n")
    system.start()
    assert system.ask("a/s")["argv"] == ["one"]
    assert system.stop() == 0


def test_descriptors_and_zombies_do_not_pile_up(system):
    system.unit("pyfix-a.service.d/r.conf", "[Unit]\nStartLimitIntervalSec=0\n")
    system.start()
    children = Path(f"/proc/{system.process.pid}/task/{system.process.pid}/children")
    counts = []
    for _ in range(8):
        system.ask("a/s", "exit")
        # The state in the file may still be the one from before the start.
        for _ in attempts("the process to be reaped"):
            if not children.read_text():
                break
        system.state("pyfix-a.service", state="inactive")
        counts.append(len(os.listdir(f"/proc/{system.process.pid}/fd")))
    assert len(set(counts)) == 1
