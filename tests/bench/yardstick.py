"""``make bench``: pyfix beside Postfix, each in a machine of its own, measured in turn.

Both run on Debian 13 with systemd, journald without rate limits, TLS off, the same settings where they have any; the
load comes from Postfix's own smtp-source and goes to its smtp-sink, inside the same machine. Each machine writes to a
new ext4 file system of its own, with a journal, whatever the disk below is: neither pays for what others did to it.
Queue, mailboxes and journal lie on it without an overlay, as they do in life. The two take turns, case by case, and the
order of the two changes from round to round. Medians, and the median of the rounds' ratios pyfix/Postfix, are printed
and written to build/bench.json.

An operation ends when the queue is empty again: what is counted is mail delivered, not mail taken. Then comes what a
large queue costs (scale.py), once for each of the two.
"""

import argparse
import contextlib
import functools
import json
import platform
import statistics
import sys
import tempfile
from itertools import starmap
from operator import truediv
from pathlib import Path

import scale
from durability.power import mounted, run
from machine import package, postfix
from machine.machine import Machine
from machine.tree import CACHE

RESULT = Path(__file__).parents[2] / "build" / "bench.json"
TOOLS = "/opt/postfix-tree"
DISK_SIZE = 8 << 30
BESIDE = ("/home", "/var/log", "/var/spool")
DISCARD, RELAY = "default_transport = discard\n", "relayhost = [127.0.0.1]:2500\n"
SETTINGS = """\
myhostname = mail.bench.test
mydestination = $myhostname
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
message_size_limit = 100000000
mailbox_size_limit = 0
home_mailbox = Maildir/
smtp_tls_security_level = none
smtpd_tls_security_level = none
alias_maps =
local_recipient_maps = proxy:unix:passwd.byname
smtpd_client_connection_count_limit = 0
compatibility_level = 3.10
"""

# Runs in the machine: times one load, in seconds, until the queue is empty.
TIMED = r"""
import os, subprocess, sys, time
spool, command = sys.argv[1], sys.argv[2:]
def holds(directory):
    with os.scandir(directory) as entries:
        return any(not entry.is_dir() or holds(entry.path) for entry in entries)
def queued():  # at the first file it is over: what looks into a large queue again and again would slow it down
    return any(holds(f"{spool}/{name}") for name in ("active", "incoming", "maildrop", "deferred"))
start = time.monotonic()
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
taken = time.monotonic() - start
while queued():
    time.sleep(0.01)
print(taken, time.monotonic() - start)
"""

# Runs in the machine: opens connections, then times the greeting of further ones.
HELD = r"""
import socket, statistics, sys, time
count = int(sys.argv[1])
held = []
for _ in range(count):
    s = socket.create_connection(("127.0.0.1", 25), timeout=120)
    held.append(s)
for s in held:
    assert s.recv(500).startswith(b"220"), "no greeting"
    s.sendall(b"EHLO held.bench.test\r\n")
for s in held:
    assert s.recv(1000).startswith(b"250"), "no EHLO reply"
print("held", flush=True)
sys.stdin.readline()
times = []
for _ in range(20):
    start = time.monotonic()
    s = socket.create_connection(("127.0.0.1", 25), timeout=120)
    assert s.recv(500).startswith(b"220")
    times.append(time.monotonic() - start)
    s.close()
print(statistics.median(times))
"""

MEMORY = r"""
import os, re, sys
def pss(pid):
    try:
        return int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{pid}/smaps_rollup").read(), re.M)[1])
    except OSError:
        return 0
def command(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read().replace("\0", " ")
    except OSError:
        return ""
words = sys.argv[1].split(",")
print(sum(pss(p) for p in os.listdir("/proc") if p.isdigit() and any(w in command(p) for w in words)))
"""


@contextlib.contextmanager
def disk():
    """A directory that is a new ext4 file system, until the context ends."""
    with tempfile.TemporaryDirectory(prefix="disk-", dir=CACHE) as directory:
        image, root = Path(directory, "image"), Path(directory, "root")
        run("fallocate", "--length", DISK_SIZE, image)
        # Nothing is left to be initialized while one measures.
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        with mounted(image, root):
            yield root


