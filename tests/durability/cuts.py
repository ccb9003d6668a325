"""T1 and T5: the power fails while mail is accepted, and while it is delivered with queue and mailboxes on two disks.

The whole system works on recorded disks. A crash state is checked against the ledger as it was at the cut: what the
client had been promised, and what next hosts had taken, is one part; what stands in queue and mailboxes is the other.
"""

import contextlib
import threading
from typing import NamedTuple

from durability import mutant as mutants
from durability.mail import Client, Hosts, make_system, recipients
from durability.power import FILE_SYSTEMS, Recording, crash_states
from durability.queue_reader import look_into_maildir, look_into_mbox, look_into_queue
from durability.result import Result
from ledger import Ledger, log_violations, untold

PARALLEL = 5
_SLASH = {"maildir": "/", "mbox": ""}
ENOUGH = 5
"""Violations after which nobody needs more."""


class Program(NamedTuple):
    name: str
    # how messages come: every fourth by sendmail
    ways: tuple[str, ...]
    # which recipients a message has, in turn
    kinds: tuple[tuple[str, ...], ...]
    # where local mail goes: "" for nowhere, else "maildir" or "mbox"
    mailbox: str
    # the queue is empty at the end
    ends: bool
    mutants: tuple[mutants.Mutant, ...]


_DELIVERIES = (("local", "relay"), ("local",), ("relay", "error"), ("local", "grey"), ("error",))
_CUT = ("smtp", "smtp", "smtp", "sendmail")

ACCEPT = Program(
    "T1 accept", _CUT, (("down",), ("down", "relay")), "", False,
    (mutants.NO_FSYNC, mutants.NOTHING_SYNCED, mutants.EARLY, mutants.INVISIBLE),
)  # fmt: skip
MAILDIR = Program(
    "T5 deliver", ("smtp",), _DELIVERIES, "maildir", True,
    (mutants.NO_MAILDIR_SYNC, mutants.NAMED_TOO_EARLY, mutants.EARLY_RELAY, mutants.NO_NOTICE_FSYNC),
)  # fmt: skip
MBOX = MAILDIR._replace(mailbox="mbox", mutants=(mutants.NO_MAILBOX_FSYNC,))


def cut(directory, program, file_system, messages, states, seed=0, mutant=None):
    """Records the program on fresh disks, and looks at crash states of it."""
    recording, broken = _record(directory, program, FILE_SYSTEMS[file_system], messages, mutant)
    wrong, looked_at = ([] if mutant else broken), 0
    # What survives by chance would only hide a mutant.
    variants = ("none",) if mutant else ("none", "all", "some")
    crashes = crash_states(directory, recording, states, seed, variants=variants)
    with contextlib.closing(crashes):
        for state in crashes:
            looked_at += 1
            place = f"cut before event {state.point}, pending writes: {state.variant}"
            wrong += [f"{what} ({place})" for what in violations(program, state)]
            if looked_at == states // 2 and not mutant:
                wrong += [f"{what} (after a start)" for what in _recovered(directory / "again", program, state)]
            if len(wrong) >= (1 if mutant else ENOUGH):
                break
    what = " ".join(filter(None, (file_system, program.mailbox, mutant and mutant.name)))
    return Result(program.name, what, looked_at, 0, wrong, bool(mutant))


def _recovered(directory, program, state):
    """What is wrong when a system has been started on what the cut left, and has come to rest. It goes on unaided."""
    queue, *mailboxes = state.roots
    ledger = _promised(state)
    with Hosts(ledger) as hosts:
        places = [f"mail_spool_directory = {root}{_SLASH[program.mailbox]}" for root in mailboxes]
        # A lock file that the cut left is in the way until it is stale.
        places.append("stale_lock_time = 1s")
        system = make_system(directory, hosts, None, "\n".join([f"queue_directory = {queue}", *places, ""]))
        system.spool = queue
        with system:
            system.wait_empty(120)
    wrong, _ = _look_into_mailbox(program, state, ledger)
    return [*wrong, *ledger.violations(), *log_violations(system.log_text())]


def _record(directory, program, kind, messages, mutant):
    """The recording, and what was wrong with it before any cut."""
    ledger = Ledger()
    hosts = Hosts(ledger)
    main_cf = "" if program.mailbox == "maildir" else f"mail_spool_directory = {directory}/system/mail\n"
    system = make_system(directory / "system", hosts, mutant, main_cf)
    recording = Recording(directory, kind, [system.spool, *([system.mail] if program.mailbox else [])])
    ledger.tell(recording.mark)
    with recording.running():
        system.mail.chmod(0o1777)
        with contextlib.ExitStack() as stack:
            if program.ends:
                stack.enter_context(hosts)
            stack.enter_context(system)
            recording.start()
            drive(program, system, ledger, messages)
            if program.ends:
                system.wait_empty(120)
                # The last is what no other message's fsync has made durable, too.
                Client(system, ledger).send("last", recipients("last", "local"))
                system.wait_empty()
            recording.flush()
        log = system.log_text()
        broken = [*log_violations(log), *untold(log, ledger.queue_ids.values() if program.ends else ())]
    assert len(ledger.acknowledged) == len(ledger.digests), "not all were acknowledged"
    return recording, broken


def drive(program, system, ledger, messages):
    """Sends the messages, PARALLEL at a time."""
    numbers = iter(range(messages))
    failures = []

    def send():
        client = Client(system, ledger)
        try:
            # next() of a range's iterator is atomic
            for number in iter(lambda: next(numbers, None), None):
                kinds = program.kinds[number % len(program.kinds)]
                way = program.ways[number % len(program.ways)]
                key = f"k{number}"
                client.send(key, recipients(key, *kinds), way)
        except Exception as error:
            failures.append(error)
            raise
        finally:
            client.close()

    threads = [threading.Thread(target=send) for _ in range(PARALLEL)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def violations(program, state):
    """What is against the law in a crash state."""
    ledger = _promised(state)
    wrong = look_into_queue(state.roots[0], ledger)
    torn, half = _look_into_mailbox(program, state, ledger)
    wrong += [*torn, *ledger.violations()]
    return [f"{what}: it is in Maildir/tmp only" if what[3:].split(" ")[0] in half else what for what in wrong]


def _promised(state):
    """What client and next hosts had seen at the cut."""
    ledger = Ledger()
    for mark in state.marks:
        ledger.replay(mark)
    # What was removed from the queue a moment ago may be there again: it will come twice.
    ledger.in_flight = set(ledger.digests)
    return ledger


def _look_into_mailbox(program, state, ledger):
    """What is wrong with a mailbox, and the keys of messages that are only half in it."""
    if program.mailbox == "maildir":
        return [], look_into_maildir(state.roots[1] / "root", ledger)
    return (look_into_mbox(state.roots[1] / "root", ledger) if program.mailbox else []), set()
