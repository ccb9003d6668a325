"""The two mail hosts under comparison, each in a machine and a network of its own, with the same names and addresses.

``record`` gives both the mix, leads them through the same hours, and keeps what could be seen of them.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from beside import mix
from machine import package, postfix
from machine.machine import Machine, Network

_HERE = Path(__file__).parent
_SETTINGS = """\
alias_maps =
compatibility_level = 3.10
enable_long_queue_ids = yes
home_mailbox = Maildir/
inet_interfaces = all
inet_protocols = ipv4
initial_destination_concurrency = 1
local_recipient_maps = proxy:unix:passwd.byname
mail_name = Postfix
mydestination = $myhostname, here.example, localhost
myhostname = mail.here.example
mynetworks = 127.0.0.0/8 {prefix}.0/24
myorigin = here.example
recipient_delimiter = +
relay_domains = relay.example
smtp_connection_cache_on_demand = no
smtp_helo_timeout = 2s
smtp_tls_security_level =
smtpd_recipient_limit = 100
smtpd_tls_security_level =
transport_maps = inline:{{ {transports} }}
"""
# Runs in a machine: what postcat -q says of every queue ID, as JSON.
_POSTCAT = r"""
import json, subprocess, sys
def postcat(name):
    return subprocess.run(["postcat", "-q", name], capture_output=True).stdout.decode("utf-8", "backslashreplace")
json.dump({name: postcat(name) for name in sys.argv[1:]}, sys.stdout)
"""
_QUEUES = ("maildrop", "incoming", "active")
_USERS = ("alice", "bob")
# delay_warning_time in seconds: longer than a first attempt takes
_WARNING = 6


@dataclass
class Seen:
    """What could be seen of one host."""

    # (queue ID or "", program, text) in the order of the journal
    log: list = field(default_factory=list)
    # a message's name: what the host said to the client, or sendmail's exit status and words
    answers: dict = field(default_factory=dict)
    # when it was looked at: the queue as postqueue -j and mailq show it
    queue: dict = field(default_factory=dict)
    mailq: dict = field(default_factory=dict)
    # when: {queue ID: what postcat -q says}
    records: dict = field(default_factory=dict)
    # what a command said, and its exit status
    commands: dict = field(default_factory=dict)
    # what next hops and mailboxes got
    arrived: list = field(default_factory=list)
    mailboxes: dict = field(default_factory=dict)


class Host:
    """A mail host: ``name`` is its package's, its directory's below /etc and /var/spool, and its syslog_name."""

    own_settings = ""

    def __init__(self, name, machine, network, directory):
        self.name, self.machine, self.network, self.directory = name, machine, network, directory
        self.spool = machine.root / "var/spool" / name
        self._numbers = itertools.count()

    def prepare(self):
        """Users, settings, a quiet journal, and names from the world outside."""
        for user in _USERS:
            self.machine.run(f"useradd --create-home {user}")
        self.machine.write("/etc/systemd/journald.conf.d/all.conf", postfix.JOURNAL)
        self.machine.write("/etc/resolv.conf", f"nameserver {self.network.gateway}\n")
        transports = " ".join(f"{{{entry.format(prefix=self.network.prefix)}}}" for entry in mix.TRANSPORTS)
        settings = _SETTINGS.format(prefix=self.network.prefix, transports=transports)
        self.machine.write(f"/etc/{self.name}/main.cf", self.own_settings + settings)
        self.start()
        self.machine.wait_until(self._greets, f"{self.name}'s greeting")

    def start(self):
        raise NotImplementedError

    def _greets(self):
        greeting = "import socket; print(socket.create_connection(('127.0.0.1', 25), 20).recv(99)[:4])"
        return "220" in self.machine.python(greeting, check=False).stdout

    def give(self, messages):
        """Gives messages, and waits until they have settled; {name: answers}."""
        by_smtp = [message for message in messages if message.way == "smtp"]
        by_sendmail = [message for message in messages if message.way == "sendmail"]
        said = _feed(
            ["ip", "netns", "exec", self.network.name, sys.executable, _HERE / "feed.py", "smtp", self.machine.address],
            [{"lines": message.lines(), "content": message.content} for message in by_smtp],
        )  # fmt: skip
        words = [*self.machine.enter(), "/usr/bin/python3", "-c", (_HERE / "feed.py").read_text(), "sendmail"]
        said += _feed(words, [{"words": m.arguments(), "user": "alice", "content": m.content} for m in by_sendmail])
        self.settle()
        return dict(zip([message.name for message in by_smtp + by_sendmail], said, strict=True))

    def settle(self):
        """Waits until no message is on its way: twice, because one may have walked past where it was looked for."""
        quiet = 0

        def settled():
            nonlocal quiet
            quiet = 0 if self._moving() else quiet + 1
            return quiet == 3

        self.machine.wait_until(settled, f"{self.name}'s queue to settle", timeout=120)

    def _moving(self):
        return any(files for queue in _QUEUES for _, _, files in os.walk(self.spool / queue))

    def set(self, **settings):
        self.machine.run(["postconf", "-e", *(f"{name}={value}" for name, value in settings.items())])
        self.reload()

    def reload(self):
        self.machine.run(f"systemctl reload {self.name}")

    def look(self, seen, when):
        """Keeps what the queue looks like."""
        seen.queue[when] = self.machine.run("postqueue -j").stdout
        seen.mailq[when] = self.machine.run("mailq").stdout
        names = [json.loads(line)["queue_id"] for line in seen.queue[when].splitlines()]
        seen.records[when] = json.loads(self.machine.python(_POSTCAT, *names).stdout)

    def command(self, seen, what, *words):
        """Runs a command, and keeps what it said."""
        done = self.machine.run(list(words), check=False)
        seen.commands[what] = [str(done.returncode), done.stdout + done.stderr]

    def postsuper(self, seen, what, option, *names):
        """Runs postsuper for messages in the queue, called by their names in the mix."""
        queue = [json.loads(line) for line in self.machine.run("postqueue -j").stdout.splitlines()]
        found = {entry["sender"].partition("@")[0]: entry["queue_id"] for entry in queue}
        words = itertools.chain.from_iterable((option, found[name]) for name in names)
        self.command(seen, what, "postsuper", *words)

    def finish(self, seen):
        """Keeps the log, and what arrived."""
        for entry in self.machine.journal():
            tag = entry.get("SYSLOG_IDENTIFIER", "")
            if tag.startswith(f"{self.name}/"):
                seen.log.append([tag.partition("/")[2], _text(entry["MESSAGE"])])
        received = self.directory / "received"
        seen.arrived = [json.loads(line) for line in received.read_text().splitlines()]
        for user in _USERS:
            mail = sorted((self.machine.root / f"home/{user}/Maildir/new").glob("*"))
            seen.mailboxes[user] = [path.read_text(errors="backslashreplace") for path in mail]


class Postfix(Host):
    own_settings = "queue_directory = /var/spool/postfix\nmaillog_file =\n"

    def start(self):
        self.machine.run(
            "postconf -F '*/*/chroot=n' && systemctl restart systemd-journald && systemctl restart postfix"
        )


class Pyfix(Host):
    def start(self):
        listen = "[Socket]\nListenStream=\nListenStream=25\n"
        self.machine.write("/etc/systemd/system/pyfix-smtpd.socket.d/listen.conf", listen)
        self.machine.run(
            "systemctl restart systemd-journald; systemctl stop pyfix; systemctl daemon-reload; systemctl start pyfix"
        )


def _feed(words, messages):
    done = subprocess.run(words, input=json.dumps(messages), capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise AssertionError(f"feeding failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _text(message):
    """A log line, which journalctl shows as a list of bytes where it is no text."""
    return message if isinstance(message, str) else bytes(message).decode("utf-8", "backslashreplace")


@contextmanager
def _world(network, messages):
    """The world outside, as long as the context lasts; its directory."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "received").touch()
        (directory / "zone.json").write_text(json.dumps(mix.zone(messages, network.prefix)))
        words = ["ip", "netns", "exec", network.name, sys.executable, _HERE / "world.py", network.gateway, directory]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            yield directory
            process.stdin.close()


