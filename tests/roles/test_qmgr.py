"""The queue manager, with services that do as the test says."""

import asyncio
import os
import time

import pytest
from roles.postal_world import CONTENT, Gate, bounced, by_domain, deferred, per_recipient, run, sent, unreachable

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.roles import qmgr
from pyfix.service import client
from pyfix.service.delivery import Delivered, Outcome
from pyfix.service.flush import REGISTER, Done
from pyfix.spool.active import ActiveQueue
from pyfix.spool.queue_file import mark_done, read_envelope


def test_announced_mail_is_delivered_and_removed(tmp_path):
    async def scenario(world):
        await world.start()
        world.queue_id = await world.send("bob@example.com", "eve@example.com")
        await world.quiet()

    world = run(tmp_path, scenario)
    [request] = world.requests
    assert (request.queue_id, request.transport, request.nexthop) == (world.queue_id, "smtp", "example.com")
    assert [r.address for r in request.recipients] == ["bob@example.com", "eve@example.com"]
    assert request.sender == "ada@example.org"
    assert request.arrival_usec <= request.active_usec <= time.time() * 1_000_000
    assert world.contents == [CONTENT]
    assert world.where(world.queue_id) is None
    assert world.journal.lines == [
        f"{world.queue_id}: from=<ada@example.org>, size={request.size}, nrcpt=2 (queue active)",
        f"{world.queue_id}: removed",
    ]


def test_mail_found_at_the_start_is_delivered(tmp_path):
    async def scenario(world):
        world.put("new@example.com")
        world.put("due@example.com", queue="deferred", due=time.time() - 10)
        world.later = world.put("later@example.com", queue="deferred", due=time.time() + 1000)
        world.put("crashed@example.com", queue="active")
        await world.start()
        await world.quiet()

    world = run(tmp_path, scenario)
    delivered = sorted(r.address for request in world.requests for r in request.recipients)
    assert delivered == ["crashed@example.com", "due@example.com", "new@example.com"]
    assert world.where(world.later) == "deferred"


def test_a_message_is_marked_before_its_file_goes(tmp_path, monkeypatch):
    """A process that dies between the two delivers nothing twice."""
    modes = []

    async def scenario(world):
        remove = ActiveQueue.remove

        def look(active, file):
            modes.append(os.stat(f"{world.spool.root}/active/{file.queue_id}").st_mode & 0o777)
            remove(active, file)

        monkeypatch.setattr(ActiveQueue, "remove", look)
        await world.start()
        await world.send("a@example.com")
        await world.quiet()

    run(tmp_path, scenario)
    assert modes == [0o600]


def test_what_was_marked_before_a_crash_is_removed(tmp_path):
    async def scenario(world):
        queue_id = world.put("a@example.com", queue="active")
        path = f"{world.spool.root}/active/{queue_id}"
        os.chmod(path, 0o600)
        os.utime(path, (1, 1))
        other = world.put("b@example.com")
        await world.start()
        await world.quiet()
        assert list(world.spool.scan("incoming")) == list(world.spool.scan("active")) == []
        assert [request.queue_id for request in world.requests] == [other]

    run(tmp_path, scenario)


def test_recipients_are_marked_one_by_one_where_others_are_left(tmp_path):
    """Or where a notice is due: of these, none is forgotten."""

    async def scenario(world):
        world.answer = per_recipient(a=sent, b=deferred, c=bounced)
        await world.start()
        queue_id = await world.send("a@example.com", "b@example.com", "c@example.com")
        await world.until(lambda: world.where(queue_id) == "deferred")
        assert world.left(queue_id) == ["b@example.com"]

    run(tmp_path, scenario)


def test_mail_that_was_delivered_before_a_crash_is_not_delivered_again(tmp_path):
    async def scenario(world):
        queue_id = world.put("a@example.com", queue="active")
        fd = world.spool.open("active", queue_id, write=True)
        mark_done(fd, read_envelope(fd).recipients[0].offset)
        os.close(fd)
        await world.start()
        await world.quiet()
        assert world.where(queue_id) is None
        assert world.requests == []

    run(tmp_path, scenario)


def test_each_destination_gets_its_own_delivery_and_the_first_is_marked(tmp_path):
    async def scenario(world):
        world.answer = gate = Gate("slow.example")
        await world.start()
        queue_id = await world.send("a@fast.example", "b@slow.example", "c@here")
        await world.until(lambda: gate.waiting and world.left(queue_id) == ["b@slow.example"])
        gate.open()
        await world.quiet()
        assert world.where(queue_id) is None

    world = run(tmp_path, scenario)
    assert sorted((r.transport, r.nexthop) for r in world.requests) == [
        ("local", "here"),
        ("smtp", "fast.example"),
        ("smtp", "slow.example"),
    ]


