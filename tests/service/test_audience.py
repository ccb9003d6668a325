import asyncio

from pyfix.service import audience
from pyfix.service.audience import Audience


class Role:
    work = 0

    def begin_work(self):
        self.work += 1

    def end_work(self):
        self.work -= 1


class Client:
    def __init__(self, everybody):
        self._everybody = everybody
        self.looks = []
        self.stopped = False
        everybody.enter(self)

    def look_at_clock(self, now, timeout):
        self.looks.append((now, timeout))

    def stop(self):
        self.stopped = True

    def go(self):
        self._everybody.leave(self)


def run(scenario, monkeypatch):
    monkeypatch.setattr(audience, "_TICK", 0.01)

    async def go():
        role = Role()
        await asyncio.wait_for(scenario(Audience(role), role), 10)
        assert role.work == 0

    asyncio.run(go())


def test_everybody_is_looked_at_as_time_passes(monkeypatch):
    async def scenario(everybody, role):
        everybody.timeout = 7
        first, second = Client(everybody), Client(everybody)
        while len(second.looks) < 2:  # noqa: ASYNC110 -- the clock is what is tested
            await asyncio.sleep(0.01)
        assert {timeout for _, timeout in first.looks} == {7}
        assert first.looks[0][0] <= second.looks[1][0]
        first.go()
        seen = len(first.looks)
        looks = len(second.looks)
        while len(second.looks) == looks:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0.01)
        assert len(first.looks) == seen
        assert role.work == 1
        second.go()

    run(scenario, monkeypatch)


def test_no_clock_runs_where_nobody_is(monkeypatch):
    async def scenario(everybody, _role):
        Client(everybody).go()
        clock = everybody._clock
        assert clock.cancelled()
        client = Client(everybody)
        assert everybody._clock is not clock
        client.go()

    run(scenario, monkeypatch)


def test_a_stop_waits_for_the_last(monkeypatch):
    async def scenario(everybody, _role):
        clients = [Client(everybody), Client(everybody)]
        stop = asyncio.ensure_future(everybody.drain())
        await asyncio.sleep(0)
        assert everybody.stopping
        assert all(client.stopped for client in clients)
        clients[0].go()
        await asyncio.sleep(0)
        assert not stop.done()
        clients[1].go()
        await stop

    run(scenario, monkeypatch)


def test_a_stop_does_not_wait_for_nobody(monkeypatch):
    async def scenario(everybody, _role):
        await everybody.drain()

    run(scenario, monkeypatch)