class System:
    """One of the two, in its machine."""

    def __init__(self, name, machine, spool, processes):
        self.name, self.machine, self.spool, self._processes = name, machine, spool, processes

    def prepare(self):
        """A quiet machine with the benchmark's settings, and a sink."""
        self.machine.write("/etc/systemd/journald.conf.d/bench.conf", postfix.JOURNAL)
        self.machine.run("systemctl restart systemd-journald; useradd -m bench || true")
        sink = f"chroot {TOOLS} smtp-sink -u nobody 127.0.0.1:2500 500"
        self.machine.run(f"systemd-run --unit=sink -p LogRateLimitIntervalSec=0 {sink}")
        self.configure("")

    def configure(self, settings):
        """Takes the benchmark's settings and more, by a restart."""
        self.machine.write(f"/etc/{self.name}/main.cf", self.own_settings() + SETTINGS + settings)
        self.machine.run(self.restart_command())
        self.machine.wait_until(self._greets, f"{self.name}'s greeting")

    def own_settings(self):
        return ""

    def restart_command(self):
        return f"systemctl restart {self.name}"

    def _greets(self):
        greeting = "import socket; print(socket.create_connection(('127.0.0.1', 25), 20).recv(99)[:4])"
        return "220" in self.machine.python(greeting, check=False).stdout

    def load(self, *command):
        """Times a load: seconds until it was taken, seconds until the queue is empty."""
        out = self.machine.python(TIMED, self.spool, *command, timeout=600).stdout.split()
        return float(out[0]), float(out[1])

    def memory(self):
        """Proportional set size of all its processes, MiB."""
        return int(self.machine.python(MEMORY, self._processes).stdout) / 1024


class Postfix(System):
    def own_settings(self):
        return "queue_directory = /var/spool/postfix\ndefault_process_limit = 1100\nmaillog_file =\n"


def source(messages, size, recipient, persistent, sessions=20):
    """smtp-source's command line."""
    options = f"{'-d ' if persistent else ''}-s {sessions} -m {messages} -l {size} -f a@bench.test -t {recipient}"
    return ["chroot", TOOLS, "smtp-source", *options.split(), "127.0.0.1:25"]


def measure_throughput(system, messages, size, recipient, persistent):
    _, seconds = system.load(*source(messages, size, recipient, persistent))
    return messages / seconds


def measure_sendmail(system, messages):
    """Injections one after the other, by one shell."""
    once = "sendmail -i -f a@bench.test x@discard.test </root/mail"
    script = f"i=0; while [ $i -lt {messages} ]; do {once}; i=$((i+1)); done"
    system.machine.run("(echo Subject: x; echo; seq 1 500) >/root/mail")
    return messages / system.load("/bin/sh", "-c", script)[0]


def measure_held(system, connections):
    """Memory of held connections (MiB more) and the time to a greeting meanwhile (ms)."""
    before = system.memory()
    command = ["python3", "-c", HELD, str(connections)]
    process = system.machine.popen(command, stdin=-1, stdout=-1, text=True)
    assert process.stdout.readline() == "held\n"
    grown = system.memory() - before
    process.stdin.write("\n")
    process.stdin.flush()
    greeting = float(process.stdout.readline()) * 1000
    process.wait(timeout=60)
    return grown, greeting


def measure_small(system, messages, case, settings, recipient):
    """A case with small messages."""
    system.configure(settings)
    system.load(*source(100, 4096, recipient, persistent=True))
    values = {}
    for persistent in (True, False):
        values[case, persistent] = measure_throughput(system, messages, 4096, recipient, persistent)
    system.machine.run("rm -rf /home/bench/Maildir")
    return values


def measure_large(system):
    """One message of 20 MB, on its way to the sink."""
    system.configure(RELAY)
    system.load(*source(20, 4096, "x@sink.test", persistent=True))
    return {("large", True): 20 / system.load(*source(1, 20_000_000, "x@sink.test", True, 1))[1]}


