"""The SMTP client at work: against aiosmtpd, and against hosts that do what they like."""

import asyncio

import pytest
from aiosmtpd.smtp import SMTP
from roles.smtp_world import CONTENT, WIRE, World, one, run, until

from pyfix.spool.record import encode_lines


def test_a_message_reaches_an_independent_server_as_it_is():
    class Handler:
        async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 -- aiosmtpd's name
            received.append(envelope)
            return "250 2.0.0 Ok: queued as A1"

    received = []

    async def scenario():
        async with World() as world:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(
                lambda: SMTP(Handler(), loop=loop, enable_SMTPUTF8=True, decode_data=False), "127.0.0.1", 0
            )
            world.port = server.sockets[0].getsockname()[1]
            delivered = await world.deliver(
                recipients=("r@example.net", "o d@example.net"), smtputf8=True, encoding="8bit", sender=""
            )
            server.close()
            assert {(o.status, o.dsn, o.reason) for o in delivered.outcomes} == {
                ("sent", "2.0.0", "250 2.0.0 Ok: queued as A1")
            }
            relay = f"relay=127.0.0.1[127.0.0.1]:{world.port}, delay="
            assert [relay in line for line in world.role.journal.lines] == [True, True]

    run(scenario)
    (envelope,) = received
    assert envelope.mail_from == "<>"
    assert envelope.rcpt_tos == ["r@example.net", '"o d"@example.net']
    assert set(envelope.mail_options) == {"SIZE=9", "BODY=8BITMIME", "SMTPUTF8"}
    assert envelope.content.replace(b"\r\n ", b"") == b"\r\n".join(CONTENT) + b"\r\n"


@pytest.mark.parametrize("hello", ["250 host.example", "250-host.example\r\n250 PIPELINING", "502 no"])
def test_a_message_on_the_wire(hello):
    async def scenario():
        async with World() as world:
            host = await world.host(EHLO=hello)
            assert one(await world.deliver(encoding="8bit")) == ("sent", "2.0.0", "250 2.0.0 Ok: queued as X1")
            assert host.messages == [WIRE]
            commands = [line for line in host.dialogue if line[:4] not in ("EHLO", "HELO", "QUIT")]
            assert commands == ["CONNECT", "MAIL FROM:<s@example.com>", "RCPT TO:<r@example.net>", "DATA"]

    run(scenario)


def test_connections_are_used_again_where_there_is_demand():
    async def scenario():
        async with World() as world:
            host = await world.host()
            await world.deliver()
            assert host.connections == 1
            for _ in range(3):
                assert one(await world.deliver())[0] == "sent"
            assert host.connections == 2
            assert len(world.agent.cache) == 1
            assert "conn_use=3," in world.role.journal.lines[-1]
            assert host.dialogue.count("EHLO client.example") == 2

    run(scenario)


def test_a_crowd_uses_few_connections():
    async def scenario():
        async with World() as world:
            host = await world.host()
            jobs = iter(range(60))

            async def worker():
                for _ in jobs:
                    assert one(await world.deliver())[0] == "sent"

            await asyncio.gather(*[worker() for _ in range(6)])
            assert len(host.messages) == 60
            assert host.connections <= 8

    run(scenario)


def test_connections_are_not_kept_where_nobody_wants_them():
    async def scenario():
        async with World(smtp_connection_cache_on_demand="no") as world:
            host = await world.host()
            for _ in range(3):
                await world.deliver()
            assert host.connections == 3
            assert len(world.agent.cache) == 0

    run(scenario)


def test_a_destination_may_be_named_for_keeping():
    async def scenario():
        async with World() as world:
            host = await world.host()
        async with World(smtp_connection_cache_destinations=f"[127.0.0.1]:{world.port}") as world2:
            world2.port = world.port
            host = await world2.host()
            await world2.deliver()
            await world2.deliver()
            assert host.connections == 1

    run(scenario)


def test_a_connection_is_not_used_more_often_than_allowed():
    async def scenario():
        async with World(smtp_connection_reuse_count_limit="2") as world:
            host = await world.host()
            for _ in range(5):
                await world.deliver()
            assert host.connections == 3

    run(scenario)


@pytest.mark.parametrize("how", ["close", "421", "silent close"])
def test_a_kept_connection_that_ended_is_replaced_unnoticed(how):
    async def scenario():
        async with World() as world:
            answers = {"421": ["250 ok", "250 ok", "421 too long", "250 ok"]}.get(how, ["250 ok"])
            if how == "close":
                answers = ["250 ok", "250 ok", "CLOSE", "250 ok"]
            host = await world.host(MAIL=answers)
            await world.deliver()
            await world.deliver()
            if how == "silent close":
                host.transports[-1].close()
            assert one(await world.deliver())[0] == "sent"
            assert host.connections == 3
            assert not [line for line in world.role.journal.lines if "lost" in line]

    run(scenario)


