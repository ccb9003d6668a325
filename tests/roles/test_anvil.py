import asyncio

from roles.serving import run

from pyfix.roles import anvil
from pyfix.roles.anvil import Tally
from pyfix.service.anvil import INTERFACE, Client, Counts, Event, Rate

A, B = ("smtp", "192.0.2.1"), ("smtp", "192.0.2.2")


def test_connections_are_counted_and_so_is_their_rate():
    tally = Tally(60)
    assert tally.connect(A, 0, 0) == Counts(1, 1)
    assert tally.connect(A, 1, 0) == Counts(2, 2)
    assert tally.connect(B, 1, 0) == Counts(1, 1)
    tally.disconnect(A)
    assert tally.look(A, 2) == Counts(1, 2)
    assert tally.connect(A, 61, 0) == Counts(2, 1)


def test_a_rate_is_over_after_its_time():
    tally = Tally(60)
    tally.connect(A, 0, 0)
    assert tally.look(A, 59) == Counts(1, 1)
    assert tally.look(A, 60) == Counts(1, 0)


def test_events_are_counted_by_kind():
    tally = Tally(60)
    assert [tally.event(A, "message", t, 0) for t in (0, 1, 61)] == [1, 2, 1]
    assert tally.event(A, "recipient", 62, 0) == 1


def test_nobody_disconnects_twice():
    tally = Tally(60)
    tally.disconnect(A)
    tally.connect(A, 0, 0)
    tally.disconnect(A)
    tally.disconnect(A)
    assert (tally.look(A, 1).count, tally.open) == (0, 0)


def test_clients_are_forgotten():
    tally = Tally(60)
    tally.connect(A, 0, 0)
    tally.connect(B, 0, 0)
    tally.disconnect(A)
    tally.forget(59)
    assert len(tally) == 2
    tally.forget(60)
    assert len(tally) == 1


def test_statistics_are_postfixs(monkeypatch):
    monkeypatch.setattr(anvil, "syslog_time", lambda wall: f"T{wall:.0f}")
    tally = Tally(60)
    tally.connect(A, 0, 1)
    tally.connect(A, 0, 2)
    tally.connect(B, 0, 3)
    tally.event(B, "message", 0, 4)
    assert tally.statistics() == [
        "statistics: max connection rate 2/60s for (smtp:192.0.2.1) at T2",
        "statistics: max connection count 2 for (smtp:192.0.2.1) at T2",
        "statistics: max message rate 1/60s for (smtp:192.0.2.2) at T4",
        "statistics: max cache size 2 at T3",
    ]
    assert tally.statistics() == []


def test_a_lost_caller_disconnects_its_clients(tmp_path):
    async def scenario(role):
        await anvil.start(role)
        first, other = await role.client(INTERFACE).session(), await role.client(INTERFACE).session()
        client = Client("smtp", "192.0.2.1")
        assert await first.call("Connect", client) == Counts(1, 1)
        assert await other.call("Connect", client) == Counts(2, 2)
        assert role.work == 1
        assert await other.call("Count", Event("smtp", "192.0.2.1", "message")) == Rate(1)
        first.close()
        while (await other.call("Look", client)).count != 1:  # noqa: ASYNC110 -- the end of a connection is noticed later
            await asyncio.sleep(0)
        await other.call("Disconnect", client)
        assert await other.call("Look", client) == Counts(0, 2)
        assert role.work == 0
        other.close()
        for callback in role.on_stop:
            await callback()

    lines = run(tmp_path, scenario).journal.lines
    assert lines[0].startswith("statistics: max connection rate 2/60s for (smtp:192.0.2.1) at ")
