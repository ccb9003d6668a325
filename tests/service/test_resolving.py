"""The rewrite service's answers, asked for all recipients of a message."""

import asyncio

import pytest

from pyfix.service import resolving
from pyfix.service.resolving import Resolver
from pyfix.service.rewrite import Resolved, ResolveReply
from pyfix.service.varlink import ExpectedMore


class Rewrite:
    """The rewrite service: an address that begins with unknown@ is an error."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.in_trouble = False
        self.at_once = self.most_at_once = 0

    async def call(self, _method, parameters, _fds):
        if self.in_trouble:
            raise ExpectedMore
        self.asked.append((parameters.sender, parameters.recipients))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return ResolveReply(tuple(self._answer(recipient) for recipient in parameters.recipients))

    @staticmethod
    def _answer(recipient: str) -> Resolved:
        return Resolved(recipient, "local", "x", "error" if recipient.startswith("unknown@") else "local")


class Tasks:
    """What there is of a cycle here: work is done when the test says so."""

    def __init__(self) -> None:
        self.spawned = []

    def spawn(self, work) -> None:
        self.spawned.append(work)

    def kick(self) -> None:
        """Nobody is waiting for a turn."""

    def run(self) -> None:
        while self.spawned:
            asyncio.run(self.spawned.pop())


@pytest.fixture
def rewrite():
    return Rewrite()


@pytest.fixture
def resolve(rewrite, monkeypatch):
    """Resolves at a moment; the addresses answered, and what went wrong."""
    cycle = Tasks()
    resolver = Resolver(rewrite, cycle)

    def ask(sender: str, *recipients: str, now: float = 0.0) -> tuple[list[str], str]:
        monkeypatch.setattr(resolving, "monotonic", lambda: now)
        told = []
        resolver.resolve(sender, recipients, lambda *answer: told.append(answer))
        assert bool(told) == (not cycle.spawned)
        cycle.run()
        [(resolved, trouble)] = told
        return [answer.recipient for answer in resolved], trouble

    return ask


def test_what_was_answered_a_moment_ago_is_not_asked_again(rewrite, resolve) -> None:
    assert resolve("s", "a@x", "b@x") == (["a@x", "b@x"], "")
    assert resolve("s", "b@x", now=0.9) == (["b@x"], "")
    assert len(rewrite.asked) == 1
    assert resolve("s", "b@x", now=1.1) == (["b@x"], "")
    assert resolve("other", "b@x", now=1.1) == (["b@x"], "")
    assert rewrite.asked[1:] == [("s", ("b@x",)), ("other", ("b@x",))]


def test_all_are_asked_where_one_is_not_known(rewrite, resolve) -> None:
    resolve("s", "a@x")
    assert resolve("s", "a@x", "b@x") == (["a@x", "b@x"], "")
    assert rewrite.asked[-1] == ("s", ("a@x", "b@x"))


def test_errors_are_asked_about_again(rewrite, resolve) -> None:
    resolve("s", "unknown@x")
    resolve("s", "unknown@x")
    assert len(rewrite.asked) == 2


def test_many_recipients_are_asked_for_in_parts_two_at_a_time(rewrite, resolve, monkeypatch) -> None:
    monkeypatch.setattr(resolving, "_BATCH", 2)
    recipients = [f"u{number}@x" for number in range(9)]
    assert resolve("s", *recipients) == (recipients, "")
    assert [len(asked) for _, asked in rewrite.asked] == [2, 2, 2, 2, 1]
    assert rewrite.most_at_once == 2


@pytest.mark.parametrize("batch", [1, 2])
def test_a_service_in_trouble_answers_for_nobody(rewrite, resolve, monkeypatch, batch) -> None:
    monkeypatch.setattr(resolving, "_BATCH", batch)
    rewrite.in_trouble = True
    found, trouble = resolve("s", "a@x", "b@x")
    assert found == []
    assert trouble.startswith("problem talking to service rewrite: ")
