"""The scheduler under a fake clock: who waits how long, and what a delivery and a dead destination cost."""

import heapq
import sys
from collections import Counter
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfix.schedule.limits import Concurrency, SchedulerLimits, Slots, TransportLimits
from pyfix.schedule.message import Message, Route
from pyfix.schedule.scheduler import Deliver, End, Record, Scheduler
from pyfix.service.delivery import Delivered, Outcome, Recipient

LIMITS = TransportLimits()


class Simulation:
    """Messages that come at their time, agents that take ``latency(nexthop)`` seconds; ``dead`` cannot be reached."""

    def __init__(self, limits=LIMITS, latency=lambda _nexthop: 1.0, dead=()) -> None:
        self.scheduler = Scheduler(SchedulerLimits(10**6, 10**6), lambda _name: limits)
        self.now = 0.0
        self.latency = latency
        self.dead = dead
        self.events = []
        self.serial = count()
        self.starts = {}  # queue ID: when each of its deliveries started
        self.ends = {}  # queue ID: when its attempt ended
        self.deliveries = 0
        self.turns = 0

    def send(self, when, queue_id, nexthops):
        heapq.heappush(self.events, (when, next(self.serial), (queue_id, nexthops)))

    def run(self):
        """Until nothing is left to do."""
        while self.events or self.scheduler.active:
            wake_at = self.scheduler.wake_at
            if wake_at is not None and (not self.events or wake_at < self.events[0][0]):
                self.now = wake_at
                self.scheduler.tick(self.now)
            else:
                self.now, _, event = heapq.heappop(self.events)
                self.scheduler.tick(self.now)
                if isinstance(event, tuple):
                    self.arrive(*event)
                else:
                    self.answer(event)
            self.act()
            self.turns += 1

    def arrive(self, queue_id, nexthops):
        message = Message(queue_id, "s@example.org", 0, total=len(nexthops))
        self.scheduler.admit(message)
        recipients = [Recipient(n, f"{queue_id}.{n}@{nexthop}") for n, nexthop in enumerate(nexthops)]
        routes = [Route(r, "smtp", nexthop, r.address) for r, nexthop in zip(recipients, nexthops, strict=True)]
        self.scheduler.submit(message, routes)

    def act(self):
        while actions := self.scheduler.actions():
            for action in actions:
                if isinstance(action, Deliver):
                    self.deliveries += 1
                    entry = action.delivery.entry
                    self.starts.setdefault(entry.message.queue_id, []).append(self.now)
                    end = self.now + self.latency(entry.nexthop)
                    heapq.heappush(self.events, (end, next(self.serial), action.delivery))
                elif isinstance(action, Record):
                    self.scheduler.recorded(action.message, action.settled)
                else:
                    assert isinstance(action, End)
                    self.ends[action.message.queue_id] = self.now
                    self.scheduler.ended(action.message)

    def answer(self, delivery):
        lost = delivery.entry.nexthop in self.dead
        status = "deferred" if lost else "sent"
        outcomes = tuple(Outcome(r.offset, status, "", "") for r in delivery.entry.recipients)
        self.scheduler.answered(delivery, Delivered(outcomes, unreachable="timed out" if lost else ""), self.now)


def throughput(*, dead):
    """When 5,000 messages to 50 destinations are delivered, with as many to one that answers only after 30 s."""
    simulation = Simulation(latency=lambda nexthop: 30.0 if nexthop == "dead" else 0.5, dead={"dead"})
    for n in range(5000):
        if dead:
            simulation.send(n / 100, f"dead{n}", ["dead"])
        simulation.send(n / 100, f"Q{n}", [f"d{n % 50}"])
    simulation.run()
    return max(when for queue_id, when in simulation.ends.items() if queue_id.startswith("Q"))


def test_a_dead_destination_costs_the_others_less_than_a_twentieth():
    assert throughput(dead=True) < 1.05 * throughput(dead=False)


def test_a_dead_destination_costs_the_others_less_than_a_twentieth_where_all_processes_are_busy():
    """100 processes have more to do than they can; the dead destination gets a few of them now and then."""

    def delivered(share):
        simulation = Simulation(latency=lambda nexthop: 30.0 if nexthop == "dead" else 10.0, dead={"dead"})
        for n in range(6000):
            simulation.send(n / 1000, f"Q{n}", [f"d{n % 50}"])
            if n < share:
                simulation.send(n / 1000, f"dead{n}", ["dead"])
        simulation.run()
        return max(when for queue_id, when in simulation.ends.items() if queue_id.startswith("Q"))

    assert delivered(6000) < 1.05 * delivered(0)