def test_deferred_mail_waits_for_its_time(tmp_path):
    async def scenario(world):
        world.answer = per_recipient(ok=sent, busy=deferred)
        await world.start()
        queue_id = await world.send("ok@example.com", "busy@example.com")
        await world.quiet()
        assert world.where(queue_id) == "deferred"
        assert world.left(queue_id) == ["busy@example.com"]
        assert world.logged("defer", queue_id) == [("busy@example.com", "4.2.0", "greylisted")]
        [found] = world.spool.scan("deferred")
        assert 298 <= found.mtime - time.time() <= 300
        assert f"{queue_id}: removed" not in world.journal.lines

    run(tmp_path, scenario)


def test_deferred_mail_is_tried_again_in_time_and_its_defer_log_forgotten(tmp_path):
    async def scenario(world):
        world.answer = deferred
        await world.start()
        queue_id = await world.send("busy@example.com")
        await world.until(lambda: world.requests)
        world.answer = sent
        await world.until(lambda: world.where(queue_id) is None)
        assert len(world.requests) == 2
        assert world.logged("defer", queue_id) == []

    run(tmp_path, scenario, minimal_backoff_time="1s")


@pytest.mark.parametrize(
    ("names", "depth"), [("deferred, defer", "2"), ("incoming, active, deferred, hold", "2"), ("x", "1")]
)
def test_mail_is_found_after_a_change_of_the_hashed_directories(tmp_path, names, depth):
    async def scenario(world):
        world.answer = per_recipient(due=sent, later=deferred)
        due = world.put("due@example.com", queue="deferred", due=time.time() - 1)
        world.put("due@example.com", queue="active")
        later = world.put("later@example.com", queue="deferred", due=time.time() - 1)
        await world.start()
        await world.until(lambda: world.where(due) is None and world.requests)
        await world.quiet()
        assert world.where(later) == "deferred"
        assert world.logged("defer", later) == [("later@example.com", "4.2.0", "greylisted")]

    world = run(tmp_path, scenario, hash_queue_names=names, hash_queue_depth=depth)
    assert len(world.requests) == 3


def test_flush_tries_deferred_mail_now(tmp_path):
    async def scenario(world):
        await world.start()
        world.put("a@example.com", queue="deferred", due=time.time() + 1000)
        world.put("b@example.com", queue="deferred", due=time.time() + 2000)
        await world.flush()
        await world.quiet()

    world = run(tmp_path, scenario)
    assert len(world.requests) == 2


def test_flush_of_one_message(tmp_path):
    async def scenario(world):
        await world.start()
        wanted = world.put("a@example.com", queue="deferred", due=time.time() + 1000)
        other = world.put("b@example.com", queue="deferred", due=time.time() + 2000)
        await world.flush(wanted)
        await world.quiet()
        await world.flush("../../etc/passwd")
        assert world.where(wanted) is None
        assert world.where(other) == "deferred"

    run(tmp_path, scenario)


def test_flush_leaves_what_is_held_or_unknown_alone(tmp_path):
    async def scenario(world):
        await world.start()
        held = world.put("a@example.com", queue="hold")
        waiting = world.put("b@example.com", queue="deferred", due=time.time() + 1000)
        await world.flush(held, "4jXZyg57fwzFGn9", waiting)
        await world.until(lambda: world.where(waiting) is None)
        await world.quiet()
        assert world.where(held) == "hold"
        assert len(world.requests) == 1

    run(tmp_path, scenario)


def test_mail_by_a_deferred_transport_waits_until_it_is_flushed(tmp_path):
    async def scenario(world):
        await world.start(("smtp", "retry"))
        world.answer = lambda request: deferred(request) if request.transport == "retry" else sent(request)
        queue_id = await world.send("a@example.com")
        await world.until(lambda: world.where(queue_id) == "deferred")
        assert [(r.transport, r.nexthop) for r in world.requests] == [("retry", "4.3.2 deferred transport")]
        await world.flush(queue_id, wanted=False)
        await world.until(lambda: len(world.requests) == 2)
        await world.until(lambda: world.where(queue_id) == "deferred")
        await world.flush()
        await world.until(lambda: world.where(queue_id) is None)
        assert [r.transport for r in world.requests] == ["retry", "retry", "smtp"]

    run(tmp_path, scenario, defer_transports="smtp, local")


