"""T2 and T3: a SIGKILL, or an error, at a system call of a role that takes part in a message's way.

A transaction that makes the role do all that it can do to mail is watched once, which tells its system calls. Then,
for one after another of them, a transaction is made in which the fault hits there. Nobody helps; the transaction has
to come to its end, and the next one shows that the role has recovered. Errors are injected on recorded disks, and for
each acknowledgement the power fails right after it: what is not durable then was promised too early.
"""

import contextlib
import json
from typing import NamedTuple

from durability import mutant as mutants
from durability.cuts import MAILDIR, violations
from durability.mail import Client, Hosts, make_system, recipients
from durability.patience import wait
from durability.power import EXT4, Recording, crash_states
from durability.result import Result
from durability.strace import Strace, failing, killing, spread
from ledger import Ledger, log_violations

RECOVERY, RETRY = 10, 90
"""Seconds within which a transaction must end after a kill, and after an error: what a role keeps for later it looks at
once a minute (see patience.py)."""


class Scenario(NamedTuple):
    """A transaction in which a role does all that it does to mail."""

    role: str
    way: str
    kinds: tuple[str, ...]
    # who has to wait until the client has its answer: it would make durable what the role should have
    frozen: str = ""
    # how the system differs from most
    variant: mutants.Mutant | None = None

    @property
    def name(self):
        return f"{self.role} {self.variant.name}" if self.variant else self.role


SCENARIOS = (
    Scenario("smtpd", "smtp", ("local", "relay")),
    Scenario("rewrite", "smtp", ("local", "relay")),
    Scenario("cleanup", "smtp", ("local", "error")),
    Scenario("cleanup", "smtp", ("local", "error"), variant=mutants.NO_KERNEL_SYNC),
    Scenario("postdrop", "sendmail", ("local",), "pickup"),
    Scenario("pickup", "sendmail", ("local",)),
    Scenario("qmgr", "smtp", ("local", "relay", "grey", "error")),
    Scenario("local", "smtp", ("local",)),
    Scenario("local", "smtp", ("local",), variant=mutants.NO_KERNEL_SYNC),
    Scenario("smtp", "smtp", ("relay", "grey", "error")),
    Scenario("bounce", "smtp", ("grey", "error")),
    Scenario("bounce", "smtp", ("grey", "error"), variant=mutants.NO_KERNEL_SYNC),
)
KILL_MUTANTS = (
    ("cleanup", mutants.LATE_COMMIT, ("close", "fchmod", "io_submit", "openat", "write")),
    ("smtp", mutants.EARLY_RELAY, ("connect", "sendto", "socket")),
)
ERROR_MUTANTS = (
    ("cleanup", mutants.DEAF_TO_FSYNC, ("fsync",)),
    ("cleanup", mutants.DEAF_TO_WRITE, ("write",)),
    ("postdrop", mutants.DEAF_TO_FSYNC, ("fsync",)),
)
"""A role, what is wrong with it, and the system calls at which that shows."""

_WRITING = frozenset((
    "fchmod", "fchown", "fdatasync", "fsync", "ftruncate", "link", "linkat", "mkdir", "mkdirat", "openat", "pwrite64",
    "rename", "renameat", "renameat2", "sync_file_range", "unlink", "unlinkat", "utimensat", "write",
))  # fmt: skip
_READING = frozenset((
    "flock", "fstat", "fstatfs", "getdents64", "lseek", "newfstatat", "pread64", "read", "statfs",
))  # fmt: skip
_OPENING = frozenset(("accept4", "openat", "pipe2", "recvmsg", "socket"))
_INTERRUPTED = frozenset((
    "accept4", "connect", "epoll_wait", "fsync", "io_getevents", "openat", "pwrite64", "read", "recvfrom", "recvmsg",
    "sendmsg", "sendto", "sync_file_range", "write",
))  # fmt: skip
_BEGINNING = frozenset(("io_setup", "io_submit"))


def errors(call):
    """The errors that a system call is made to end with. Not close: injected, it does not close."""
    found = []
    if call in _WRITING:
        found += ["EIO", "ENOSPC", "EDQUOT", "EROFS"]
    if call in _READING:
        found += ["EIO"]
    if call in _OPENING:
        found += ["EMFILE", "ENOMEM"]
    if call in _INTERRUPTED:
        found += ["EINTR"]
    if call in _BEGINNING:
        found += ["EAGAIN", "EPERM"]
    return found


