"""A whole pyfix, started by ``pyfix up`` in a directory of its own, for tests and benchmarks."""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]

MAIN_CF = """\
myhostname = mail.example.com
mydestination = $myhostname, localhost
inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8 [::1]/128
alias_maps =
local_recipient_maps = unix:passwd.byname
smtpd_peername_lookup = no
"""


# Linux gives outgoing connections ports from 32768 on (net.ipv4.ip_local_port_range).
_PORTS = range(10_000, 32_768)


def free_port():
    """A port that nobody listens on, and that no outgoing connection gets before somebody does."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


class SystemUnderTest:
    """``main_cf`` is added to MAIN_CF. Use as a context manager."""

    def __init__(self, directory, main_cf="", *, exported=None):
        self.directory = Path(directory)
        self.smtp_port = free_port()
        self.spool = self.directory / "spool"
        self.log = self.directory / "log"
        self.mail = self.directory / "mail"
        self.etc = self.directory / "etc"
        self.etc.mkdir(parents=True)
        self.mail.mkdir(mode=0o1777)
        self.mail.chmod(0o1777)
        settings = f"queue_directory = {self.spool}\nmail_spool_directory = {self.mail}/\n{MAIN_CF}{main_cf}"
        (self.etc / "main.cf").write_text(settings)
        dropin = self.etc / "systemd" / "pyfix-smtpd.socket.d"
        dropin.mkdir(parents=True)
        (dropin / "port.conf").write_text(f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{self.smtp_port}\n")
        self.environment = os.environ | (exported or {}) | {
            "MAIL_CONFIG": str(self.etc),
            "PYFIX_RUNTIME": str(self.directory / "run"),
            "PYFIX_LOG": str(self.log),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self.up = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Starts the system and waits until it greets."""
        self.up = subprocess.Popen(
            self.command("pyfix", "up", "--prefix", str(self.directory)),
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip
        self.wait_until(self._greets, "a greeting")

    def stop(self, number=signal.SIGTERM):
        """Ends the system; no process of it stays."""
        processes = self.processes()
        self.up.send_signal(number)
        try:
            self.up.wait(timeout=40)
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.up.wait()

    def command(self, name, *arguments):
        """The command line of one of pyfix's commands, as it runs from the checkout."""
        source = f"import sys; sys.argv[0] = {name!r}; from pyfix.commands.{name} import main; sys.exit(main())"
        return [sys.executable, "-c", source, *arguments]

    def run(self, name, *arguments, **options):
        """Runs one of pyfix's commands to its end."""
        options = {"capture_output": True, "text": True, "timeout": 60, "env": self.environment} | options
        return subprocess.run(self.command(name, *arguments), **options)

    def processes(self):
        """All processes of the system but ``pyfix up`` itself."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.up.pid).children(recursive=True)
        return []

    def roles(self):
        """The processes by role: {"smtpd": [Process]}."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                match = re.search(r"pyfix\.roles\.(\w+)", " ".join(process.cmdline()))
                if match:
                    found.setdefault(match[1], []).append(process)
        return found

    def log_text(self):
        return self.log.read_text() if self.log.exists() else ""

    def wait_log(self, pattern, timeout=30):
        """Waits for a log line and returns the match."""
        found = None

        def look():
            nonlocal found
            found = re.search(pattern, self.log_text())
            return found

        self.wait_until(look, f"{pattern!r} in the log", timeout)
        return found

    def wait_until(self, condition, what, timeout=30):
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}; the log ends:\n{self.log_text()[-3000:]}")
            time.sleep(0.02)

    def queue_files(self, *names):
        """The files in the named queues, hashed directories included."""
        names = names or ("maildrop", "incoming", "active", "deferred", "hold")
        return [p for name in names for p in (self.spool / name).rglob("*") if p.is_file()]

    def queue_ids(self, *names):
        """The queue IDs in the named queues."""
        return [path.name for path in self.queue_files(*names)]

    def wait_empty(self, timeout=60):
        self.wait_until(lambda: not self.queue_ids(), "an empty queue", timeout)

    def maildir(self, user):
        """The messages in a user's Maildir."""
        return [
            p.read_bytes() for p in sorted((self.mail / user / "new").glob("*"), key=lambda p: p.stat().st_mtime_ns)
        ]

    def _greets(self):
        if self.up.poll() is not None:
            raise AssertionError(f"pyfix up ended with {self.up.returncode}:\n{self.log_text()}")
        try:
            with socket.create_connection(("127.0.0.1", self.smtp_port), timeout=5) as sock:
                return sock.recv(100).startswith(b"220 ")
        except OSError:
            return False
