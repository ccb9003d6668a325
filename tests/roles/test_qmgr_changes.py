"""What administrators do to the queue manager's mail."""

import asyncio
import os
import time

import pytest
from roles.postal_world import Gate, deferred, run

from pyfix.service.dispatch import Call, Connection
from pyfix.service.queue import Change, Denied
from pyfix.system.unix import Peer


def test_a_message_that_disappears_is_let_go(tmp_path):
    async def scenario(world):
        gate = Gate("example.com", answer=deferred)
        queue_id = await world.send_into(gate, "a@example.com", "b@other.example")
        os.unlink(world.spool.path("active", queue_id), dir_fd=world.spool.descriptor)
        gate.open()
        await world.quiet()
        assert world.where(queue_id) is None
        assert world.logged("defer", queue_id) == []

    run(tmp_path, scenario)


def test_postsuper_deletes_mail_wherever_it_is(tmp_path):
    async def scenario(world):
        world.answer = gate = Gate("example.com", answer=deferred)
        await world.start()
        resting = world.put("x@example.com", queue="deferred", due=time.time() + 1000)
        flying = await world.send("a@example.com")
        await world.until(lambda: gate.waiting)
        assert sorted(await world.change("delete", resting, flying, "4jXZHh6nLGzDLbP")) == sorted([resting, flying])
        assert world.where(resting) is None
        assert world.where(flying) is None
        gate.open()
        await world.quiet()
        assert world.logged("defer", flying) == []

    world = run(tmp_path, scenario)
    assert len(world.requests) == 1


def test_postsuper_holds_mail_in_flight_once_it_has_landed(tmp_path):
    async def scenario(world):
        world.answer = gate = Gate("example.com")
        await world.start()
        queue_id = await world.send("a@example.com", "b@slow.example")
        await world.until(lambda: gate.waiting and world.left(queue_id) == ["a@example.com"])
        change = asyncio.ensure_future(world.change("hold", queue_id))
        await world.until(lambda: "Change" in world.calls)
        gate.open()
        assert await change == (queue_id,)
        assert world.where(queue_id) == "hold"
        assert world.left(queue_id) == []
        await world.change("release", queue_id)
        await world.until(lambda: world.where(queue_id) is None)

    world = run(tmp_path, scenario)
    assert len(world.requests) == 2


def test_mail_on_hold_starts_no_delivery(tmp_path):
    async def scenario(world):
        gate = Gate("example.com")
        first = await world.send_into(gate, "a@example.com")
        second = await world.send("b@example.com")
        await world.until(lambda: world.where(second) == "active")
        assert await world.change("hold", second) == (second,)
        assert world.where(second) == "hold"
        gate.open()
        await world.quiet()
        assert world.where(first) is None
        assert await world.change("release", second) == (second,)
        await world.until(lambda: world.where(second) is None)

    world = run(tmp_path, scenario, smtp_destination_concurrency_limit="1")
    assert len(world.requests) == 2


def test_postsuper_lets_a_message_expire_at_its_next_attempt(tmp_path):
    async def scenario(world):
        world.answer = deferred
        await world.start()
        queue_id = await world.send("busy@example.com")
        await world.until(lambda: world.where(queue_id) == "deferred")
        lines = len(world.journal.lines)
        held = world.put("eve@example.com", queue="hold")
        assert await world.change("expire", queue_id, held) == (queue_id, held)
        assert await world.change("expire", queue_id, held) == ()
        assert world.where(queue_id) == "deferred"
        await world.flush(queue_id)
        await world.until(lambda: f"{queue_id}: removed" in world.journal.lines)
        # Postfix's lines.
        assert world.journal.lines[lines + 1 :] == [
            f"{queue_id}: from=<ada@example.org>, status=force-expired, returned to sender",
            f"{queue_id}: removed",
        ]
        assert "(queue active)" in world.journal.lines[lines]
        assert len(world.requests) == 1
        [(_, entries)] = world.notices
        assert [(e.status, e.action, e.reason) for e in entries] == [("4.2.0", "failed", "greylisted")]
        assert world.where(held) == "hold"
        await world.change("release", held)
        await world.flush(held)
        await world.until(lambda: world.where(held) is None)
        assert len(world.notices) == 2

    run(tmp_path, scenario)


def test_a_change_that_the_file_system_refuses_is_told_and_the_mail_is_tried_again(tmp_path):
    async def scenario(world):
        world.answer = gate = Gate("example.com")
        waiting = world.put("a@example.org", queue="deferred", due=time.time() + 1000)
        await world.start()
        os.rmdir("hold", dir_fd=world.spool.descriptor)
        os.symlink("/dev/null", "hold", dir_fd=world.spool.descriptor)
        active = await world.send("b@example.com")
        await world.until(lambda: gate.waiting)
        change = asyncio.ensure_future(world.change("hold", waiting, active))
        await world.until(lambda: "Change" in world.calls)
        gate.answer = deferred
        gate.open()
        assert await change == ()
        assert f"warning: {waiting}: hold: Not a directory" in world.journal.lines
        assert world.where(waiting) == "deferred"
        assert world.where(active) == "deferred"

    run(tmp_path, scenario)


def test_mail_in_flight_expires_at_its_next_attempt(tmp_path):
    async def scenario(world):
        gate = Gate("example.com", answer=deferred)
        queue_id = await world.send_into(gate, "a@example.com")
        assert await world.change("expire", queue_id) == (queue_id,)
        gate.open()
        await world.until(lambda: world.where(queue_id) == "deferred")
        await world.flush(queue_id)
        await world.until(lambda: world.where(queue_id) is None)
        assert len(world.notices) == 1

    run(tmp_path, scenario)


def test_requeue_hands_all_deferred_mail_to_pickup(tmp_path):
    async def scenario(world):
        await world.start()
        queue_ids = [world.put("x@example.com", queue="deferred", due=time.time() + 1000) for _ in range(3)]
        assert sorted(await world.change("requeue", queues=("deferred",))) == sorted(queue_ids)
        assert {world.where(queue_id) for queue_id in queue_ids} == {"maildrop"}

    run(tmp_path, scenario)


def test_only_the_privileged_may_change_mail(tmp_path):
    async def scenario(world):
        handlers = {}
        world.implement = lambda _interface, more, **_: handlers.update(more)
        await world.start()
        stranger = Connection(Peer(1, 65534, 65534))
        with pytest.raises(Denied):
            await handlers["Change"](Call(Change("delete"), (), stranger))

    run(tmp_path, scenario)
