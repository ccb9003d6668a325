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
from pyfix.service.flush import REGISTER, Done
from pyfix.service.queue import Change, Denied
from pyfix.spool.active import ActiveQueue
from pyfix.spool.envelope import WARNED
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


def test_a_lifetime_of_notices_that_is_too_long_is_told(tmp_path):
    async def scenario(world):
        await world.start()
        words = "bounce_queue_lifetime is larger than maximal_queue_lifetime - adjusting bounce_queue_lifetime"
        assert world.journal.lines == [f"warning: {words}"]

    run(tmp_path, scenario, maximal_queue_lifetime="1d")


def test_a_force_expired_message_is_returned_without_an_attempt(tmp_path):
    async def scenario(world):
        world.answer = deferred
        queue_id = world.put("busy@example.com")
        os.chmod(world.spool.path("incoming", queue_id), 0o710, dir_fd=world.spool.descriptor)
        await world.start(("smtp", "retry"))
        await world.quiet()
        assert len(world.notices) == 1
        assert f"{queue_id}: from=<ada@example.org>, status=force-expired, returned to sender" in world.journal.lines

    world = run(tmp_path, scenario)
    # As in Postfix the retry service says why.
    words = "4.7.0 message is administratively expired"
    assert [(request.transport, request.nexthop) for request in world.requests] == [("retry", words)]


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
        world.answer = gate = Gate("example.com", answer=deferred)
        await world.start()
        queue_id = await world.send("a@example.com")
        await world.until(lambda: gate.waiting)
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


MX = "mx.example[192.0.2.1]:25"


def told(world):
    return [(request.kind, sorted((e.recipient, e.action) for e in entries)) for request, entries in world.notices]


def test_the_sender_is_told_of_a_delay_once(tmp_path):
    async def scenario(world):
        world.answer = deferred
        await world.start()
        world.queue_id = await world.send("a@example.com", age=100, warn_time=int(time.time()) - 1)
        await world.quiet()
        assert told(world) == [("delay", [("a@example.com", "delayed")])]
        assert world.logged("defer", world.queue_id) == [("a@example.com", "4.2.0", "greylisted")]
        await world.flush(world.queue_id)
        await world.until(lambda: len(world.requests) == 2)
        await world.quiet()

    world = run(tmp_path, scenario)
    assert len(world.notices) == 1
    fd = world.spool.open("deferred", world.queue_id)
    assert read_envelope(fd).warn_time == WARNED
    os.close(fd)


@pytest.mark.parametrize(
    ("warn_in", "answer", "age"),
    [(3600, deferred, 10), (0, sent, 10), (-10, deferred, 10**6)],
    ids=["not yet", "delivered", "expired"],
)
def test_no_delay_to_tell_of(tmp_path, warn_in, answer, age):
    async def scenario(world):
        world.answer = answer
        await world.start()
        await world.send("a@example.com", age=age, warn_time=int(time.time()) + warn_in)
        await world.quiet()

    world = run(tmp_path, scenario)
    assert [kind for kind, _ in told(world)] == (["failure"] if age > 10**5 else [])


def test_a_delay_that_cannot_be_told_is_told_later(tmp_path):
    async def scenario(world):
        world.answer = deferred
        world.notify_works = False
        await world.start()
        queue_id = await world.send("a@example.com", age=100, warn_time=1)
        await world.quiet()
        assert world.where(queue_id) == "deferred"
        world.notify_works = True
        world.crashes.clear()
        await world.flush(queue_id)
        await world.until(lambda: world.notices)
        await world.quiet()

    assert told(run(tmp_path, scenario)) == [("delay", [("a@example.com", "delayed")])]


@pytest.mark.parametrize(
    ("notify", "passed_on", "due"),
    [(2, False, True), (2, True, False), (4, False, False), (14, False, True)],
)
def test_the_sender_is_told_of_a_success_where_that_is_wanted(tmp_path, notify, passed_on, due):
    def relayed(request):
        return Delivered(
            tuple(
                Outcome(r.offset, "sent", "2.0.0", "250 ok", MX, action="relayed", passed_on=passed_on)
                for r in request.recipients
            )
        )

    async def scenario(world):
        world.answer = relayed
        await world.start()
        world.queue_id = await world.send("a@example.com", notify=notify)
        await world.quiet()

    world = run(tmp_path, scenario)
    assert told(world) == ([("success", [("a@example.com", "relayed")])] if due else [])
    for _, [entry] in world.notices:
        assert entry.reason == "delivery via mx.example[192.0.2.1]:25: 250 ok"
    assert world.where(world.queue_id) is None
    assert world.logged("trace", world.queue_id) == []


@pytest.mark.parametrize(("confirm", "kinds"), [("yes", ["success"]), ("no", [])])
def test_the_end_of_a_delay_is_told_with_confirm_delay_cleared(tmp_path, confirm, kinds):
    async def scenario(world):
        await world.start()
        await world.send("a@example.com", warn_time=WARNED)
        await world.quiet()

    assert [kind for kind, _ in told(run(tmp_path, scenario, confirm_delay_cleared=confirm))] == kinds


def test_every_outcome_is_told_on_demand(tmp_path):
    async def scenario(world):
        world.answer = per_recipient(ok=sent, busy=deferred, bad=bounced)
        await world.start()
        world.queue_id = await world.send("ok@x", "busy@x", "bad@x", attributes={"trace_flags": "1024"})
        await world.quiet()
        assert world.where(world.queue_id) == "deferred"

    world = run(tmp_path, scenario)
    assert told(world) == [
        ("failure", [("bad@x", "failed")]),
        ("verify", [("bad@x", "failed"), ("busy@x", "delayed"), ("ok@x", "delivered")]),
    ]


def test_what_is_to_be_found_out_only_is_neither_returned_nor_tried_again(tmp_path):
    async def scenario(world):
        world.answer = per_recipient(ok=sent, busy=deferred, bad=bounced)
        await world.start()
        world.queue_id = await world.send("ok@x", "busy@x", "bad@x", attributes={"trace_flags": "512"})
        await world.quiet()
        assert world.where(world.queue_id) is None

    world = run(tmp_path, scenario)
    assert all(request.verify for request in world.requests)
    found = [("bad@x", "undeliverable"), ("busy@x", "undeliverable"), ("ok@x", "deliverable")]
    assert told(world) == [("verify", found)]


def test_a_variable_return_path_names_each_recipient(tmp_path):
    async def scenario(world):
        await world.start()
        await world.send("a@example.com", "b@example.com", sender="list@example.org", verp_delimiters="+=")
        await world.quiet()

    world = run(tmp_path, scenario)
    assert sorted((r.sender, [x.address for x in r.recipients]) for r in world.requests) == [
        ("list+a=example.com@example.org", ["a@example.com"]),
        ("list+b=example.com@example.org", ["b@example.com"]),
    ]