def _lead(kind, name, tree, deb, messages):
    """One host's hours; what was seen of it."""
    seen = Seen()
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        directory = stack.enter_context(_world(network, messages))
        machine = stack.enter_context(Machine(tree, "mail", network))
        if deb:
            machine.install(deb)
        host = kind(name, machine, network, directory)
        host.prepare()
        _live(host, seen, messages)
        host.finish(seen)
    return seen


def _live(host, seen, messages):
    """The hours of a host: everything is given; commands; later, all is tried again; at last all is given up."""

    def give(wave):
        seen.answers |= host.give([message for message in messages if message.wave == wave])

    def flush():
        host.machine.run("postqueue -f")
        host.settle()

    for wave in (1, 2):
        give(wave)
    host.look(seen, "first")
    host.postsuper(seen, "hold", "-h", "hold1", "hold2")
    host.postsuper(seen, "delete", "-d", "delete1", "suspended")
    host.postsuper(seen, "expire", "-e", "expire1", "expire2")
    host.postsuper(seen, "requeue", "-r", "requeue1")
    host.settle()
    host.set(delay_warning_time=f"{_WARNING}s", confirm_delay_cleared="yes")
    give(3)
    given = time.monotonic()
    host.look(seen, "second")
    host.machine.wait_until(lambda: time.monotonic() - given > _WARNING + 1, "the time of delay warnings")
    (host.directory / "released").touch()
    flush()
    host.look(seen, "third")
    host.postsuper(seen, "release", "-H", "hold2")
    host.set(maximal_queue_lifetime="0", bounce_queue_lifetime="0", notify_classes="bounce, delay, 2bounce")
    flush()
    host.look(seen, "end")


def record(messages):
    """What was seen of Postfix and of pyfix."""
    trees = [(Postfix, "postfix", postfix.tree(), None), (Pyfix, "pyfix", package.tree(), package.build())]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda one: _lead(*one, messages), trees))


def main(directory):
    """Keeps a record as JSON files, for people who look into differences."""
    for name, seen in zip(("postfix", "pyfix"), record(mix.messages()), strict=True):
        Path(directory, f"{name}.json").write_text(json.dumps(asdict(seen), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
