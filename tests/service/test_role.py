"""The skeleton of roles: start, reload, drain, idle exit, workers, bugs."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from msgspec import Struct
from service.role_process import FORKING, ROLE, kill, role

from pyfix.service.blocking import BlockingClient
from pyfix.service.calling import Unavailable
from pyfix.service.interface import Interface, Method, Nothing

pytestmark = pytest.mark.system


class Text(Struct, frozen=True):
    """A text."""

    text: str = ""


METHODS = tuple(Method(name, Nothing, Text, "x") for name in ("Pid", "Slow", "Bug"))
TEST = Interface("io.pyfix.Test", "For tests", METHODS)
BOTH = pytest.mark.parametrize("source", [ROLE, FORKING], ids=["event loop", "forking"])


def ask(running, method="Pid"):
    client = BlockingClient(TEST, running.path, 15)
    try:
        return client.call(method, Nothing()).text
    finally:
        client.close()


@BOTH
def test_a_role_says_when_it_is_ready_and_ends_at_sigterm(tmp_path, source):
    with role(tmp_path, source) as running:
        running.wait_notify("READY=1")
        assert ask(running).endswith(" 50")
        running.send(signal.SIGTERM)
        running.wait_notify("STOPPING=1")
        assert running.wait() == 0


@BOTH
def test_a_reload_takes_the_new_configuration(tmp_path, source):
    with role(tmp_path, source) as running:
        running.wait_notify("READY=1")
        running.main_cf.write_text("hopcount_limit = 7\n")
        running.send(signal.SIGHUP)
        running.wait_notify("RELOADING=1")
        running.wait_notify("READY=1")
        assert ask(running).endswith(" 7")


@BOTH
def test_a_broken_configuration_at_reload_keeps_what_was_running(tmp_path, source):
    with role(tmp_path, source) as running:
        running.wait_notify("READY=1")
        running.main_cf.write_text("\nhopcount_limit = many\n")
        running.send(signal.SIGHUP)
        status = running.wait_notify("STATUS=Reload failed")
        assert "main.cf, line 2: parameter hopcount_limit" in status
        assert ask(running).endswith(" 50")
        assert "main.cf, line 2: parameter hopcount_limit" in running.log.read_text()


@BOTH
def test_a_broken_configuration_at_start_is_refused_with_a_status(tmp_path, source):
    with role(tmp_path, source, main_cf="hopcount_limit = many\n") as running:
        assert "main.cf, line 1: parameter hopcount_limit" in running.wait_notify("STATUS=Not started")
        assert running.wait() == 78


@BOTH
def test_an_idle_role_ends(tmp_path, source):
    with role(tmp_path, source, main_cf="max_idle = 1\n") as running:
        running.wait_notify("READY=1")
        assert ask(running)
        assert running.wait() == 0


def test_options_override_main_cf(tmp_path):
    with role(tmp_path, ROLE, "-o", "hopcount_limit=9") as running:
        running.wait_notify("READY=1")
        assert ask(running).endswith(" 9")


def test_calls_at_work_are_finished_before_the_end(tmp_path):
    with role(tmp_path, ROLE) as running:
        running.wait_notify("READY=1")
        replies = []
        thread = threading.Thread(target=lambda: replies.append(ask(running, "Slow")))
        thread.start()
        threading.Event().wait(0.1)
        running.send(signal.SIGTERM)
        thread.join(10)
        assert replies == ["done"]
        assert running.wait() == 0


def test_a_bug_ends_the_process_with_its_traceback_in_the_log(tmp_path):
    with role(tmp_path, ROLE) as running:
        running.wait_notify("READY=1")
        with pytest.raises(Unavailable):
            ask(running, "Bug")
        assert running.wait() == 1
        assert "panic: ZeroDivisionError" in running.log.read_text()


def test_workers_share_the_listener_and_are_replaced(tmp_path):
    with role(tmp_path, ROLE, "-w", "3") as running:
        running.wait_notify("READY=1")
        seen = set()
        running.wait_until(lambda: seen.add(ask(running)) or len(seen) > 1, "a second worker's answer")
        victim = int(seen.pop().split()[0])
        kill(victim)
        running.wait_until(lambda: f"worker {victim} ended" in running.log.read_text(), "the loss to be logged")
        for _ in range(20):
            assert int(ask(running).split()[0]) != victim


def test_workers_that_are_all_idle_end_together(tmp_path):
    with role(tmp_path, ROLE, "-w", "2", main_cf="max_idle = 1\n") as running:
        running.wait_notify("READY=1")
        assert running.wait() == 0


def test_workers_reload(tmp_path):
    with role(tmp_path, ROLE, "-w", "2") as running:
        running.wait_notify("READY=1")
        running.main_cf.write_text("hopcount_limit = 7\n")
        running.send(signal.SIGHUP)
        running.wait_until(lambda: {ask(running).split()[1] for _ in range(6)} == {"7"}, "the new configuration")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_a_stranger_cannot_use_up_a_public_socket(public_directory):
    source = ROLE.replace('"Bug": bug,\n    })', '"Bug": bug,\n    }, per_uid_limit=2)')
    assert source != ROLE
    stranger = (
        "import socket, sys\n"
        "socks = [socket.socket(socket.AF_UNIX) for _ in range(5)]\n"
        "for sock in socks: sock.settimeout(10); sock.connect(sys.argv[1])\n"
        "print(sum(sock.recv(1) == b'' for sock in socks[2:]))\n"
        'socks[0].sendall(b\'{"method":"io.pyfix.Test.Pid"}\\0\'); print(socks[0].recv(1))\n'
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    with role(public_directory, source, main_cf="max_idle = 2\n") as running:
        running.wait_notify("READY=1")
        os.chmod(running.path, 0o666)
        command = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", stranger, running.path]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            told = [other.stdout.readline() for _ in range(3)]
            assert told == ["3\n", "b'{'\n", "ready\n"]
            # Others do not suffer.
            assert ask(running)
            log = "warning: too many connections: 3 of uid=65534 were closed"
            running.wait_until(lambda: log in running.log.read_text(), "the warning")
            other.stdin.close()