def test_a_small_message_does_not_wait_for_a_large_one():
    """Ten thousand recipients take 100 processes 100 s; each small message starts within a few."""
    simulation = Simulation(TransportLimits(recipient_limit=1), latency=lambda _nexthop: 1.0)
    simulation.send(0.0, "large", [f"d{n}" for n in range(10_000)])
    for n in range(50):
        simulation.send(10.5 + n, f"small{n}", ["here"])
    simulation.run()
    waits = [simulation.starts[f"small{n}"][0] - 10.5 - n for n in range(50)]
    assert max(waits) < 1.0
    assert simulation.ends["large"] < 102.0


@settings(max_examples=60, deadline=None)
@given(
    cost=st.integers(2, 6),
    loan=st.integers(0, 3),
    discount=st.integers(0, 100),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=60),
)
def test_a_large_message_is_delayed_by_a_bounded_share(cost, loan, discount, sizes):
    """One process, a message of 200, and others of many sizes, which keep coming.

    Others take at most cost/(cost-1) of its deliveries, and what is on loan for one at a time: that is not more than
    the slots of the largest that may preempt it.
    """
    limits = TransportLimits(recipient_limit=1, process_limit=1, slots=Slots(cost, loan, discount, 1))
    simulation = Simulation(limits)
    simulation.send(0.0, "large", [f"d{n}" for n in range(200)])
    for n, size in enumerate(sizes):
        simulation.send(0.5 + n, f"Q{n}", [f"q{n}.{m}" for m in range(size)])
    simulation.run()
    last = simulation.starts["large"][-1]
    others = sum(
        start < last for queue_id, starts in simulation.starts.items() if queue_id != "large" for start in starts
    )
    assert others <= 200 / (cost - 1) + max(sizes)


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=40),
    process_limit=st.integers(1, 8),
    limit=st.integers(1, 4),
)
def test_everything_is_delivered_as_soon_as_there_are_processes_and_windows(arrivals, process_limit, limit):
    """Nobody starves: all is done in the time that the busiest destination needs, and the processes."""
    simulation = Simulation(TransportLimits(Concurrency(limit, limit), 1, process_limit))
    load = dict.fromkeys(range(4), 0)
    for n, (when, size, destination) in enumerate(arrivals):
        simulation.send(float(when), f"Q{n}", [f"d{destination}"] * size)
        load[destination] += size
    simulation.run()
    assert set(simulation.ends) == {f"Q{n}" for n in range(len(arrivals))}
    assert simulation.deliveries == sum(load.values())
    # No process is idle while a destination can take more: a bound as for greedy list scheduling.
    bound = 30 + sum(load.values()) / process_limit + sum(-(-each // limit) for each in load.values())
    assert max(simulation.ends.values()) <= bound + 1


@pytest.mark.parametrize(("destination_delay", "rate_delay", "duration"), [(10, 0, 34), (0, 10, 151), (0, 0, 4)])
def test_rates(destination_delay, rate_delay, duration):
    """16 messages to 4 destinations, of a second each; a pause is from end to start, or from start to start."""
    limits = TransportLimits(Concurrency(1, 1), destination_rate_delay=destination_delay, rate_delay=rate_delay)
    simulation = Simulation(limits)
    for n in range(16):
        simulation.send(0.0, f"Q{n}", [f"d{n % 4}"])
    simulation.run()
    assert max(simulation.ends.values()) == duration
    # It waits for time to pass, and does not ask for it in vain.
    assert simulation.turns <= 3 * 16 + 5


def cost(messages):
    """Calls of functions, be they Python's or not, for each delivery."""
    simulation = Simulation()
    for n, nexthops in enumerate(messages):
        simulation.send(0.0, f"Q{n}", nexthops)
    events = Counter()

    def on_event(_frame, event, _argument):
        events[event] += 1

    sys.setprofile(on_event)
    simulation.run()
    sys.setprofile(None)
    return (events["call"] + events["c_call"]) / simulation.deliveries


LARGE = [f"x{n}" for n in range(300)]
BACKLOGS = {
    "one destination": lambda n: [["one"]] * n,
    "fifty destinations": lambda n: [[f"d{k % 50}"] for k in range(n)],
    "each a destination": lambda n: [[f"d{k}"] for k in range(n)],
    "most to a slow destination": lambda n: [["slow" if k % 20 else f"d{k % 50}"] for k in range(n)],
    "behind a large one": lambda n: [LARGE, *([f"d{k % 50}"] for k in range(n))],
    "behind a large one, to a slow destination": lambda n: [LARGE, *([["slow"]] * n)],
    "each fiftieth is large": lambda n: [LARGE[:20] if k % 50 == 0 else ["slow"] for k in range(n)],
}


@pytest.mark.parametrize("backlog", BACKLOGS)
def test_a_delivery_costs_the_same_however_much_waits(backlog):
    make = BACKLOGS[backlog]
    assert cost(make(2000)) < 1.5 * cost(make(200))
