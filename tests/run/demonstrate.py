"""``make run``: pyfix in a directory of its own, shown at work.

Starts every role with ``pyfix up``, and an aiosmtpd server that stands for the next host. Sends a message through SMTP
and one through sendmail, each to a user of this machine and to somebody elsewhere; shows that all four deliveries
were made, the queue, and a trace. Then serves until Ctrl-C, or ends with --once; the exit status tells whether all
went well.
"""

import argparse
import fcntl
import os
import pwd
import re
import shlex
import signal
import smtplib
import socket
import subprocess
import sys
import time
from pathlib import Path

from aiosmtpd.controller import Controller

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
ELSEWHERE = "somebody@example.net"
COMMANDS = ("mailq", "postcat", "postconf", "postqueue", "postsuper", "pyfix", "sendmail")

MAIN_CF = """\
# Written by make run each time.
myhostname = mail.example.com
mydestination = $myhostname, localhost
inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8 [::1]/128
queue_directory = {directory}/spool
data_directory = {directory}/lib
mail_owner = {user}
alias_maps =
local_recipient_maps = unix:passwd.byname
mail_spool_directory = {directory}/mail/
# The server that stands for all other hosts
relayhost = [127.0.0.1]:{next_host_port}
"""


class NextHost:
    """Keeps what it gets as files."""

    def __init__(self, directory):
        self.directory = directory
        self.directory.mkdir(exist_ok=True)
        self.received = 0

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 -- aiosmtpd's name
        self.received += 1
        name = f"{int(time.time() * 1000)}-{self.received}.eml"
        lines = f"X-Envelope-From: <{envelope.mail_from}>\nX-Envelope-To: {' '.join(envelope.rcpt_tos)}\n"
        (self.directory / name).write_bytes(lines.encode() + envelope.content.replace(b"\r\n", b"\n"))
        return "250 2.0.0 kept"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start_next_host(directory):
    """The server, on a port that is free."""
    for _ in range(10):
        controller = Controller(NextHost(directory), hostname="127.0.0.1", port=free_port())
        try:
            controller.start()
        except OSError:  # somebody else was faster
            continue
        return controller
    raise SystemExit("no free port was found")


def refuse_a_second(directory):
    """Ends when a demonstration runs there already: its configuration is not to be touched."""
    pid_file = directory / "run/up.pid"
    if pid_file.exists():
        with pid_file.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                raise SystemExit(f"pyfix up is running in {directory} already, process {file.read().strip()}") from None