def test_an_idle_host_that_speaks_up_is_dropped():
    async def scenario():
        async with World() as world:
            host = await world.host()
            await world.deliver()
            await world.deliver()
            assert len(world.agent.cache) == 1
            host.transports[-1].write(b"421 bye\r\n")
            await until(lambda: not world.agent.cache)

    run(scenario)


def test_idle_connections_end_with_good_bye():
    async def scenario():
        async with World(smtp_connection_cache_time_limit="1s") as world:
            host = await world.host()
            await world.deliver()
            await world.deliver()
            assert len(world.agent.cache) == 1
            await until(lambda: host.dialogue[-1] == "QUIT")
            assert len(world.agent.cache) == 0

    run(scenario)


# refusals


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (
            {"RCPT": "550 5.1.1 unknown"},
            ("bounced", "5.1.1", "host {} said: 550 5.1.1 unknown (in reply to RCPT TO command)"),
        ),
        ({"RCPT": "450 later"}, ("deferred", "4.0.0", "host {} said: 450 later (in reply to RCPT TO command)")),
        ({"MAIL": "550 no"}, ("bounced", "5.0.0", "host {} said: 550 no (in reply to MAIL FROM command)")),
        ({"DATA": "451 no"}, ("deferred", "4.0.0", "host {} said: 451 no (in reply to DATA command)")),
        (
            {"END": "554-5.7.1 spam\r\n554 5.7.1 really"},
            ("bounced", "5.7.1", "host {} said: 554-5.7.1 spam 554 5.7.1 really (in reply to end of DATA command)"),
        ),
        ({"GREETING": "554 5.7.1 no"}, ("deferred", "4.7.1", "host {} refused to talk to me: 554 5.7.1 no")),
        ({"GREETING": "450 later"}, ("deferred", "4.0.0", "host {} refused to talk to me: 450 later")),
        (
            {"EHLO": "550 no", "HELO": "550 5.7.1 no"},
            ("bounced", "5.7.1", "host {} refused to talk to me: 550 5.7.1 no"),
        ),
        ({"EHLO": "421 busy"}, ("deferred", "4.0.0", "host {} refused to talk to me: 421 busy")),
        (
            {"GREETING": "CLOSE"},
            ("deferred", "4.4.2", "lost connection with {} while receiving the initial server greeting"),
        ),
        ({"EHLO": "CLOSE"}, ("deferred", "4.4.2", "lost connection with {} while performing the EHLO handshake")),
        ({"MAIL": "CLOSE"}, ("deferred", "4.4.2", "lost connection with {} while sending MAIL FROM")),
        ({"RCPT": "CLOSE"}, ("deferred", "4.4.2", "lost connection with {} while sending RCPT TO")),
        ({"DATA": "CLOSE"}, ("deferred", "4.4.2", "lost connection with {} while sending DATA command")),
        (
            {"END": "CLOSE"},
            (
                "deferred",
                "4.4.2",
                "lost connection with {} while sending end of data -- message may be sent more than once",
            ),
        ),
        (
            {"RCPT": "421 4.3.2 closing"},
            ("deferred", "4.3.2", "host {} said: 421 4.3.2 closing (in reply to RCPT TO command)"),
        ),
    ],
)
def test_what_a_host_says_is_the_outcome(script, outcome):
    async def scenario():
        async with World() as world:
            await world.host(**script)
            delivered = await world.deliver()
            status, dsn, reason = outcome
            assert one(delivered) == (status, dsn, reason.format("127.0.0.1[127.0.0.1]"))
            assert delivered.outcomes[0].relay == f"127.0.0.1[127.0.0.1]:{world.port}"
            assert world.role.journal.lines[-1].endswith(f"status={status} ({one(delivered)[2]})")
            whole_host = status == "deferred" and not reason.startswith("host {} said")
            assert bool(delivered.unreachable) == whole_host

    run(scenario)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({"GREETING": "HANG"}, "receiving the initial server greeting"),
        ({"EHLO": "HANG"}, "performing the EHLO handshake"),
        ({"MAIL": "HANG"}, "sending MAIL FROM"),
        ({"DATA": "HANG"}, "sending DATA command"),
        ({"END": "HANG"}, "sending end of data -- message may be sent more than once"),
    ],
)
def test_a_host_that_takes_too_long(script, words):
    async def scenario():
        async with World() as world:
            world.limit(0.05)
            await world.host(**script)
            delivered = await world.deliver()
            reason = f"conversation with 127.0.0.1[127.0.0.1] timed out while {words}"
            assert one(delivered) == ("deferred", "4.4.2", reason)
            assert delivered.unreachable == reason

    run(scenario)