def test_refreshed_mail_does_not_wake_the_dead(tmp_path):
    """An attempt that nobody asked for leaves a destination that is out of reach alone."""

    async def scenario(world):
        world.answer = unreachable
        await world.start()
        first = await world.send("a@example.com")
        await world.until(lambda: world.where(first) == "deferred")
        await world.flush(first, wanted=False)
        await world.until(lambda: any("delivery temporarily suspended" in line for line in world.journal.lines))
        assert len(world.requests) == 1
        await world.quiet()
        world.answer = sent
        await world.flush(first)
        await world.until(lambda: world.where(first) is None)

    run(tmp_path, scenario, initial_destination_concurrency="1")


def test_what_is_deferred_for_a_destination_is_noted(tmp_path):
    noted = []

    def add(call):
        noted.append((call.parameters.queue_id, call.parameters.sites))
        return Done()

    async def scenario(world):
        world.answer = per_recipient(later=deferred, ok=sent, other=deferred)
        world.serve("register", REGISTER, {"Add": add, "Send": lambda _call: Done()})
        await world.start()
        queue_id = await world.send("later@example.com", "ok@example.com", "other@example.org")
        await world.until(lambda: world.where(queue_id) == "deferred")
        assert noted == [(queue_id, ("example.com",))]

    run(tmp_path, scenario, fast_flush_domains="example.com")


def test_a_destination_out_of_reach_is_left_alone(tmp_path):
    async def scenario(world):
        world.answer = unreachable
        await world.start()
        first = await world.send("a@example.com")
        await world.quiet()
        second = await world.send("b@example.com")
        await world.quiet()
        reason = "delivery temporarily suspended: connect: refused"
        assert world.logged("defer", first) == [("a@example.com", "4.4.1", "connect: refused")]
        assert world.logged("defer", second) == [("b@example.com", "4.4.1", reason)]
        [line] = [line for line in world.journal.lines if "to=<" in line]
        assert line.startswith(f"{second}: to=<b@example.com>, relay=none, delay=")
        assert line.endswith(f", dsn=4.4.1, status=deferred ({reason})")
        await world.flush()
        world.answer = sent
        await world.quiet()
        assert world.where(second) is None

    world = run(tmp_path, scenario, initial_destination_concurrency="1")
    assert len(world.requests) == 3


def test_a_transport_that_nobody_serves(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "CONNECT_PATIENCE", 0.0)

    async def scenario(world):
        world.answer = sent
        await world.start(transports=("local",))
        queue_id = await world.send("a@example.com", "b@here")
        await world.quiet()
        assert world.where(queue_id) == "deferred"
        assert world.left(queue_id) == ["a@example.com"]
        assert world.logged("defer", queue_id) == [("a@example.com", "4.3.0", "mail transport unavailable")]
        assert any(line.startswith("warning: connect to transport smtp: ") for line in world.journal.lines)

    run(tmp_path, scenario)


def test_a_transport_with_a_name_that_leads_elsewhere(tmp_path):
    async def scenario(world):
        world.resolve = lambda address: by_domain(address).__class__(address, "../smtp", "h", "default")
        await world.start()
        queue_id = await world.send("a@example.com")
        await world.quiet()
        assert world.logged("defer", queue_id) == [("a@example.com", "4.3.0", "mail transport unavailable")]
        assert world.requests == []

    run(tmp_path, scenario)


def test_an_agent_that_dies_with_the_mail(tmp_path):
    def crash(_request):
        raise ZeroDivisionError

    async def scenario(world):
        world.answer = crash
        await world.start()
        queue_id = await world.send("a@example.com")
        await world.quiet()
        assert world.where(queue_id) == "deferred"
        assert world.logged("defer", queue_id) == [("a@example.com", "4.3.0", "unknown mail transport error")]
        assert len(world.crashes) == 1

    run(tmp_path, scenario)


def test_a_rewrite_service_in_trouble(tmp_path):
    async def scenario(world):
        world.resolve = lambda _address: None
        await world.start()
        queue_id = await world.send("a@example.com", "b@example.com")
        await world.quiet()
        assert [reason for _, _, reason in world.logged("defer", queue_id)] == ["address resolver failure"] * 2
        assert world.requests == []

    run(tmp_path, scenario)


def test_a_corrupt_file_is_put_aside(tmp_path):
    async def scenario(world):
        queue_id = world.put("a@example.com")
        path = world.directory / "spool" / world.spool.path("incoming", queue_id)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        await world.start()
        await world.until(lambda: world.journal.lines)
        corrupt = world.directory / "spool" / "corrupt" / queue_id
        assert corrupt.stat().st_mode & 0o777 == 0o400
        [line] = world.journal.lines
        assert line.startswith(f"warning: {queue_id}: incoming: ")
        assert world.requests == []

    run(tmp_path, scenario)