class Demonstration:
    def __init__(self, directory):
        self.directory = directory
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.log = directory / "log"
        self.failures = []
        self.up = None

    def configure(self, next_host_port):
        """main.cf, the SMTP port, and commands that find both."""
        for name in ("etc", "mail", "bin"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self.smtp_port = free_port()
        settings = MAIN_CF.format(directory=self.directory, user=self.user, next_host_port=next_host_port)
        (self.directory / "etc/main.cf").write_text(settings)
        drop_in = self.directory / "etc/systemd/pyfix-smtpd.socket.d/port.conf"
        drop_in.parent.mkdir(parents=True, exist_ok=True)
        drop_in.write_text(f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{self.smtp_port}\n")
        self.environment = os.environ | {
            "MAIL_CONFIG": str(self.directory / "etc"),
            "PYFIX_RUNTIME": str(self.directory / "run"),
            "PYFIX_LOG": str(self.log),
            "PYTHONPATH": str(ROOT),
        }
        for name in COMMANDS:
            self.write_launcher(name)

    def write_launcher(self, name):
        module = name if (ROOT / f"pyfix/commands/{name}.py").exists() else "sendmail"
        code = f"import sys; sys.argv[0] = {name!r}; from pyfix.commands.{module} import main; main()"
        names = ("MAIL_CONFIG", "PYFIX_RUNTIME", "PYFIX_LOG", "PYTHONPATH")
        exports = " ".join(f"{variable}={shlex.quote(self.environment[variable])}" for variable in names)
        path = self.directory / "bin" / name
        path.write_text(f'#!/bin/sh\n{exports} exec {shlex.quote(sys.executable)} -P -c {shlex.quote(code)} "$@"\n')
        path.chmod(0o755)

    def start(self):
        # A session of its own: Ctrl-C is for this program, which ends the other in order.
        self.up = subprocess.Popen(
            [self.directory / "bin/pyfix", "up", "--prefix", self.directory], start_new_session=True
        )
        if not self.wait_for("the greeting of smtpd", self.greets):
            raise SystemExit(f"FAILED: {self.failures[-1]}")

    def greets(self):
        if self.up.poll() is not None:
            raise SystemExit(f"pyfix up ended with status {self.up.returncode}")
        try:
            with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=10) as smtp:
                return smtp.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    def wait_for(self, what, condition):
        """What the condition answers, as soon as it is true; None if it never is, which is a failure."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if answer := condition():
                return answer
            time.sleep(0.05)
        self.failures.append(f"waited {PATIENCE:.0f} s in vain for {what}")
        return None

    def log_lines(self, pattern):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [line for line in text[self.log_start :].split("\n") if re.search(pattern, line)]

    def show(self):
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        local = f"{self.user}@mail.example.com"
        title("A message through SMTP, to a user of this machine and to another host")
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=PATIENCE) as smtp:
            smtp.sendmail(local, [local, ELSEWHERE], text_of("through SMTP", local))
        print(f"accepted on 127.0.0.1:{self.smtp_port}")
        title("A message through sendmail, to both")
        sendmail = [self.directory / "bin/sendmail", "-i", "-f", local, local, ELSEWHERE]
        subprocess.run(sendmail, input=text_of("through sendmail", local).encode(), check=True, timeout=PATIENCE)
        print(f"accepted by {sendmail[0]}")
        self.wait_for("four deliveries", lambda: len(self.log_lines(r" status=sent ")) >= 4)
        removed = self.wait_for("two messages' end", lambda: self.two(self.log_lines(r": removed$")))
        title("The log")
        print("\n".join(self.log_lines(r"/(smtpd|pickup|cleanup|qmgr|smtp|local|relay)\[")))
        title("What arrived")
        self.show_mail(self.directory / "mail" / self.user / "new", "Maildir")
        self.show_mail(self.directory / "next-host", "the next host")
        title("mailq")
        self.run("mailq")
        title("pyfix status")
        self.run("pyfix", "status")
        if removed:
            queue_id = re.search(r"\]: (\w+): removed", removed[-1])[1]
            title(f"pyfix trace {queue_id}")
            self.run("pyfix", "trace", queue_id)

    @staticmethod
    def two(lines):
        return lines if len(lines) >= 2 else None

    def show_mail(self, directory, where):
        subjects = {"through SMTP": 0, "through sendmail": 0}
        for path in sorted(directory.glob("*")) if directory.exists() else ():
            for subject in subjects:
                if f"\nSubject: {subject}, {self.stamp}\n".encode() in path.read_bytes():
                    subjects[subject] += 1
                    print(f"{where}: {subject}: {path}")
        if set(subjects.values()) != {1}:
            self.failures.append(f"{where}: {subjects}; each message should be there once")

    def run(self, command, *arguments):
        done = subprocess.run([self.directory / "bin" / command, *arguments], check=False, timeout=PATIENCE)
        if done.returncode:
            self.failures.append(f"{command}: exit status {done.returncode}")

    def stop(self):
        if self.up is None or self.up.poll() is not None:
            return
        self.up.send_signal(signal.SIGTERM)
        try:
            status = self.up.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.up.kill()
            status = self.up.wait()
        if status:
            self.failures.append(f"pyfix up: exit status {status}")

    stamp = f"{os.getpid()}-{int(time.time())}"


def text_of(subject, sender):
    subject = f"{subject}, {Demonstration.stamp}"
    return f"From: {sender}\nTo: {sender}, {ELSEWHERE}\nSubject: {subject}\n\nThis message came {subject}.\n"


def title(text):
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def serve(demonstration):
    title("Serving until Ctrl-C")
    directory = demonstration.directory
    print(
        f"SMTP:      127.0.0.1:{demonstration.smtp_port}\n"
        f"commands:  {directory}/bin\n"
        f"mailboxes: {directory}/mail\n"
        f"log:       {directory}/log\n"
        f"mail for other hosts is kept in {directory}/next-host",
        flush=True,
    )
    status = demonstration.up.wait()
    demonstration.failures.append(f"pyfix up ended by itself with status {status}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the demonstration")
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell that started this in the background has SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    refuse_a_second(directory)
    demonstration = Demonstration(directory)
    next_host = start_next_host(directory / "next-host")
    try:
        demonstration.configure(next_host.port)
        demonstration.start()
        demonstration.show()
        if not options.once:
            serve(demonstration)
    except KeyboardInterrupt:
        print()
    finally:
        demonstration.stop()
        next_host.stop()
    for failure in demonstration.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    raise SystemExit(1 if demonstration.failures else 0)


if __name__ == "__main__":
    main()
