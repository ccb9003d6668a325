"""What senders hear from the queue manager."""

import os
import time

import pytest
from roles.postal_world import bounced, deferred, per_recipient, run, sent

from pyfix.service.delivery import Delivered, Outcome
from pyfix.spool.envelope import WARNED
from pyfix.spool.queue_file import read_envelope


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


def test_mail_to_the_double_bounce_address_is_discarded(tmp_path):
    async def scenario(world):
        await world.start()
        await world.send("double-bounce@here")
        await world.quiet()

    world = run(tmp_path, scenario)
    assert world.requests == []
    assert world.journal.lines[1].endswith("status=sent (undeliverable postmaster notification discarded)")
    assert world.journal.lines[2].endswith(": removed")


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
