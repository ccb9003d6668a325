"""T6: roles are killed, frozen, ended and told to reload, at random, under load.

Nobody is turned away, nothing that was acknowledged is lost or damaged, and no more messages arrive twice than there
were kills; but one kill may have all do so that are being delivered.
"""

import asyncio
import itertools
import os
import random
import signal
import threading
import time

import load
import psutil
from durability import mutant as mutants
from durability.mail import make_system
from durability.patience import wait
from durability.result import Result
from ledger import Ledger, log_violations
from system_under_test import free_port

SESSIONS = 5
MUTANT = mutants.LATE_COMMIT
MUTANT_BLOWS = 10
BLOWS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGHUP)
"""Half of them kills."""
_PATIENCE = 120
_LATE = 1
DELIVERIES = 20
"""How many messages are delivered at a time: Postfix's default_destination_concurrency_limit."""
_SEED = 20261122
_FLOW = 5


class _Destination:
    """A host that takes all mail, beside the clients in one event loop."""

    def __init__(self):
        self.relay = self.picky = free_port()


class Storm:
    """At least so many blows at roles, and for so many seconds; only kills, of ``roles``, if there are any.

    A seeded generator chooses. Between two of them mail flows.
    """

    def __init__(self, system, ledger, blows, seconds, roles=()):
        self._system = system
        self._ledger = ledger
        self._wanted = blows
        self._end = time.monotonic() + seconds
        self._chance = random.Random(_SEED)
        self._only = set(roles)
        self.kills = 0
        self.blows = 0
        # mail did not flow again
        self.stuck = False

    def _let_flow(self):
        enough = len(self._ledger.acknowledged) + _FLOW
        self.stuck = not wait(lambda: len(self._ledger.acknowledged) >= enough, _PATIENCE)
        time.sleep(self._chance.uniform(0.05, 0.5))

    def run(self):
        while not self.stuck and (self.blows < self._wanted or time.monotonic() < self._end):
            self._let_flow()
            roles = {n: p for n, p in self._system.roles().items() if not self._only or n in self._only}
            if not roles:
                continue
            victim = self._chance.choice(roles[self._chance.choice(sorted(roles))])
            blow = signal.SIGKILL if self._only else self._chance.choice(BLOWS)
            try:
                victim.send_signal(blow)
                if blow == signal.SIGSTOP:
                    time.sleep(self._chance.uniform(0.1, 1))
                    victim.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                continue
            self.kills += blow == signal.SIGKILL
            self.blows += 1


def blow(directory, blows, seconds=0, mutant=None):
    """T6: at least so many blows, and for so many seconds."""
    ledger, destination = Ledger(), _Destination()
    system = make_system(directory / "system", destination, mutant)
    wrong, storm = asyncio.run(_blow(system, destination, ledger, (blows, seconds), mutant))
    ledger.in_flight = set(ledger.digests)
    wrong += ledger.violations()
    if not mutant:
        wrong += log_violations(system.log_text())
        if ledger.duplicates() > max(storm.kills, DELIVERIES):
            wrong.append(f"I4 {ledger.duplicates()} messages arrived twice in {storm.kills} kills")
    if storm.stuck:
        wrong.append(f"after a blow no mail was accepted for {_PATIENCE} s")
    if ledger.turned_away:
        wrong.append(f"{ledger.turned_away} connections were refused")
    remark = f"{len(ledger.acknowledged)} acknowledged, {ledger.duplicates()} arrived twice, {storm.kills} kills"
    return Result(
        "T6 storm", mutant.name if mutant else "", 0, storm.blows, wrong, bool(mutant), "" if mutant else remark
    )


async def _blow(system, destination, ledger, measure, mutant):
    """Load until the storm is over, and then until the queue is empty."""
    wrong = []
    server = await load.sink(ledger.receive, port=destination.relay)
    await asyncio.to_thread(system.start)
    try:
        storm = Storm(system, ledger, *measure, roles=mutant.roles if mutant else ())
        thread = threading.Thread(target=storm.run)
        thread.start()
        indexes = itertools.takewhile(lambda _: thread.is_alive(), itertools.count())
        await load.load(
            system.smtp_port, ledger, sessions=SESSIONS, messages=indexes, size=4000, recipient="sink@example.net",
            patience=20,
        )  # fmt: skip
        thread.join()
        if mutant:
            await asyncio.sleep(_LATE)
        # what a cleanup was killed over is removed by the next queue manager
        await asyncio.to_thread(system.wait_until, lambda: "qmgr" in system.roles(), "the queue manager")
        os.kill(system.roles()["qmgr"][0].pid, signal.SIGKILL)
        try:
            await asyncio.to_thread(system.wait_empty, _PATIENCE)
        except AssertionError:
            wrong.append(f"I6 left over: {', '.join(system.queue_ids())}")
    finally:
        await asyncio.to_thread(system.stop)
        server.close()
    return wrong, storm
