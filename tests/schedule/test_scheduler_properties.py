"""Random lives of the scheduler: whatever happens, every recipient is served once and no limit breaks."""

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyfix.schedule.destination import Concurrency, Feedback
from pyfix.schedule.message import Message, Route, Trouble
from pyfix.schedule.retry import RetrySchedule
from pyfix.schedule.scheduler import Deliver, End, Record, Refill, Scheduler, SchedulerLimits
from pyfix.schedule.transport import TransportLimits
from pyfix.service.delivery import Delivered, Outcome, Recipient

NEXTHOPS = ("a.example", "b.example", "c.example", "d.example")
RETRIES = RetrySchedule(300, 4000, 432000, 432000)
INDEX = st.integers(0, 1000)
RECIPIENTS = st.lists(st.tuples(st.sampled_from(("smtp", "local")), st.sampled_from(NEXTHOPS)), max_size=6)
FEEDBACK = st.sampled_from((Feedback(1), Feedback(0.3), Feedback(1, "concurrency"), Feedback(1, "sqrt_concurrency")))


class Life(RuleBasedStateMachine):
    """A queue manager whose agents, disk and operator do as hypothesis pleases."""

    @initialize(
        active_limit=st.integers(1, 6),
        recipient_limit=st.integers(1, 12),
        initial=st.integers(1, 3),
        limit=st.integers(0, 4),
        cohorts=st.sampled_from((0, 1, 2)),
        process_limit=st.integers(1, 6),
        size=st.integers(0, 3),
        feedback=st.tuples(FEEDBACK, FEEDBACK),
    )
    def begin(self, active_limit, recipient_limit, initial, limit, cohorts, process_limit, size, feedback):
        concurrency = Concurrency(initial, limit, *feedback, cohorts)
        self.transports = {
            "smtp": TransportLimits(concurrency, size, process_limit),
            "local": TransportLimits(Concurrency(2, 2), 1, process_limit),
        }
        limits = SchedulerLimits(active_limit, recipient_limit, 60, 300)
        self.scheduler = Scheduler(limits, self.transports.__getitem__)
        self.now = 0.0
        self.count = 0
        self.open = {}  # queue ID: message, from admit to End
        self.unrouted = []  # messages admitted, or to be refilled
        self.batches = {}  # queue ID: recipients of each batch not submitted yet
        self.flying = []
        self.records = []
        self.ended = Counter()
        self.started = Counter()  # (queue ID, offset): deliveries
        self.recorded = Counter()  # (queue ID, offset): records
        self.expected = {}  # queue ID: offsets
        self.statuses = {}  # queue ID: statuses recorded
        self.withdrawn = set()
        self.waits = Counter()

    def pump(self):
        actions = self.scheduler.actions()
        starts = Counter()
        for action in actions:
            if isinstance(action, Deliver):
                delivery = action.delivery
                self.flying.append(delivery)
                starts[delivery.transport.name] += 1
                queue_id = delivery.entry.message.queue_id
                assert queue_id not in self.withdrawn
                for recipient in delivery.entry.recipients:
                    self.started[queue_id, recipient.offset] += 1
                self.waits[delivery.transport.name, delivery.destination.name] = 0
            elif isinstance(action, Record):
                self.records.append(action)
            elif isinstance(action, Refill):
                self.unrouted.append(action.message)
            else:
                assert isinstance(action, End)
                self.end(action.message)
        self.check_turns(starts)

    def check_turns(self, starts):
        """A destination that could start a delivery does so after at most one turn of every other."""
        names = 3 * len(NEXTHOPS)
        for transport in self.scheduler._transports.values():
            for name, destination in transport.destinations.items():
                key = (transport.name, name)
                self.waits[key] = self.waits[key] + starts[transport.name] if destination.ready else 0
                assert self.waits[key] <= names + transport.limits.process_limit

    def end(self, message):
        queue_id = message.queue_id
        self.ended[queue_id] += 1
        assert self.ended[queue_id] == 1
        assert self.open.pop(queue_id) is message
        action = message.verdict(RETRIES, 1000).action
        if queue_id in self.withdrawn:
            assert action == "withdrawn"
        else:
            assert {offset for q, offset in self.recorded if q == queue_id} == self.expected[queue_id]
            assert action == ("defer" if "deferred" in self.statuses[queue_id] else "remove")
        self.scheduler.ended(message)

    @precondition(lambda self: self.scheduler.room)
    @rule(batches=st.lists(RECIPIENTS, min_size=1, max_size=2))
    def admit(self, batches):
        self.count += 1
        queue_id = f"Q{self.count}"
        offsets = iter(range(100))
        self.batches[queue_id] = [[(next(offsets), *where) for where in batch] for batch in batches]
        self.expected[queue_id] = {offset for batch in self.batches[queue_id] for offset, _, _ in batch}
        self.statuses[queue_id] = set()
        message = self.open[queue_id] = Message(queue_id, "s@example.org", 1000)
        self.scheduler.admit(message)
        self.unrouted.append(message)

    @precondition(lambda self: self.unrouted)
    @rule(index=INDEX)
    def route(self, index):
        message = self.unrouted.pop(index % len(self.unrouted))
        batch = self.batches[message.queue_id].pop(0)
        routes = []
        for offset, transport, nexthop in batch:
            address = f"user{offset % 3}@{nexthop}"
            routes.append(Route(Recipient(offset, address), transport, nexthop, address))
        self.scheduler.submit(message, routes, more=bool(self.batches[message.queue_id]))
        self.pump()

    @precondition(lambda self: self.flying)
    @rule(index=INDEX, status=st.sampled_from(("sent", "deferred", "bounced", None)), reachable=st.booleans())
    def answer(self, index, status, reachable):
        delivery = self.flying.pop(index % len(self.flying))
        outcomes = (
            () if status is None else tuple(Outcome(r.offset, status, "x", "y") for r in delivery.entry.recipients)
        )
        self.scheduler.answered(delivery, Delivered(outcomes, unreachable="" if reachable else "no"), self.now)
        self.pump()

    @precondition(lambda self: self.flying)
    @rule(index=INDEX)
    def crash(self, index):
        delivery = self.flying.pop(index % len(self.flying))
        self.scheduler.failed(delivery, Trouble("4.3.0", "mail transport unavailable"), self.now)
        self.pump()

    @precondition(lambda self: self.records)
    @rule(index=INDEX)
    def record(self, index):
        record = self.records.pop(index % len(self.records))
        queue_id = record.message.queue_id
        for recipient, outcome in record.settled:
            assert recipient.offset == outcome.offset
            self.recorded[queue_id, recipient.offset] += 1
            self.statuses[queue_id].add(outcome.status)
        self.scheduler.recorded(record.message, record.settled)
        self.pump()

    @rule(seconds=st.integers(1, 400))
    def wait(self, seconds):
        self.now += seconds
        self.scheduler.tick(self.now)
        self.pump()

    @rule()
    def flush(self):
        self.scheduler.flush()
        self.pump()

    @precondition(lambda self: self.open)
    @rule(indexes=st.lists(INDEX, min_size=1, max_size=3))
    def withdraw(self, indexes):
        names = sorted(self.open)
        queue_ids = {names[index % len(names)] for index in indexes}
        self.withdrawn |= queue_ids
        self.scheduler.withdraw(queue_ids)
        self.pump()

    @invariant()
    def limits_hold(self):
        if not hasattr(self, "scheduler"):
            return
        assert len(self.open) == self.scheduler.active <= self.scheduler.limits.active_limit
        flying = Counter((d.transport.name, d.destination.name) for d in self.flying)
        for (transport, _), count in flying.items():
            limit = self.transports[transport].concurrency.limit
            assert not limit or count <= limit
        for transport, count in Counter(d.transport.name for d in self.flying).items():
            assert count <= self.transports[transport].process_limit
        for delivery in self.flying:
            size = self.transports[delivery.transport.name].recipient_limit
            assert not size or len(delivery.entry.recipients) <= size
        assert max(self.started.values(), default=1) == 1
        assert max(self.recorded.values(), default=1) == 1

    def teardown(self):
        """All that is still open comes to its end, when agents and disk do their part."""
        if not hasattr(self, "scheduler"):
            return
        self.pump()
        for _ in range(10_000):
            if self.unrouted:
                self.route(0)
            elif self.flying:
                self.answer(0, "sent", True)
            elif self.records:
                self.record(0)
            else:
                break
        assert self.open == {}
        assert self.scheduler.active == 0
        assert set(self.ended) == set(self.expected)
        self.wait(1000)
        assert self.scheduler.wake_at is None
        assert self.scheduler._transports == {}


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