def test_a_file_that_is_still_written_is_left_alone(tmp_path):
    async def scenario(world):
        await world.start()
        queue_id = world.ids.new(1_700_000_000_000_000)
        file = world.spool.create(queue_id)
        await world.announce(queue_id)
        await world.announce("not/an/id")
        await world.send("a@example.com")
        await world.quiet()
        file.abort()

    world = run(tmp_path, scenario)
    assert len(world.requests) == 1


def test_the_active_limit(tmp_path):
    async def scenario(world):
        world.answer = gate = Gate("example.com")
        await world.start()
        for _ in range(5):
            await world.send("a@example.com")
        await world.until(lambda: gate.waiting == 2)
        assert len(list(world.spool.scan("active"))) == 2
        gate.open()
        await world.quiet()

    world = run(tmp_path, scenario, qmgr_message_active_limit="2")
    assert len(world.requests) == 5


def test_who_asks_hears_that_mail_comes_in_faster_than_it_is_taken(tmp_path):
    async def scenario(world):
        world.answer = gate = Gate("example.com")
        await world.start()
        first, second = await world.send("a@example.com"), await world.send("b@example.com")
        await world.until(lambda: gate.waiting == 1)
        assert await world.announce(second)
        gate.open()
        await world.quiet()
        assert world.where(first) is None
        assert world.where(second) is None

    run(tmp_path, scenario, qmgr_message_active_limit="1")


def test_concurrencies_are_logged_on_demand(tmp_path):
    async def scenario(world):
        await world.start()
        await world.send("a@example.com")
        await world.quiet()

    world = run(tmp_path, scenario, destination_concurrency_feedback_debug="yes")
    assert "queue example.com: limit 20 window 6 success 0 failure 0 fail_cohorts 0" in world.journal.lines
    world = run(tmp_path / "quiet", scenario)
    assert not [line for line in world.journal.lines if "window" in line]


def test_recipients_are_read_in_parts(tmp_path):
    async def scenario(world):
        await world.start()
        await world.send(*(f"u{n}@example.com" for n in range(7)))
        await world.quiet()

    few = {"qmgr_message_recipient_limit": "3", "qmgr_message_recipient_minimum": "3", "default_recipient_limit": "0"}
    world = run(tmp_path, scenario, **few)
    parts = [[r.address.partition("@")[0] for r in request.recipients] for request in world.requests]
    assert parts == [["u0", "u1", "u2"], ["u3", "u4", "u5"], ["u6"]]


def test_there_is_one_queue_manager_only(tmp_path):
    async def scenario(world):
        await world.start()
        with pytest.raises(SystemExit):
            await qmgr.start(world)

    world = run(tmp_path, scenario)
    assert world.journal.lines == [f"fatal: another queue manager is at work in {tmp_path}/spool"]


def test_a_queue_directory_that_is_missing(tmp_path):
    async def scenario(world):
        with pytest.raises(ConfigError, match=r"parameter queue_directory: .*No such file"):
            world.conf = Config("", [Assignment("queue_directory", str(tmp_path / "missing"), "main.cf", 1)])
            await qmgr.start(world)

    run(tmp_path, scenario)


def test_stopping_waits_for_what_is_in_flight(tmp_path):
    async def scenario(world):
        gate = Gate("example.com")
        first = await world.send_into(gate, "a@example.com")
        second = await world.send("b@example.com")
        await world.until(lambda: world.where(second) == "active")
        stop = asyncio.ensure_future(world.on_stop[0]())
        gate.open()
        await stop
        assert world.where(first) is None
        assert world.where(second) == "active"

    world = run(tmp_path, scenario, smtp_destination_concurrency_limit="1")
    assert len(world.requests) == 1


def test_reload(tmp_path):
    async def scenario(world):
        await world.start()
        [reload] = world.on_reload
        with pytest.raises(ConfigError, match="smtp_destination_concurrency_positive_feedback"):
            reload(changed(world, smtp_destination_concurrency_positive_feedback="2"))
        reload(changed(world, smtp_destination_recipient_limit="1"))
        await world.send("a@example.com", "b@example.com")
        await world.quiet()

    def changed(world, **settings):
        settings["queue_directory"] = world.conf.text("queue_directory")
        return Config("", [Assignment(name, value, "main.cf", 1) for name, value in settings.items()])

    world = run(tmp_path, scenario)
    assert len(world.requests) == 2


def test_outcomes_of_strangers_are_ignored(tmp_path):
    async def scenario(world):
        world.answer = lambda _request: Delivered((Outcome(0, "sent", "2.0.0", "never asked"),))
        await world.start()
        queue_id = await world.send("a@example.com")
        await world.quiet()
        assert world.left(queue_id) == ["a@example.com"]

    run(tmp_path, scenario)
