import asyncio

import pytest
from msgspec.structs import replace

from pyfix.service import unheard
from pyfix.service.delivery import Deliver, Delivered, Outcome, Recipient
from pyfix.service.dispatch import Call, Connection
from pyfix.service.unheard import Unheard
from pyfix.system.unix import Peer

REQUEST = Deliver(
    "4jXZz32Gv9z99yR", 0, 100, 200, "smtp", "example.net", "a@example.com",
    (Recipient(10, "b@example.net"), Recipient(20, "c@example.net")), 1_700_000_000_000_000, 1_700_000_001_000_000,
)  # fmt: skip


class Agent:
    """Counts deliveries to recipients; each waits until it is told to end."""

    def __init__(self):
        self.served = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.status = "sent"
        self.unheard = Unheard(self.attempt)

    async def attempt(self, _call, request):
        await self.gate.wait()
        self.served += [recipient.offset for recipient in request.recipients]
        return Delivered(tuple(Outcome(r.offset, self.status, "2.0.0", "ok") for r in request.recipients), "", "why")


class Manager:
    """A connection of a queue manager."""

    def __init__(self, agent):
        self._agent = agent
        self._connection = Connection(Peer(1, 0, 0))

    async def ask(self, request=REQUEST):
        return await self._agent.unheard.deliver(Call(request, [], self._connection))

    def die(self):
        for callback in self._connection.on_close:
            callback()


def test_what_a_dead_queue_manager_may_not_have_heard_is_told_again_and_not_done_again():
    async def scenario():
        agent = Agent()
        first = Manager(agent)
        answer = await first.ask()
        first.die()
        again = await Manager(agent).ask()
        assert agent.served == [10, 20]
        assert again.outcomes == answer.outcomes

    asyncio.run(scenario())


def test_only_those_who_were_not_served_are_served():
    async def scenario():
        agent = Agent()
        first = Manager(agent)
        await first.ask(replace(REQUEST, recipients=REQUEST.recipients[1:]))
        first.die()
        again = await Manager(agent).ask()
        assert agent.served == [20, 10]
        assert {outcome.offset for outcome in again.outcomes} == {10, 20}
        assert again.unreachable == "why"

    asyncio.run(scenario())


def test_the_end_of_a_delivery_under_way_is_awaited():
    async def scenario():
        agent = Agent()
        agent.gate.clear()
        first, second, third = Manager(agent), Manager(agent), Manager(agent)
        deserted = asyncio.create_task(first.ask())
        await asyncio.sleep(0)
        first.die()
        waiting = [asyncio.create_task(second.ask()), asyncio.create_task(third.ask())]
        other = asyncio.create_task(Manager(agent).ask(replace(REQUEST, queue_id="4jXZz32Gv9z99yS")))
        await asyncio.sleep(0)
        assert agent.served == []
        agent.gate.set()
        await asyncio.gather(deserted, *waiting, other)
        assert agent.served == [10, 20, 10, 20]  # the other message's, too

    asyncio.run(scenario())


def test_who_died_waiting_is_waited_for():
    async def scenario():
        gates = [asyncio.Event(), asyncio.Event()]
        statuses = []

        async def attempt(_call, request):
            number = len(statuses)
            statuses.append("deferred" if number == 0 else "sent")
            await gates[number].wait()
            return Delivered(tuple(Outcome(r.offset, statuses[number], "2.0.0", "ok") for r in request.recipients))

        agent = Agent()
        agent.unheard = Unheard(attempt)
        first, second, third = Manager(agent), Manager(agent), Manager(agent)
        deserted = asyncio.create_task(first.ask())
        await asyncio.sleep(0)
        first.die()
        waited = asyncio.create_task(second.ask())
        await asyncio.sleep(0)
        second.die()
        waits = asyncio.create_task(third.ask())
        await asyncio.sleep(0)
        gates[0].set()
        await deserted
        gates[1].set()
        assert {outcome.status for outcome in (await waits).outcomes} == {"sent"}
        assert (await waited).outcomes == (await waits).outcomes
        assert statuses == ["deferred", "sent"]

    asyncio.run(scenario())


def test_a_delivery_that_fails_beside_a_dead_caller_leaves_nobody_waiting():
    async def scenario():
        agent = Agent()
        agent.gate.clear()

        async def fail(_call, _request):
            await agent.gate.wait()
            raise RuntimeError

        failing = Unheard(fail)
        connection = Connection(Peer(1, 0, 0))
        deserted = asyncio.create_task(failing.deliver(Call(REQUEST, [], connection)))
        await asyncio.sleep(0)
        connection.on_close[0]()
        waiting = asyncio.create_task(failing.deliver(Call(REQUEST, [], Connection(Peer(1, 0, 0)))))
        await asyncio.sleep(0)
        agent.gate.set()
        for task in (deserted, waiting):
            with pytest.raises(RuntimeError):
                await task

    asyncio.run(scenario())


def test_a_call_that_failed_leaves_nobody_waiting():
    async def scenario():
        async def fail(_call, _request):
            raise RuntimeError

        failing = Unheard(fail)
        for _ in range(2):
            connection = Connection(Peer(1, 0, 0))
            with pytest.raises(RuntimeError):
                await asyncio.wait_for(failing.deliver(Call(REQUEST, [], connection)), 5)
            connection.on_close[0]()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("before", "then", "status"),
    [
        ({}, {"queue_id": "4jXZz32Gv9z99yS"}, "sent"),
        ({}, {"arrival_usec": 1}, "sent"),  # a short queue ID that was used again
        ({}, {"verify": True}, "sent"),
        ({"verify": True}, {}, "sent"),
        ({}, {}, "deferred"),
        ({}, {}, "bounced"),
    ],
)
def test_anything_else_is_done(before, then, status):
    async def scenario():
        agent = Agent()
        agent.status = status
        first = Manager(agent)
        await first.ask(replace(REQUEST, **before))
        first.die()
        await Manager(agent).ask(replace(REQUEST, **then))
        assert agent.served == [10, 20, 10, 20]

    asyncio.run(scenario())


def test_what_was_heard_is_forgotten():
    async def scenario():
        agent = Agent()
        manager = Manager(agent)
        await manager.ask()
        await manager.ask(replace(REQUEST, queue_id="4jXZz32Gv9z99yS"))
        manager.die()
        await Manager(agent).ask()
        assert agent.served == [10, 20] * 3

    asyncio.run(scenario())


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(unheard, "_LIMIT", 3)

    async def scenario():
        agent = Agent()
        for second in (1, 2):
            manager = Manager(agent)
            await manager.ask(replace(REQUEST, arrival_usec=second))
            manager.die()
        await Manager(agent).ask(replace(REQUEST, arrival_usec=1))
        await Manager(agent).ask(replace(REQUEST, arrival_usec=2))
        assert agent.served == [10, 20, 10, 20, 10]

    asyncio.run(scenario())
