"""Random lives of the scheduler: whatever happens, every recipient is served once and no limit breaks."""

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyfix.schedule.feedback import Feedback
from pyfix.schedule.limits import Concurrency, Recipients, SchedulerLimits, Slots, TransportLimits
from pyfix.schedule.message import Message, Route, Trouble
from pyfix.schedule.retry import RetrySchedule
from pyfix.schedule.scheduler import Deliver, End, Record, Refill, Scheduler
from pyfix.service.delivery import Delivered, Outcome, Recipient

NEXTHOPS = ("a.example", "b.example", "c.example", "d.example")
RETRIES = RetrySchedule(300, 4000, 432000, 432000)
INDEX = st.integers(0, 1000)
RECIPIENTS = st.lists(st.tuples(st.sampled_from(("smtp", "local")), st.sampled_from(NEXTHOPS)), max_size=40)
PAUSE = st.sampled_from((0, 0, 3))
FEEDBACK = st.sampled_from((Feedback(1), Feedback(0.3), Feedback(1, "concurrency"), Feedback(1, "sqrt_concurrency")))


class Life(RuleBasedStateMachine):
    """A queue manager whose agents, disk and operator do as hypothesis pleases."""

    @initialize(
        limits=st.builds(SchedulerLimits, st.integers(1, 6), st.integers(1, 12), st.integers(1, 3)),
        concurrency=st.builds(
            Concurrency, st.integers(1, 3), st.integers(0, 4), FEEDBACK, FEEDBACK, st.sampled_from((0, 1, 2))
        ),
        process_limit=st.integers(1, 6),
        size=st.integers(0, 3),
        pauses=st.tuples(PAUSE, PAUSE),
        slots=st.builds(
            Slots, st.sampled_from((0, 2, 5)), st.integers(0, 3), st.sampled_from((0, 50)), st.integers(0, 2)
        ),
        recipients=st.builds(Recipients, st.integers(0, 9), st.integers(0, 3), st.integers(1, 3), st.integers(0, 9)),
    )
    def begin(self, limits, concurrency, process_limit, size, pauses, slots, recipients):
        if pauses[0]:
            concurrency = Concurrency(1, 1, concurrency.positive, concurrency.negative, concurrency.failed_cohort_limit)
        self.transports = {
            "smtp": TransportLimits(concurrency, size, process_limit, *pauses, slots, recipients),
            "local": TransportLimits(Concurrency(2, 2), 1, process_limit, 0, 0, slots, recipients),
        }
        self.scheduler = Scheduler(limits, self.transports.__getitem__)
        self.now = 0.0
        self.count = 0
        self.open = {}  # queue ID: message, from admit to End
        self.unrouted = []  # messages admitted, or to be refilled, and how many recipients to read
        self.rest = {}  # queue ID: recipients not submitted yet
        self.flying = []
        self.records = []
        self.ended = Counter()
        self.started = Counter()  # (queue ID, offset): deliveries
        self.recorded = Counter()  # (queue ID, offset): records
        self.expected = {}  # queue ID: offsets
        self.statuses = {}  # queue ID: statuses recorded
        self.withdrawn = set()
        self.last_start = {}  # transport: when
        self.last_end = {}  # destination: when

    def pump(self):
        for action in self.scheduler.actions():
            if isinstance(action, Deliver):
                self.start(action.delivery)
            elif isinstance(action, Record):
                self.records.append(action)
            elif isinstance(action, Refill):
                assert action.limit > 0
                assert all(message is not action.message for message, _ in self.unrouted)
                self.unrouted.append((action.message, action.limit))
            else:
                assert isinstance(action, End)
                self.end(action.message)
        self.check_that_nothing_idles()

    def start(self, delivery):
        self.flying.append(delivery)
        queue_id = delivery.entry.message.queue_id
        assert queue_id not in self.withdrawn
        for recipient in delivery.entry.recipients:
            self.started[queue_id, recipient.offset] += 1
        limits, name = delivery.transport.limits, delivery.transport.name
        assert 0 < delivery.destination.in_flight <= delivery.destination.window
        assert self.now - self.last_start.get(name, -1000) >= limits.rate_delay
        assert self.now - self.last_end.get((name, delivery.destination.name), -1000) >= limits.destination_rate_delay
        self.last_start[name] = self.now

    def check_that_nothing_idles(self):
        """What may start has started. Who waits for a time says when, and it is to come."""
        assert self.scheduler.wake_at is None or self.scheduler.wake_at > self.now
        assert self.scheduler.actions() == []
        for transport in self.scheduler._transports.values():
            if transport.in_flight < transport.limits.process_limit and transport.paused_until is None:
                assert not any(destination.ready for destination in transport.destinations.values())
            for subject in (transport, *transport.destinations.values()):
                for when in (subject.dead_until, subject.paused_until):
                    assert when is None or self.scheduler.wake_at <= when

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
    @rule(recipients=RECIPIENTS, single=st.booleans())
    def admit(self, recipients, single):
        self.count += 1
        queue_id = f"Q{self.count}"
        self.rest[queue_id] = [(offset, *where) for offset, where in enumerate(recipients)]
        self.expected[queue_id] = set(range(len(recipients)))
        self.statuses[queue_id] = set()
        message = Message(queue_id, "s@example.org", 1000, total=len(recipients), single=single)
        self.open[queue_id] = message
        first = self.scheduler.first_batch
        self.unrouted.append((message, first))
        self.scheduler.admit(message, min(first, len(recipients)))

    @precondition(lambda self: self.unrouted)
    @rule(index=INDEX)
    def route(self, index):
        message, limit = self.unrouted.pop(index % len(self.unrouted))
        rest = self.rest[message.queue_id]
        routes = []
        for offset, transport, nexthop in rest[:limit]:
            address = f"user{offset % 3}@{nexthop}"
            routes.append(Route(Recipient(offset, address), transport, nexthop, address))
        del rest[:limit]
        self.scheduler.submit(message, routes, more=bool(rest))
        self.pump()

    @precondition(lambda self: self.flying)
    @rule(index=INDEX, status=st.sampled_from(("sent", "deferred", "bounced", None)), reachable=st.booleans())
    def answer(self, index, status, reachable):
        delivery = self.flying.pop(index % len(self.flying))
        outcomes = (
            () if status is None else tuple(Outcome(r.offset, status, "x", "y") for r in delivery.entry.recipients)
        )
        self.land(delivery)
        self.scheduler.answered(delivery, Delivered(outcomes, unreachable="" if reachable else "no"), self.now)
        self.pump()

    @precondition(lambda self: self.flying)
    @rule(index=INDEX)
    def crash(self, index):
        delivery = self.flying.pop(index % len(self.flying))
        self.land(delivery)
        self.scheduler.failed(delivery, Trouble("4.3.0", "mail transport unavailable"), self.now)
        self.pump()

    def land(self, delivery):
        self.last_end[delivery.transport.name, delivery.destination.name] = self.now

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
        limits = self.scheduler.limits
        pools = [limits.recipients for limits in self.transports.values()]
        extra = sum(pool.limit + pool.extra for pool in pools)
        each = limits.recipient_minimum * limits.active_limit
        assert self.scheduler.recipients <= limits.recipient_limit + each + extra
        assert self.scheduler.recipients == sum(message.unsettled + message.reserved for message in self.open.values())
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
            elif self.open:
                # All that is left waits for a time.
                self.wait(self.scheduler.wake_at - self.now)
            else:
                break
        assert self.open == {}
        assert self.scheduler.active == 0
        assert set(self.ended) == set(self.expected)
        self.wait(1000)
        assert self.scheduler.wake_at is None
        for transport in self.scheduler._transports.values():
            assert transport.destinations == {}
            assert transport.in_flight == transport._large == 0
            # All slots have come back.
            assert transport.pool._free == transport.pool.limits.limit


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
