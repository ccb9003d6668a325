"""T3: the queue's disk fails for good while mail comes in. What it does not keep is not acknowledged."""

import json

from durability import mutant as mutants
from durability.cuts import ACCEPT, drive, violations
from durability.mail import Hosts, make_system
from durability.power import FILE_SYSTEMS, Recording, crash_states
from durability.result import Result
from ledger import Ledger, log_violations

MESSAGES = 60
"""Half of them are acknowledged before the disk fails."""
MUTANTS = (mutants.DEAF_TO_KERNEL, mutants.DEAF_TO_FSYNC)
_ATTEMPTS = 6
"""A mutant that finds the file system read-only already makes no mistake any more."""


def break_disk(directory, file_system, mutant=None):
    """A disk fails; what was acknowledged by then is there when it is looked at elsewhere."""
    wrong, done = [], 0
    while not wrong and done < (_ATTEMPTS if mutant else 1):
        place = directory / str(done)
        place.mkdir()
        wrong, done = _break_once(place, file_system, mutant), done + 1
    what = " ".join(filter(None, ("disk fails", file_system, mutant and mutant.name)))
    return Result("T3 error", what, done, done, wrong, bool(mutant))


def _break_once(directory, file_system, mutant):
    ledger, acknowledged = Ledger(), 0
    system = make_system(directory / "system", Hosts(ledger), mutant)
    recording = Recording(directory, FILE_SYSTEMS[file_system], [system.spool])

    def tell(note):
        nonlocal acknowledged
        recording.mark(note)
        acknowledged += json.loads(note)[0] == "acknowledge"
        if acknowledged == MESSAGES // 2:
            recording.break_disks()

    ledger.tell(tell)
    with recording.running():
        with system:
            recording.start()
            drive(ACCEPT, system, ledger, MESSAGES)
        wrong = log_violations(system.log_text())
    if len(ledger.acknowledged) == MESSAGES:
        wrong.append("I5 nothing was refused")
    for state in crash_states(directory, recording, 1, 0, lambda events, _start: [len(events)], ("none",)):
        wrong += violations(ACCEPT, state)
    return wrong
