"""New mail is announced; under load somebody asks how the queue manager is doing."""

import asyncio

import pytest

from pyfix.service import announcing
from pyfix.service.announcing import Announcer
from pyfix.service.calling import Unavailable
from pyfix.service.queue import Announced


class QueueManager:
    """A client of the queue manager."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.asked: list[str] = []
        self.crowded = False
        self.down = False
        self.connected = False

    def tell(self, _method, announcement) -> bool:
        self.connected = self.connected and not self.down
        if self.connected:
            self.told.append(announcement.queue_id)
        return self.connected

    async def oneway(self, method, announcement) -> None:
        self.connected = not self.down
        if not self.tell(method, announcement):
            raise Unavailable("down")

    async def call(self, _method, announcement) -> Announced:
        await self.oneway(_method, announcement)
        self.asked.append(announcement.queue_id)
        return Announced(crowded=self.crowded)


class World:
    def __init__(self, monkeypatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(announcing, "monotonic", lambda: self.now)
        self.qmgr = QueueManager()
        self._loop = asyncio.new_event_loop()
        self.announcer = Announcer(self.qmgr, self._loop)
        self.count = 0

    def announce(self, number: int) -> None:
        """So many messages come and are announced."""

        async def settle() -> None:
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 -- there is no event for it
                await asyncio.sleep(0)

        for _ in range(number):
            self.count += 1
            self.announcer.tell(f"Q{self.count}")
            self._loop.run_until_complete(settle())

    def close(self) -> None:
        self._loop.close()


@pytest.fixture
def world(monkeypatch):
    made = World(monkeypatch)
    yield made
    made.close()


def test_all_are_announced_in_order(world):
    world.announce(3)
    assert world.qmgr.told == ["Q1", "Q2", "Q3"]


def test_nothing_is_asked_where_there_is_no_load(world):
    for _ in range(4):
        world.announce(12)
        world.now += 60
    assert world.qmgr.asked == []


def test_under_load_an_answer_is_asked_for_once_a_second(world):
    world.announce(500)
    assert world.qmgr.asked == ["Q50"]
    world.now += 1
    world.announce(500)
    assert world.qmgr.asked == ["Q50", "Q501"]
    assert len(world.qmgr.told) == 1000


def test_a_crowd_is_known_until_it_is_over(world):
    world.qmgr.crowded = True
    world.announce(49)
    assert not world.announcer.crowded
    world.announce(1)
    assert world.announcer.crowded
    # Those who pause now do not make a load any more; it is asked all the same.
    world.now += 1
    world.announce(1)
    assert world.announcer.crowded
    world.qmgr.crowded = False
    world.now += 1
    world.announce(1)
    assert not world.announcer.crowded


def test_old_news_of_a_crowd_does_not_hold(world):
    world.qmgr.crowded = True
    world.announce(50)
    world.now += 1.9
    assert world.announcer.crowded
    world.now += 0.2
    assert not world.announcer.crowded


def test_a_queue_manager_that_is_down_makes_nobody_pause(world):
    world.qmgr.crowded = True
    world.announce(50)
    world.qmgr.down = True
    world.announce(1)
    assert not world.announcer.crowded
    world.qmgr.down = world.qmgr.crowded = False
    world.announce(1)
    assert world.qmgr.told[-1] == "Q52"