def test_garbage_is_skipped_with_a_warning():
    async def scenario():
        async with World() as world:
            await world.host(GREETING="hello\x1b there\r\n220 ok")
            assert one(await world.deliver())[0] == "sent"
            relay = f"127.0.0.1[127.0.0.1]:{world.port}"
            assert world.role.journal.lines[0] == f"warning: non-ESMTP response from {relay}: hello? there"

    run(scenario)


def test_a_host_that_talks_without_end():
    async def scenario():
        async with World() as world:
            await world.host(GREETING="220-x\r\n" * 10_000)
            status, dsn, reason = one(await world.deliver())
            assert (status, dsn) == ("deferred", "4.5.0")
            assert "too many lines" in reason

    run(scenario)


def test_after_a_refusal_the_connection_serves_the_next_message():
    async def scenario():
        async with World(smtp_connection_cache_on_demand="yes") as world:
            host = await world.host(RCPT=["250 ok", "550 no", "250 ok"], DATA=["354 go", "554 none", "354 go"])
            await world.deliver()
            assert one(await world.deliver())[0] == "bounced"
            assert one(await world.deliver())[0] == "sent"
            assert host.dialogue.count("RSET") == 1
            assert host.connections == 2

    run(scenario)


def test_recipients_have_fates_of_their_own():
    async def scenario():
        async with World() as world:
            host = await world.host(RCPT=["250 ok", "550 5.1.1 no", "450 4.2.0 later"])
            delivered = await world.deliver(recipients=("a@example", "b@example", "c@example"))
            assert sorted((o.offset, o.status, o.dsn) for o in delivered.outcomes) == [
                (0, "sent", "2.0.0"), (1, "bounced", "5.1.1"), (2, "deferred", "4.2.0"),
            ]  # fmt: skip
            assert len(host.messages) == 1
            assert len(world.role.journal.lines) == 3

    run(scenario)


def test_soft_bounce():
    async def scenario():
        async with World(soft_bounce="yes") as world:
            await world.host(RCPT="550 5.1.1 no")
            assert one(await world.deliver())[:2] == ("deferred", "4.1.1")
            assert "dsn=4.1.1, status=SOFTBOUNCE (host" in world.role.journal.lines[-1]

    run(scenario)


def test_a_message_too_big_for_the_host():
    async def scenario():
        async with World() as world:
            await world.host(EHLO="250-x\r\n250 SIZE 5")
            reason = "message size 9 exceeds size limit 5 of server 127.0.0.1[127.0.0.1]"
            assert one(await world.deliver()) == ("bounced", "5.3.4", reason)

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "lines", "status"),
    [
        ({"smtputf8": True}, [b"Subject: \xc3\xa4", b""], "bounced"),
        ({"smtputf8": True, "sender": "\u00e4@example"}, [b"Subject: x", b""], "bounced"),
        ({"smtputf8": True}, [b"Subject: x", b"", b"\xc3\xa4"], "sent"),
        ({}, [b"Subject: \xc3\xa4", b""], "sent"),
    ],
)
def test_a_message_that_needs_smtputf8(fields, lines, status):
    async def scenario():
        async with World() as world:
            await world.host()
            outcome = one(await world.deliver(lines=lines, **fields))
            assert outcome[0] == status
            if status == "bounced":
                reason = "SMTPUTF8 is required, but was not offered by host 127.0.0.1[127.0.0.1]"
                assert outcome == ("bounced", "5.6.7", reason)

    run(scenario)


def test_half_a_message_is_never_sent_as_a_whole_one():
    async def scenario():
        async with World() as world:
            host = await world.host()
            delivered = await world.deliver(lines=encode_lines([b"Subject: x", b"", b"first half"]))
            assert one(delivered) == ("deferred", "4.3.0", "local data error while talking to 127.0.0.1[127.0.0.1]")
            assert host.messages == []
            assert any(line.startswith("warning: Q1: ") for line in world.role.journal.lines)

    run(scenario)


def test_a_host_that_reads_slowly_gets_everything():
    async def scenario():
        async with World() as world:
            host = await world.host()
            lines = [b"x" * 70] * 100_000
            task = asyncio.create_task(world.deliver(lines=lines))
            await until(lambda: host.transports)
            host.transports[0].pause_reading()
            for _ in range(200):
                await asyncio.sleep(0)
            assert not task.done()
            host.transports[0].resume_reading()
            assert one(await task)[0] == "sent"
            assert len(host.messages[0]) == 72 * 100_000 + 3

    run(scenario)


def test_a_host_that_stops_reading():
    async def scenario():
        async with World() as world:
            host = await world.host()
            world.limit(0.2)
            task = asyncio.create_task(world.deliver(lines=[b"x" * 70] * 300_000))
            await until(lambda: "DATA" in host.dialogue)
            host.transports[0].pause_reading()
            assert one(await task) == (
                "deferred",
                "4.4.2",
                "conversation with 127.0.0.1[127.0.0.1] timed out while sending message body",
            )

    run(scenario)
