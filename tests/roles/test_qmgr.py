"""The queue manager, with services that do as the test says."""

import asyncio
import os
import time

import pytest
from roles.postal_world import CONTENT, bounced, by_domain, deferred, run, sent, unreachable

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.roles import qmgr
from pyfix.service import client
from pyfix.service.delivery import Delivered, Outcome
from pyfix.service.dispatch import Call, Connection
from pyfix.service.queue import Change, Denied
from pyfix.spool.active import ActiveQueue
from pyfix.spool.queue_file import mark_done, read_envelope
from pyfix.system.unix import Peer


def per_recipient(**answers):
    """An agent that answers by the recipient's local part."""

    def answer(request):
        outcomes = []
        for recipient in request.recipients:
            reply = answers[recipient.address.partition("@")[0]](request)
            outcomes += [o for o in reply.outcomes if o.offset == recipient.offset]
        return Delivered(tuple(outcomes))

    return answer


class Gate:
    """An agent that holds deliveries to some hosts until it is opened."""

    def __init__(self, *hosts, answer=sent):
        self.hosts = hosts
        self.answer = answer
        self.event = asyncio.Event()
        self.waiting = 0

    async def __call__(self, request):
        if request.nexthop in self.hosts:
            self.waiting += 1
            await self.event.wait()
        return self.answer(request)

    def open(self):
        self.event.set()


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


def test_a_recipient_is_marked_before_the_file_goes(tmp_path, monkeypatch):
    left = []

    async def scenario(world):
        remove = ActiveQueue.remove

        def look(active, file):
            left.append(world.left(file.queue_id))
            remove(active, file)

        monkeypatch.setattr(ActiveQueue, "remove", look)
        await world.start()
        await world.send("a@example.com")
        await world.quiet()

    run(tmp_path, scenario)
    assert left == [[]]


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


def test_bounced_mail_is_reported_to_its_sender(tmp_path):
    async def scenario(world):
        world.answer = per_recipient(nobody=bounced, ok=sent)
        await world.start()
        queue_id = await world.send("nobody@example.com", "ok@example.com")
        await world.quiet()
        [(notify, entries)] = world.notices
        assert (notify.queue_id, notify.sender) == (queue_id, "ada@example.org")
        assert [(e.recipient, e.status, e.action, e.reason) for e in entries] == [
            ("nobody@example.com", "5.1.1", "failed", "unknown user")
        ]
        assert world.where(queue_id) is None
        assert world.journal.lines[-1] == f"{queue_id}: removed"

    run(tmp_path, scenario)


def test_the_sender_hears_of_bounces_while_others_are_deferred(tmp_path):
    async def scenario(world):
        world.answer = per_recipient(nobody=bounced, busy=deferred)
        await world.start()
        queue_id = await world.send("nobody@example.com", "busy@example.com")
        await world.quiet()
        assert len(world.notices) == 1
        assert world.where(queue_id) == "deferred"
        assert world.left(queue_id) == ["busy@example.com"]

    run(tmp_path, scenario)


def test_mail_that_is_too_old_is_returned_after_an_attempt(tmp_path):
    async def scenario(world):
        world.answer = deferred
        world.put("busy@example.com", queue="deferred", age=6 * 86400, due=time.time() - 1)
        await world.start()
        await world.quiet()
        [(notify, entries)] = world.notices
        assert [(e.status, e.action, e.reason) for e in entries] == [("4.2.0", "failed", "greylisted")]
        assert world.where(notify.queue_id) is None
        assert world.journal.lines[1:] == [
            f"{notify.queue_id}: from=<ada@example.org>, status=expired, returned to sender",
            f"{notify.queue_id}: removed",
        ]

    run(tmp_path, scenario)


def test_a_force_expired_message_is_returned_after_an_attempt(tmp_path):
    async def scenario(world):
        world.answer = deferred
        queue_id = world.put("busy@example.com")
        os.chmod(world.spool.path("incoming", queue_id), 0o710, dir_fd=world.spool.descriptor)
        await world.start()
        await world.quiet()
        assert len(world.notices) == 1
        assert f"{queue_id}: from=<ada@example.org>, status=force-expired, returned to sender" in world.journal.lines

    run(tmp_path, scenario)


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


def test_a_bounce_that_cannot_be_logged_is_a_deferral(tmp_path, monkeypatch):
    monkeypatch.setattr("pyfix.service.insist._PAUSE", 0.0)

    async def scenario(world):
        world.answer = bounced
        world.bounce_works = False
        await world.start()
        queue_id = await world.send("nobody@example.com")
        await world.quiet()
        assert world.where(queue_id) == "deferred"
        assert world.left(queue_id) == ["nobody@example.com"]
        assert [line.split(": ")[2] for line in world.journal.lines if "service failure" in line] == [
            "bounce service failure",
            "defer service failure",
        ]
        world.bounce_works = True
        await world.flush()
        await world.quiet()
        assert world.where(queue_id) is None
        assert len(world.notices) == 1

    run(tmp_path, scenario)


def test_a_message_stays_until_its_notice_is_on_its_way(tmp_path, monkeypatch):
    monkeypatch.setattr("pyfix.service.insist._PAUSE", 0.0)

    async def scenario(world):
        world.answer = per_recipient(nobody=bounced, ok=sent)
        world.notify_works = False
        await world.start()
        queue_id = await world.send("nobody@example.com", "ok@example.com")
        await world.quiet()
        assert world.where(queue_id) == "deferred"
        assert world.left(queue_id) == []
        world.notify_works = True
        await world.flush()
        await world.quiet()
        assert world.where(queue_id) is None
        assert len(world.notices) == 1
        assert len(world.requests) == 1

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


def test_recipients_are_read_in_parts(tmp_path):
    async def scenario(world):
        await world.start()
        await world.send(*(f"u{n}@example.com" for n in range(7)))
        await world.quiet()

    world = run(tmp_path, scenario, qmgr_message_recipient_limit="3")
    parts = [[r.address.partition("@")[0] for r in request.recipients] for request in world.requests]
    assert parts == [["u0", "u1", "u2"], ["u3", "u4", "u5"], ["u6"]]


def test_mail_to_the_double_bounce_address_is_discarded(tmp_path):
    async def scenario(world):
        await world.start()
        await world.send("double-bounce@here")
        await world.quiet()

    world = run(tmp_path, scenario)
    assert world.requests == []
    assert world.journal.lines[1].endswith("status=sent (undeliverable postmaster notification discarded)")
    assert world.journal.lines[2].endswith(": removed")


def test_a_message_that_disappears_is_let_go(tmp_path):
    async def scenario(world):
        world.answer = gate = Gate("example.com", answer=deferred)
        await world.start()
        queue_id = await world.send("a@example.com", "b@other.example")
        await world.until(lambda: gate.waiting)
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
        world.answer = gate = Gate("example.com")
        await world.start()
        first = await world.send("a@example.com")
        await world.until(lambda: gate.waiting)
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
        world.answer = gate = Gate("example.com")
        await world.start()
        first = await world.send("a@example.com")
        await world.until(lambda: gate.waiting)
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
