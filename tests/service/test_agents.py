"""Calls of delivery agents, on connections that may be dead."""

import asyncio

from pyfix.service.agents import Agents, AgentTrouble
from pyfix.service.client import Unread
from pyfix.service.cycle import Cycle
from pyfix.service.delivery import Delivered, Recipient
from pyfix.spool.active import ActiveFile
from pyfix.spool.envelope import Envelope

ANSWER = Delivered(())


class Session:
    """A connection whose calls end as the test says."""

    def __init__(self, end) -> None:
        self.end = end

    def send(self, method, request, fds):
        assert (method, request.nexthop, fds) == ("Deliver", "example.com", (7,))
        future = asyncio.get_running_loop().create_future()
        if isinstance(self.end, Exception):
            future.set_exception(self.end)
        else:
            future.set_result(self.end)
        return future

    def release(self) -> None:
        """Nobody takes it again."""


class Client:
    """One idle connection, and one that can be made."""

    def __init__(self, idle, made) -> None:
        self.waiting = [Session(idle)]
        self.made = made

    def idle(self):
        return self.waiting.pop() if self.waiting else None

    async def connect(self):
        return Session(self.made)


class Active:
    """The active queue, which gives out descriptor 7."""

    held = 0

    def hold(self, _file):
        self.held += 1
        return 7

    def let_go(self, _file):
        self.held -= 1


def deliver(idle, made):
    """What is told of a delivery."""
    told, errors, active = [], [], Active()

    async def main():
        cycle = Cycle(lambda: None, errors.append)
        agents = Agents(active, cycle, lambda _transport: Client(idle, made))
        envelope = Envelope("ada@example.org", 0, 0, (), 0, 1, 100, 10, 100)
        agents.deliver(
            "smtp", "example.com", (Recipient(0, "bob@example.com"),), ActiveFile("Q", -1, envelope, 0), note
        )
        await cycle.finish()

    def note(reply):
        assert not active.held
        told.append(reply)

    asyncio.run(main())
    assert not active.held
    return told, errors


def test_an_answer_is_handed_on() -> None:
    assert deliver(ANSWER, None) == ([ANSWER], [])


def test_a_call_that_nobody_read_is_sent_again() -> None:
    assert deliver(Unread("gone"), ANSWER) == ([ANSWER], [])


def test_a_call_is_sent_again_only_once() -> None:
    [trouble], errors = deliver(Unread("gone"), Unread("gone, too"))
    assert isinstance(trouble, AgentTrouble)
    assert str(trouble) == "transport smtp failure: gone, too"
    assert not errors


def test_a_bug_is_no_answer() -> None:
    bug = ZeroDivisionError()
    assert deliver(bug, None) == ([], [bug])
