"""The queue's listing, as showq streams it."""

import asyncio
import os
import time

import msgspec
import pytest
from roles.postal_world import World
from roles.serving import run

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.roles import showq
from pyfix.service.blocking import BlockingClient
from pyfix.service.interface import Nothing
from pyfix.service.listing import messages_of, pages
from pyfix.service.showq import INTERFACE, Page, Recipient
from pyfix.spool import log
from pyfix.spool.directories import Spool
from pyfix.spool.log import LogEntry
from pyfix.spool.maildrop import MaildropWriter, NewSubmission
from pyfix.spool.queue_file import mark_done, read_envelope
from pyfix.system.unix import MESSAGE_LIMIT


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.spool.close()


def fail(world, queue_id, *entries, name="defer"):
    logged = [LogEntry(a, offset, "4.0.0", reason, "delayed") for a, offset, reason in entries]
    log.addition(world.spool, name, queue_id, logged).commit()


def offsets(world, queue, queue_id):
    fd = world.spool.open(queue, queue_id)
    try:
        return [r.offset for r in read_envelope(fd).recipients]
    finally:
        os.close(fd)


def test_messages_of_all_queues_in_postfixs_order(world):
    now = int(time.time())
    names = ("hold", "deferred", "incoming", "active")
    ids = {name: world.put("a@example.com", queue=name, age=100.0) for name in names}
    file = world.spool.create("4jXZHh6nLGzDLbP", "maildrop")
    writer = MaildropWriter(file)
    writer.begin(NewSubmission("ada@example.org", ("bob@example.com",), 1_700_000_000_000_000, 1000))
    writer.write_content(b"x\n")
    writer.finish()
    writer.commit()
    listed = list(messages_of(world.spool))
    assert [m.queue_name for m in listed] == ["maildrop", "active", "incoming", "deferred", "hold"]
    assert listed[0].arrival_time == 1_700_000_000
    assert listed[0].recipients == (Recipient("bob@example.com"),)
    for message in listed[1:]:
        assert message.queue_id == ids[message.queue_name]
        assert now - 101 <= message.arrival_time <= now - 99
        assert (message.sender, message.forced_expire) == ("ada@example.org", False)
        assert message.recipients == (Recipient("a@example.com"),)


def test_reasons_come_first_and_in_the_order_of_the_log(world):
    queue_id = world.put("a@example.com", "b@example.com", "c@example.com", "d@example.com", queue="deferred")
    a, b, c, _ = offsets(world, "deferred", queue_id)
    fail(world, queue_id, ("c@example.com", c, "busy"), ("a@example.com", a, "slow"), ("gone@example.com", 7, "x"))
    fail(world, queue_id, ("b@example.com", b, "unknown"), name="bounce")
    [message] = messages_of(world.spool)
    assert message.recipients == (
        Recipient("c@example.com", "", "busy", "delay"),
        Recipient("a@example.com", "", "slow", "delay"),
        Recipient("b@example.com", "", "unknown", "bounce"),
        Recipient("d@example.com"),
    )


def test_recipients_that_are_done_are_not_shown(world):
    queue_id = world.put("a@example.com", "b@example.com", queue="deferred")
    fd = world.spool.open("deferred", queue_id, write=True)
    mark_done(fd, read_envelope(fd).recipients[0].offset)
    os.close(fd)
    [message] = messages_of(world.spool)
    assert [r.address for r in message.recipients] == ["b@example.com"]


def test_a_message_that_is_forced_to_expire(world):
    queue_id = world.put("a@example.com", queue="deferred")
    os.chmod(world.spool.path("deferred", queue_id), 0o710, dir_fd=world.spool.descriptor)
    assert [m.forced_expire for m in messages_of(world.spool)] == [True]


def test_files_that_vanish_are_passed_over(world):
    ids = [world.put("a@example.com") for _ in range(20)]
    seen = []
    for message in messages_of(world.spool):
        if not seen:
            for queue_id in ids[5:]:
                world.spool.remove("incoming", queue_id)
        seen.append(message.queue_id)
    assert 1 <= len(seen) <= 6


def test_a_file_that_moves_on_is_shown_once(world):
    queue_id = world.put("a@example.com", queue="active")
    listing = messages_of(world.spool)
    assert next(listing).queue_name == "active"
    world.spool.move(queue_id, "active", "deferred")
    assert list(listing) == []


def test_broken_and_unfinished_files_are_passed_over(world):
    broken = world.put("a@example.com")
    os.truncate(world.directory / "spool" / world.spool.path("incoming", broken), 100)
    unfinished = world.spool.create("4jXZHh6nLGzDLbP")
    whole = world.put("b@example.com")
    assert [m.queue_id for m in messages_of(world.spool)] == [whole]
    unfinished.abort()


def test_a_message_with_many_recipients_comes_in_parts(world):
    addresses = [f"user{n}@example.com" for n in range(1234)]
    queue_id = world.put(*addresses, queue="deferred")
    fail(world, queue_id, *((address, 0, "r" * 1500) for address in addresses))
    parts = list(messages_of(world.spool))
    assert {part.queue_id for part in parts} == {queue_id}
    assert len(parts) > 5
    assert [r.address for part in parts for r in part.recipients] == addresses


def test_pages_are_bounded(world):
    reason = "\N{SNOWMAN}\x01" * 1500
    for n in range(230):
        queue_id = world.put(f"user{n}@example.com", queue="deferred")
        fail(world, queue_id, (f"user{n}@example.com", 0, reason))
    listed = list(pages(world.spool))
    assert sum(len(page.messages) for page in listed) == 230
    assert max(len(page.messages) for page in listed) <= 100
    assert max(len(msgspec.json.encode(page)) for page in listed) < MESSAGE_LIMIT


def test_the_first_page_costs_the_same_whatever_the_queue_holds(world):
    for n in range(250):
        world.put(f"user{n}@example.com", queue="deferred")
    opened = []

    class Counting(Spool):
        def open(self, queue, queue_id, **options):
            opened.append(queue_id)
            return super().open(queue, queue_id, **options)

    spool = Counting(world.spool.root)
    listing = pages(spool)
    assert len(next(listing).messages) == 100
    # A message's file, its defer log and its bounce log.
    assert len(opened) <= 3 * 100
    assert sum(len(page.messages) for page in listing) == 150
    spool.close()


def test_an_empty_queue_has_no_pages(world):
    assert list(pages(world.spool)) == []


def test_the_role_streams_pages(tmp_path):
    async def scenario(role):
        world = World(tmp_path)
        queue_ids = {world.put("a@example.com") for _ in range(150)}
        await showq.start(role)

        def listed():
            client = BlockingClient(INTERFACE, role.path(INTERFACE))
            try:
                return list(client.stream("List", Nothing()))
            finally:
                client.close()

        *full, last = await asyncio.to_thread(listed)
        assert [len(page.messages) for page in full] == [100, 50]
        assert last == Page()
        assert {message.queue_id for page in full for message in page.messages} == queue_ids

    run(tmp_path, scenario)


def test_a_queue_directory_that_is_missing(tmp_path):
    async def scenario(role):
        role.conf = Config("", [Assignment("queue_directory", str(tmp_path / "missing"), "main.cf", 1)])
        with pytest.raises(ConfigError, match="No such file"):
            await showq.start(role)

    run(tmp_path, scenario)
