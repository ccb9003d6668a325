"""The jobs of the durability program: which there are, and how one is done."""

import functools
import os
import resource
import shutil
import signal
import time
import traceback
from typing import NamedTuple

from durability import broken, cuts, faults, small_disks, storm
from durability.power import FILE_SYSTEMS
from durability.result import Result


class Form(NamedTuple):
    """How much is done."""

    # T1: recordings on each file system, crash states of each
    accept: tuple[int, int]
    # T5: the same, for Maildir and for mbox
    deliver: tuple[int, int]
    # T2, T3: faults for each role; 0 for all that there are
    kills: int
    errors: int
    # T6: blows, seconds
    storm: tuple[int, int]
    # a job takes no longer, seconds
    limit: int


SHORT = Form((1, 150), (1, 75), 5, 8, (40, 0), 1200)
LONG = Form((4, 250), (2, 250), 0, 0, (0, 1800), 14_400)
ACCEPTED, DELIVERED, MUTANT_MESSAGES, MUTANT_STATES = 200, 100, 120, 100


class Done(NamedTuple):
    result: Result
    # the job could not be done
    error: str
    # seconds
    cpu: float
    wall: float


def jobs(form, file_systems):
    """Everything there is to do, what takes longest first; functions of a directory."""
    yield functools.partial(storm.blow, blows=form.storm[0], seconds=form.storm[1])
    for kind in ("tmpfs", "ext4"):
        yield functools.partial(small_disks.fill, kind=kind)
    for scenario in sorted(faults.SCENARIOS, key=lambda scenario: -len(scenario.kinds)):
        yield functools.partial(faults.fail, scenario=scenario, count=form.errors)
        yield functools.partial(faults.kill, scenario=scenario, count=form.kills)
    for name in file_systems:
        yield functools.partial(broken.break_disk, file_system=name)
    programs = (
        (cuts.ACCEPT, form.accept, ACCEPTED),
        (cuts.MAILDIR, form.deliver, DELIVERED),
        (cuts.MBOX, form.deliver, DELIVERED),
    )
    for program, (recordings, states), messages in programs:
        # What one file system cannot do another does.
        share = states * len(FILE_SYSTEMS) // len(file_systems)
        for seed in range(recordings):
            for name in file_systems:
                yield functools.partial(
                    cuts.cut, program=program, file_system=name, messages=messages, states=share, seed=seed
                )
    yield from _mutants(file_systems[0])


def _mutants(file_system):
    yield functools.partial(storm.blow, blows=storm.MUTANT_BLOWS, mutant=storm.MUTANT)
    for mutant in small_disks.MUTANTS:
        yield functools.partial(small_disks.fill, kind="tmpfs", mutant=mutant)
    for mutant in broken.MUTANTS:
        yield functools.partial(broken.break_disk, file_system=file_system, mutant=mutant)
    for function, mutants in ((faults.kill, faults.KILL_MUTANTS), (faults.fail, faults.ERROR_MUTANTS)):
        for role, mutant, calls in mutants:
            scenario = next(scenario for scenario in faults.SCENARIOS if scenario.role == role)
            yield functools.partial(function, scenario=scenario, count=0, mutant=mutant, calls=calls)
    for program in (cuts.ACCEPT, cuts.MAILDIR, cuts.MBOX):
        for mutant in program.mutants:
            yield functools.partial(
                cuts.cut, program=program, file_system=file_system, messages=MUTANT_MESSAGES, states=MUTANT_STATES,
                mutant=mutant,
            )  # fmt: skip


def do(job, directory, limit):
    """Does a job, in a process of its own."""

    def out_of_time(_number, _frame):
        raise TimeoutError(f"it was not over after {limit} s")

    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(limit)
    begin = time.monotonic()
    directory.mkdir()
    said = directory / "said"
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    result, error = Result(_name(job), "", 0, 0, []), ""
    try:
        result = job(directory)
    except Exception:  # noqa: BLE001 -- it is told, and makes the whole program fail
        error = f"{job.keywords}:\n{traceback.format_exc()}\n{said.read_text()[-2000:]}"
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    shutil.rmtree(directory, ignore_errors=True)
    return Done(result, error, sum(usage.ru_utime + usage.ru_stime for usage in spent), time.monotonic() - begin)


def _name(job):
    """The row of a job that could not be done."""
    return job.keywords["program"].name if "program" in job.keywords else job.func.__name__
