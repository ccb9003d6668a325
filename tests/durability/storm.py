"""T6: roles are killed, frozen, ended and told to reload, at random, under load.

Nobody is turned away, nothing that was acknowledged is lost or damaged. Only what was under way at a kill may arrive
twice: less of it for each than is delivered at a time, and over many kills less than one message for each.
"""

import asyncio
import itertools
import json
import math
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
MANY_KILLS = 200
"""So many have an average: few hit a delivery between the next host's answer and the queue manager's knowing it."""
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
        # A kill takes a moment: what is sent meanwhile may be in flight.
        self._begun_kills = 0
        # mail did not flow again
        self.stuck = False
        # key -> how many kills were over before it was sent
        self._sent_after = {}
        ledger.tell(self._see)

    def _see(self, note):
        """What was sent before a kill, and is heard of after it, may have been in flight."""
        what, key, *_ = json.loads(note)
        if what == "send":
            self._sent_after[key] = self.kills
        elif what in {"arrive", "refuse"} and self._sent_after.get(key, math.inf) < self._begun_kills:
            self._ledger.in_flight.add(key)

    def kill(self, process):
        """Kills, and keeps account of it."""
        self._begun_kills += 1
        process.kill()
        self.kills += 1

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
                if blow == signal.SIGKILL:
                    self.kill(victim)
                else:
                    victim.send_signal(blow)
                if blow == signal.SIGSTOP:
                    time.sleep(self._chance.uniform(0.1, 1))
                    victim.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                continue
            self.blows += 1

    def excess(self):
        """What is against I4 in number: more arrived twice than the kills can have caused."""
        each = 1 if self.kills >= MANY_KILLS else DELIVERIES
        if self._ledger.duplicates() >= self.kills * each:
            yield f"I4 {self._ledger.duplicates()} messages arrived twice in {self.kills} kills"


def blow(directory, blows, seconds=0, mutant=None):
    """T6: at least so many blows, and for so many seconds."""
    ledger, destination = Ledger(), _Destination()
    system = make_system(directory / "system", destination, mutant)
    wrong, storm = asyncio.run(_blow(system, destination, ledger, (blows, seconds), mutant))
    wrong += [*ledger.violations(), *storm.excess()]
    if not mutant:
        wrong += log_violations(system.log_text())
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
        storm.kill(system.roles()["qmgr"][0])
        try:
            await asyncio.to_thread(system.wait_empty, _PATIENCE)
        except AssertionError:
            wrong.append(f"I6 left over: {', '.join(system.queue_ids())}")
    finally:
        await asyncio.to_thread(system.stop)
        server.close()
    return wrong, storm