class Faulty:
    """A system in which one transaction after another meets a fault."""

    def __init__(self, system, ledger, scenario, output, patience=RECOVERY):
        self.system = system
        self.scenario = scenario
        # what strace says
        self._output = output
        # what client and next hosts see, and what stands in the Maildir
        self._seen = Ledger()
        self._files = set()
        self._ledger = ledger
        self._count = 0
        self._patience = patience
        self.violations = []

    def see(self, note):
        self._seen.replay(note)

    def calibrate(self):
        """The places of a transaction without a fault; one before it starts what starts on demand."""
        self.transact()
        with Strace(self._pids(), self._output) as strace:
            self.transact()
        return strace.places()

    def hit(self, what, *expressions):
        """A transaction with a fault; whether it was hit."""
        with Strace(self._pids(), self._output, *expressions) as strace:
            key = self._send()
            # The next process of a role that forks would meet it again.
            wait(lambda: strace.hit or strace.ended or self._over(key), self._patience)
        if not wait(lambda: self._over(key), self._patience):
            self.violations.append(f"{what}: no recovery within {self._patience} s; {self._waiting(key)}")
        return strace.hit

    def transact(self):
        """A transaction without a fault."""
        key = self._send()
        if key not in self._seen.acknowledged or not wait(lambda: self._over(key), RECOVERY):
            self.violations.append(f"without a fault: {self._waiting(key)}")

    def end(self):
        """Shows that all is well; what only a start puts in order, a start may."""
        self.transact()
        for manager in self.system.roles().get("qmgr", ()):
            manager.kill()
        if not wait(lambda: not self.system.queue_ids(), RECOVERY):
            self.violations.append(f"I6 left over: {', '.join(self.system.queue_ids())}")
        self._seen.in_flight = set(self._seen.digests)
        self.violations += self._seen.violations()

    def _pids(self):
        role = self.scenario.role
        found = []
        # One that a fault has ended is started again.
        assert wait(lambda: found.extend(self.system.roles().get(role, ())) or found, RECOVERY), f"there is no {role}"
        return [process.pid for process in found]

    def _send(self):
        self._count += 1
        key = f"k{self._count}"
        client = Client(self.system, self._ledger)
        frozen = self.system.roles().get(self.scenario.frozen, ())
        for process in frozen:
            process.suspend()
        try:
            client.send(key, recipients(key, *self.scenario.kinds), self.scenario.way, size=1000)
        finally:
            client.close()
            for process in frozen:
                process.resume()
        return key

    def _over(self, key):
        """Whether nothing is to be done any more; what nobody was promised may be there or not."""
        for file in set((self.system.mail / "root/new").glob("*")) - self._files:
            self._files.add(file)
            self._seen.receive(file.read_bytes())
        promised = key in self._seen.acknowledged
        return (not promised or self._seen.settled(key)) and not any(map(self._is_ready, self.system.queue_files()))

    @staticmethod
    def _is_ready(path):
        with contextlib.suppress(FileNotFoundError):
            return bool(path.stat().st_mode & 0o100)
        return False

    def _waiting(self, key):
        wanted = self._seen.asked[key] - self._seen.has(key)
        state = "acknowledged" if key in self._seen.acknowledged else "not acknowledged"
        return f"{key}, {state}, still wanted by {sorted(wanted)}; in the queue: {self.system.queue_ids()}"


def kill(directory, scenario, count, mutant=None, calls=()):
    """T2: a SIGKILL at ``count`` places (0: all) of a role, only at ``calls`` if there are any."""
    ledger = Ledger()
    with Hosts(ledger) as hosts, make_system(directory / "system", hosts, mutant or scenario.variant) as system:
        faulty = Faulty(system, ledger, scenario, directory / "calls")
        ledger.tell(faulty.see)
        hits = 0
        for place in _chosen(_at(faulty.calibrate(), calls), count):
            hits += faulty.hit(f"SIGKILL at {place.call} {place.number}", *killing(place))
            if mutant and faulty.violations:
                break
        faulty.end()
        wrong = [*faulty.violations, *log_violations(system.log_text())]
    what = f"{scenario.role} {mutant.name}" if mutant else scenario.name
    return Result("T2 kill", what, 0, hits, wrong, bool(mutant))


def fail(directory, scenario, count, mutant=None, calls=()):
    """T3: ``count`` errors (0: all) at places of a role, as in ``kill``, and a power cut after each acknowledgement."""
    ledger = Ledger()
    hosts = Hosts(ledger)
    system = make_system(directory / "system", hosts, mutant or scenario.variant)
    recording = Recording(directory, EXT4, [system.spool, system.mail])
    faulty = Faulty(system, ledger, scenario, directory / "calls", RETRY)

    def tell(note):
        recording.mark(note)
        faulty.see(note)

    ledger.tell(tell)
    hits = 0
    with recording.running():
        system.mail.chmod(0o1777)
        with hosts, system:
            recording.start()
            places = _at(faulty.calibrate(), calls)
            faults = [(place, error) for place in places for error in errors(place.call)]
            for place, error in _chosen(faults, count):
                hits += faulty.hit(f"{error} at {place.call} {place.number}", *failing(place, error))
                if mutant and faulty.violations:
                    break
            faulty.end()
    wrong, states = faulty.violations, 0
    for state in crash_states(directory, recording, len(list(recording.events())), 1, _acknowledgements, ("none",)):
        states += 1
        wrong += [f"{what} (cut after its acknowledgement)" for what in violations(MAILDIR, state)]
    what = f"{scenario.role} {mutant.name}" if mutant else scenario.name
    return Result("T3 error", what, states, hits, wrong, bool(mutant))


def _acknowledgements(events, start):
    """After each acknowledgement."""
    marks = range(start + 1, len(events))
    return [i + 1 for i in marks if events[i].kind == "mark" and json.loads(events[i].data)[0] == "acknowledge"]


def _at(places, calls):
    return [place for place in places if not calls or place.call in calls]


def _chosen(items, count):
    return spread(items, count) if count else items