def measure_rest(system):
    """What does not depend on a stream of mail."""
    system.configure(DISCARD)
    system.load("/bin/sh", "-c", "echo x | sendmail -f a@bench.test x@discard.test")
    values = {("sendmail", False): measure_sendmail(system, 100), ("idle_memory", False): system.memory()}
    values["held_memory", True], values["held_greeting", True] = measure_held(system, 1000)
    return values


def measurements(messages):
    """All, in their order: functions of a system, each of which gives {(case, persistent): value}."""
    for case, settings, recipient in (
        ("accept", DISCARD, "x@discard.test"),
        ("relay", RELAY, "x@sink.test"),
        ("maildir", "", "bench@mail.bench.test"),
    ):
        yield functools.partial(measure_small, messages=messages, case=case, settings=settings, recipient=recipient)
    yield measure_large
    yield measure_rest


def measure_round(systems, messages):
    """One round: a {(case, persistent): value} for each system. They take turns, so that they meet the same moments."""
    values = [{} for _ in systems]
    for measure in measurements(messages):
        for system, of_it in zip(systems, values, strict=True):
            of_it.update(measure(system))
    return values


UNITS = {"large": "MB/s", "idle_memory": "MiB", "held_memory": "MiB", "held_greeting": "ms"} | scale.UNITS


def measure_scale(system):
    """The large queue on one system: {(case, persistent): value}."""
    print(f"a large queue: {system.name}", file=sys.stderr)
    scale.prepare(system)
    return {(case, False): value for case, value in scale.measure(system).items()}


def report(rounds):
    """The list that build/bench.json holds."""
    rows = []
    for case, persistent in rounds["pyfix"][0]:
        values = {name: [r[case, persistent] for r in taken] for name, taken in rounds.items()}
        pairs = list(zip(values["pyfix"], values["postfix"], strict=True))
        unit = UNITS.get(case, "messages/s")
        rows.append({
            "case": case,
            "persistent": persistent,
            "unit": unit,
            **{name: round(statistics.median(taken), 2) for name, taken in values.items()},
            # of what was measured one after the other: the machine's speed changes more than that of either
            "ratio": None if unit == "%" else round(statistics.median(starmap(truediv, pairs)), 2),
            "rounds": [{"pyfix": round(ours, 2), "postfix": round(theirs, 2)} for ours, theirs in pairs],
        })  # fmt: skip
    return rows


def publish(rows):
    """Writes and prints what has been measured so far."""
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{'case':20} {'connections':12} {'pyfix':>9} {'Postfix':>9} {'ratio':>6}  unit")
    for row in rows:
        kind = "persistent" if row["persistent"] else "-"
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['case']:20} {kind:12} {row['pyfix']:9.1f} {row['postfix']:9.1f} {ratio:>6}  {row['unit']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--no-scale", action="store_true", help="leave the large queue out")
    options = parser.parse_args()
    postfix_tree = postfix.tree()
    tools = [(postfix_tree, TOOLS)]
    with (
        disk() as our_disk,
        disk() as their_disk,
        Machine(package.tree(), "pyfix", binds=tools, directory=our_disk, beside=BESIDE) as ours,
        Machine(postfix_tree, "postfix", binds=tools, directory=their_disk, beside=BESIDE) as theirs,
    ):
        ours.install(package.build())
        systems = [
            System("pyfix", ours, "/var/spool/pyfix", "pyfix"),
            Postfix("postfix", theirs, "/var/spool/postfix", "postfix"),
        ]
        for system in systems:
            system.prepare()
        rounds = {"pyfix": [], "postfix": []}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            in_turn = systems if number % 2 == 0 else systems[::-1]
            for system, values in zip(in_turn, measure_round(in_turn, options.messages), strict=True):
                rounds[system.name].append(values)
        publish(report(rounds))
        if not options.no_scale:
            publish(report(rounds) + report({system.name: [measure_scale(system)] for system in systems}))
    print(f"medians of {options.rounds} rounds; {platform.machine()}, {platform.release()}; written to {RESULT}")


if __name__ == "__main__":
    main()
