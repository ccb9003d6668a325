"""SIGKILL of any role at any moment under load: nothing acknowledged is lost, and nobody has to help.

The ledger's rules: every acknowledged message arrives or is still queued, whole; only messages in flight at a kill may
arrive twice.
"""

import asyncio
import itertools
import random
import re
import threading
import time

import load
import psutil
import pytest
from system_under_test import ROOT, SystemUnderTest, free_port

pytestmark = pytest.mark.system

KILLS = 200
SESSIONS = 20
SEED = 20261122


LATENESS = 0.3
MUTANT = f"""
import sys

if "pyfix.roles.cleanup" in " ".join(sys.orig_argv):
    import threading

    from pyfix.roles.cleanup import Transaction

    commit = Transaction.commit
    Transaction.commit = lambda transaction: threading.Timer({LATENESS}, commit, (transaction,)).start()
"""
"""A sitecustomize.py: cleanup says that a message is safe, and sees to it LATENESS seconds later."""
MUTANT_KILLS = 25


def test_kills_lose_nothing(tmp_path):
    ledger = load.Ledger()
    system = make_system(tmp_path)
    asyncio.run(run(system, ledger, Killer(system)))
    assert ledger.missing() == set()
    assert ledger.damaged() == set()
    assert len(ledger.acknowledged) > SESSIONS  # there was a load
    assert "panic:" not in system.log_text()
    # one kill can make at most what was in flight arrive twice
    assert ledger.duplicates() <= KILLS * SESSIONS
    print(len(ledger.acknowledged), "acknowledged,", ledger.duplicates(), "arrived twice")


def test_kills_show_a_cleanup_that_acknowledges_too_early(tmp_path):
    """The test above can fail: with this cleanup acknowledged messages are missing."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(MUTANT)
    ledger = load.Ledger()
    system = make_system(tmp_path)
    dropin = system.etc / "systemd" / "pyfix-cleanup.service.d"
    (dropin / "mutant.conf").write_text(f"[Service]\nEnvironment=PYTHONPATH={site}:{ROOT}\nRestartSec=20ms\n")
    asyncio.run(run(system, ledger, Killer(system, MUTANT_KILLS, ["cleanup"])))
    assert len(ledger.acknowledged) > MUTANT_KILLS
    assert ledger.missing() != set()
    assert ledger.damaged() == set()


def make_system(directory):
    """A system that relays to a sink, and is quick to try again."""
    port = free_port()
    settings = (
        f"relayhost = [127.0.0.1]:{port}\nminimal_backoff_time = 1s\nmaximal_backoff_time = 2s\nqueue_run_delay = 1s\n"
        "transport_retry_time = 1s\nsmtpd_error_sleep_time = 0\n"
    )
    system = SystemUnderTest(directory / "system", settings)
    system.next_port = port
    # After ten kills a role would wait for seconds: right for a role that cannot live, too long for 200 kills.
    for unit in (ROOT / "units").glob("pyfix-*.service"):
        dropin = system.etc / "systemd" / f"{unit.name}.d"
        dropin.mkdir(parents=True)
        (dropin / "restart.conf").write_text("[Service]\nRestartSec=20ms\nRestartMaxDelaySec=100ms\n")
    return system


async def run(system, ledger, killer):
    """Load until all kills are done, and then until the queue is empty."""
    server = await load.sink(ledger.receive, port=system.next_port)
    await asyncio.to_thread(system.start)
    try:
        thread = threading.Thread(target=killer.run)
        thread.start()
        indexes = itertools.takewhile(lambda _: thread.is_alive(), itertools.count())
        await load.load(
            system.smtp_port, ledger, sessions=SESSIONS, messages=indexes, size=4000, recipient="sink@example.net",
            patience=20,
        )  # fmt: skip
        thread.join()
        assert killer.kills == killer.wanted
        await asyncio.sleep(2 * LATENESS)
        # what a cleanup was killed over is removed by the next queue manager
        await asyncio.to_thread(system.wait_until, lambda: "qmgr" in system.roles(), "the queue manager")
        system.roles()["qmgr"][0].kill()
        await asyncio.to_thread(system.wait_empty, 120)
        unfinished = re.findall(r"(\w+): client=", system.log_text())
        left = [i for i in unfinished if i in system.queue_ids()]
        assert left == []
    finally:
        await asyncio.to_thread(system.stop)
        server.close()


class Killer:
    """Kills a role's process, chosen by a seeded generator, again and again; only of ``roles``, if there are any."""

    def __init__(self, system, wanted=KILLS, roles=()):
        self.system = system
        self.wanted = wanted
        self.kills = 0
        self.victims = {}
        self._only = set(roles)

    def run(self):
        rng = random.Random(SEED)
        while self.kills < self.wanted:
            time.sleep(rng.uniform(0.05, 0.5))
            roles = {n: p for n, p in self.system.roles().items() if not self._only or n in self._only}
            if not roles:
                continue
            name = rng.choice(sorted(roles))
            try:
                rng.choice(roles[name]).kill()
            except psutil.NoSuchProcess:
                continue
            self.kills += 1
            self.victims[name] = self.victims.get(name, 0) + 1
