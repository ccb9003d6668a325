"""``make durability [LONG=1]``: what the mail system survives, in one table.

Each program is made of jobs, which run beside each other, each with a directory of its own. All of it runs in mount and
process namespaces of its own: nothing stays, however it ends. Exit status 1: a violation, a mutant that was not
caught, or a job that could not be done.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from durability.job import LONG, SHORT, do, jobs
from durability.power import FILE_SYSTEMS, unsupported

_INSIDE = "PYFIX_DURABILITY_INSIDE"
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_JOBS_PER_CORE = 2
"""Most of the time jobs wait: for restarts, for the time of the next attempt."""


def _run_all(form, file_systems, directory, options):
    wanted = [job for job in jobs(form, file_systems) if re.search(options.only, f"{job.func.__module__} {job}")]
    workers = _JOBS_PER_CORE * (os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, max_tasks_per_child=1) as pool:
        running = [pool.submit(do, job, directory / str(number), form.limit) for number, job in enumerate(wanted)]
        for future in concurrent.futures.as_completed(running):
            done = future.result()
            _tell(done, options.each)
            yield done


def _tell(done, each):
    """What is wrong is said at once."""
    result = done.result
    if each:
        print(f"{result.program} {result.what}: {result.crash_states} crash states, {result.faults} other faults, "
              f"{len(result.violations)} violations, {done.wall:.0f} s, {done.cpu:.0f} s CPU", flush=True)  # fmt: skip
    if done.error:
        print(f"{result.program}: could not be done: {done.error}", flush=True)
    elif result.mutant and not result.violations:
        print(f"{result.program}: not caught: {result.what}", flush=True)
    elif not result.mutant:
        for violation in result.violations[:20]:
            print(f"{result.program} {result.what}: {violation}", flush=True)
    if result.remark:
        print(f"{result.program}: {result.remark}", flush=True)


def _table(all_done):
    """A row for each program; whether all is well."""
    print(f"\n{'':16}{'crash states':>14}{'other faults':>14}{'violations':>12}{'mutants caught':>16}{'CPU s':>8}")
    good = bool(all_done)
    for program in sorted({done.result.program for done in all_done}):
        of_it = [done for done in all_done if done.result.program == program]
        real = [done.result for done in of_it if not done.result.mutant]
        mutants = [done.result for done in of_it if done.result.mutant]
        violations = sum(len(result.violations) for result in real)
        caught = sum(bool(result.violations) for result in mutants)
        print(
            f"{program:16}{sum(r.crash_states for r in real):14}{sum(r.faults for r in real):14}{violations:12}"
            f"{f'{caught} of {len(mutants)}':>16}{sum(done.cpu for done in of_it):8.0f}"
        )
        good = good and not violations and caught == len(mutants) and not any(done.error for done in of_it)
    return good


def _enter_namespaces():
    """Becomes a process whose mounts and children are nobody else's, and end with it."""
    command = [*_NAMESPACES, sys.executable, "-m", "durability", *sys.argv[1:]]
    os.execvpe(command[0], command, os.environ | {_INSIDE: "1"})


def _impossible():
    """Why nothing can be tested here; empty if it can."""
    if os.geteuid() != 0:
        return "it needs root"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    return "" if subprocess.run([*_NAMESPACES, "true"], check=False).returncode == 0 else "namespaces cannot be made"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="all that there is; takes hours")
    parser.add_argument("--only", default="", help="jobs in whose description this is found")
    parser.add_argument("--where-possible", action="store_true", help="it is no failure if nothing can be tested here")
    parser.add_argument("--each", action="store_true", help="tell of each job")
    options = parser.parse_args()
    if reason := _impossible():
        print(f"durability: NOT TESTED: {reason}")
        return 0 if options.where_possible and not os.environ.get("PYFIX_REQUIRE_MACHINE") else 1
    if _INSIDE not in os.environ:
        _enter_namespaces()
    missing = {name: reason for name, kind in FILE_SYSTEMS.items() if (reason := unsupported(kind))}
    for name, reason in missing.items():
        print(f"durability: nothing is tested on {name}: {reason}")
    file_systems = [name for name in FILE_SYSTEMS if name not in missing]
    begin = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="pyfix-durability-"))
    try:
        # In memory, and gone with the namespace.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory], check=True)
        all_done = list(_run_all(LONG if options.long else SHORT, file_systems, directory, options))
        good = _table(all_done)
    finally:
        subprocess.run(["umount", "--lazy", directory], check=False)
        directory.rmdir()
    print(f"on {', '.join(file_systems)}; {time.monotonic() - begin:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
