"""The SMTP client and the hosts it tries: exchangers in turn, next hops in turn, and none at all."""

import os

import pytest
from roles.smtp_world import World, one, run

NOT_FOUND = "Host or domain name not found. Name service error"


def test_the_next_host_is_tried_where_one_does_not_take_it():
    zone = {
        ("d.example", "MX"): [(10, "a.example"), (20, "b.example"), (30, "c.example")],
        ("a.example", "A"): ["127.0.0.9"],
        ("b.example", "A"): ["127.0.0.2"],
        ("c.example", "A"): ["127.0.0.3"],
    }

    async def scenario():
        async with World(zone) as world:
            b = await world.host("127.0.0.2", RCPT=["250 ok", "450 later", "550 5.1.1 no"])
            c = await world.host("127.0.0.3")
            delivered = await world.deliver(f"d.example:{world.port}", recipients=("x@d", "y@d", "z@d"))
            relays = {o.offset: (o.status, o.relay) for o in delivered.outcomes}
            assert relays == {
                0: ("sent", f"b.example[127.0.0.2]:{world.port}"),
                1: ("sent", f"c.example[127.0.0.3]:{world.port}"),
                2: ("bounced", f"b.example[127.0.0.2]:{world.port}"),
            }
            assert len(b.messages) == len(c.messages) == 1
            assert [line for line in c.dialogue if line.startswith("RCPT")] == ["RCPT TO:<y@d>"]
            assert world.role.journal.lines[0] == f"connect to a.example[127.0.0.9]:{world.port}: Connection refused"
            assert delivered.unreachable == ""

    run(scenario)


def test_greetings_of_5xx_and_4xx_lead_to_the_next_host():
    zone = {
        ("d.example", "MX"): [(10, "a.example"), (20, "b.example")],
        ("a.example", "A"): ["127.0.0.2"],
        ("b.example", "A"): ["127.0.0.3"],
    }

    async def scenario():
        async with World(zone) as world:
            await world.host("127.0.0.2", GREETING="554 no service")
            await world.host("127.0.0.3")
            assert one(await world.deliver(f"d.example:{world.port}"))[0] == "sent"
            assert world.role.journal.lines[0] == (
                "Q1: host a.example[127.0.0.2] refused to talk to me: 554 no service"
            )

    run(scenario)


def test_no_more_than_two_hosts_that_talk_are_tried():
    zone = {("d.example", "A"): ["127.0.0.2", "127.0.0.3", "127.0.0.4"]}

    async def scenario():
        async with World(zone) as world:
            hosts = [await world.host(f"127.0.0.{i}", RCPT="450 later") for i in (2, 3, 4)]
            assert one(await world.deliver(f"d.example:{world.port}"))[0] == "deferred"
            assert sum(host.connections for host in hosts) == 2

    run(scenario)


def test_a_kept_connection_is_found_by_its_address_and_the_rest_of_the_hosts_follow():
    zone = {("d.example", "MX"): [(1, "a.example"), (2, "b.example")], ("a.example", "A"): ["127.0.0.2"]}
    zone["b.example", "A"] = ["127.0.0.3"]

    async def scenario():
        async with World(zone) as world:
            a = await world.host("127.0.0.2", RCPT=["250 ok", "250 ok", "450 later"])
            b = await world.host("127.0.0.3")
            site = f"d.example:{world.port}"
            for _ in range(3):
                assert one(await world.deliver(site))[0] == "sent"
            assert (a.connections, b.connections) == (2, 1)
            assert len(b.messages) == 1

    run(scenario)


@pytest.mark.parametrize(
    ("zone", "outcome"),
    [
        (
            {},
            (
                "bounced",
                "5.4.4",
                f"{NOT_FOUND} for name=d.example type=AAAA: Host not found",
            ),
        ),
        ({("d.example", "MX"): [(0, "")]}, ("bounced", "5.1.0", "Domain d.example does not accept mail (nullMX)")),
        (
            None,
            (
                "deferred",
                "4.4.3",
                f"{NOT_FOUND} for name=d.example type=MX: Host not found, try again",
            ),
        ),
        ({("d.example", "A"): ["127.0.0.1"]}, ("bounced", "5.4.6", "mail for d.example loops back to myself")),
    ],
)
def test_a_destination_without_a_host(zone, outcome):
    async def scenario():
        async with World(zone) as world:
            delivered = await world.deliver("d.example")
            assert one(delivered) == outcome
            assert delivered.outcomes[0].relay == "none"

    run(scenario)


def test_a_host_that_cannot_be_connected_to():
    async def scenario():
        async with World() as world:
            host = await world.host()
            host.server.close()
            delivered = await world.deliver()
            reason = f"connect to 127.0.0.1[127.0.0.1]:{world.port}: Connection refused"
            assert one(delivered) == ("deferred", "4.4.1", reason)
            assert (delivered.unreachable_dsn, delivered.unreachable) == ("4.4.1", reason)
            assert world.role.journal.lines[0] == reason
            assert "relay=none, delay=" in world.role.journal.lines[1]

    run(scenario)


def test_a_mistake_in_relayhost_returns_no_mail():
    async def scenario():
        async with World({}, relayhost="relay.example") as world:
            assert one(await world.deliver("relay.example"))[:2] == ("deferred", "4.3.5")
            assert "warning: relayhost configuration problem" in world.role.journal.lines

    run(scenario)


@pytest.mark.parametrize("nexthop", ["a:b:c", "[x]:nosuch"])
def test_a_next_hop_that_is_none(nexthop):
    async def scenario():
        async with World({}) as world:
            assert one(await world.deliver(nexthop)) == ("deferred", "4.3.5", "server configuration error")

    run(scenario)


def test_next_hops_in_a_list_and_fallback_relays():
    zone = {("gone.example", "MX"): [(0, "")], ("b.example", "A"): ["127.0.0.3"]}

    async def scenario():
        async with World(zone) as first:
            await first.host("127.0.0.3")
        async with World(zone, smtp_fallback_relay=f"[b.example]:{first.port}") as world:
            world.port = first.port
            fallback = await world.host("127.0.0.3")
            delivered = await world.deliver("gone.example, [127.0.0.9]:9")
            assert delivered.outcomes[0].relay == f"b.example[127.0.0.3]:{world.port}"
            assert len(fallback.messages) == 1
        async with World(zone, smtp_fallback_relay="nowhere.example") as world:
            assert one(await world.deliver("gone.example"))[:2] == ("deferred", "4.3.5")
            assert "warning: smtp_fallback_relay configuration problem" in world.role.journal.lines

    run(scenario)


def test_the_bind_address_is_ours():
    async def scenario():
        async with World(smtp_bind_address="127.0.0.7") as world:
            host = await world.host()
            assert one(await world.deliver())[0] == "sent"
            assert host.transports[0].get_extra_info("peername")[0] == "127.0.0.7"

    run(scenario)


def test_descriptors_are_closed():
    async def scenario():
        async with World() as world:
            await world.host(RCPT="550 no")
            call = world.request()
            (descriptor,) = call.fds
            await world.agent.deliver(call, call.parameters)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)

    run(scenario)
