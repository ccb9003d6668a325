"""Starts a role written for a test as systemd would: with its sockets, a notify socket and a log file."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

ROLE = '''
import asyncio
from msgspec import Struct
from pyfix.service.interface import Interface, Method, Nothing
from pyfix.service.role import run_role
import os

class Text(Struct, frozen=True):
    """A text."""
    text: str = ""

TEST = Interface("io.pyfix.Test", "For tests", (
    Method("Pid", Nothing, Text, "Tells the process and its hop count limit"),
    Method("Slow", Nothing, Text, "Takes half a second"),
    Method("Bug", Nothing, Text, "Fails"),
))

async def start(role):
    async def slow(_call):
        await asyncio.sleep(0.5)
        return Text("done")
    def bug(_call):
        raise ZeroDivisionError
    role.implement(TEST, {
        "Pid": lambda _call: Text(f"{os.getpid()} {role.conf.integer('hopcount_limit')}"), "Slow": slow, "Bug": bug,
    })

run_role("test", start, "A role for tests.")
'''

FORKING = '''
import os
from msgspec import Struct
from pyfix.service.forking import run_forking_role
from pyfix.service.interface import Interface, Method, Nothing
from pyfix.service.dispatch import Implementation
from pyfix.service.blocking import serve_blocking

class Text(Struct, frozen=True):
    """A text."""
    text: str = ""

TEST = Interface("io.pyfix.Test", "For tests", (Method("Pid", Nothing, Text, "Tells the process"),))

def start(role):
    limit = role.conf.integer("hopcount_limit")
    implementation = Implementation(TEST, {"Pid": lambda _call: Text(f"{os.getpid()} {limit}")})
    return lambda sock: serve_blocking(implementation, sock, 5)

run_forking_role("test", start, "A forking role for tests.")
'''


class RoleProcess:
    """A running role."""

    def __init__(self, directory, source, *arguments, main_cf=""):
        self.directory = directory
        self.path = str(directory / "io.pyfix.Test")
        self.log = directory / "log"
        self.main_cf = directory / "main.cf"
        self.main_cf.write_text(main_cf)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(100)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        self.notify.settimeout(10)
        environment = os.environ | {
            "MAIL_CONFIG": str(directory),
            "PYFIX_LOG": str(self.log),
            "NOTIFY_SOCKET": str(directory / "notify"),
            "PYTHONPATH": str(ROOT),
        }
        fd = self.listener.fileno()
        source = "import os\nos.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n" + source
        launcher = (
            "import os, sys\nos.dup2(int(sys.argv[1]), 3)\nos.set_inheritable(3, True)\n"
            "os.execv(sys.executable, [sys.executable, '-c', *sys.argv[2:]])"
        )
        command = [sys.executable, "-c", launcher, str(fd), source, *arguments]
        self.process = subprocess.Popen(command, env=environment, pass_fds=[fd])

    def wait_notify(self, wanted):
        """Reads notifications up to one that has a line beginning with this."""
        while True:
            lines = self.notify.recv(4096).decode().split("\n")
            for line in lines:
                if line.startswith(wanted):
                    return line

    def wait(self):
        return self.process.wait(timeout=15)

    def wait_until(self, condition, what):
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.01)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.listener.close()
        self.notify.close()

    def send(self, number):
        self.process.send_signal(number)


@contextlib.contextmanager
def role(directory, source, *arguments, main_cf=""):
    running = RoleProcess(directory, source, *arguments, main_cf=main_cf)
    try:
        yield running
    finally:
        running.end()


def kill(pid):
    os.kill(pid, signal.SIGKILL)
