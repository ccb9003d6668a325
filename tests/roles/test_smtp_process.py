"""The SMTP client and the resolver as processes: their sockets, their memory."""

import asyncio
import os

import psutil
import pytest
from dns_server import dns_server
from roles.agents import agent
from roles.smtp_world import World

from pyfix.service import delivery, resolver
from pyfix.service.blocking import BlockingClient
from pyfix.service.client import Client
from pyfix.spool.record import EXTRACTED, encode, encode_lines

pytestmark = pytest.mark.system

MEGABYTE = 1024 * 1024


def request(nexthop, size):
    recipients = (delivery.Recipient(1, "r@d.example"),)
    return delivery.Deliver("Q1", 0, 0, size, "smtp", nexthop, "s@example.com", recipients, 0, 0)


def test_a_message_of_50_megabytes_streams(tmp_path):
    (tmp_path / "main.cf").write_text("myhostname = client.example\n")
    piece = encode_lines([b"x" * 98] * 10_000)
    with open(tmp_path / "message", "wb") as file:
        file.writelines([piece] * 50)
        file.write(encode(EXTRACTED, b""))
    descriptor = os.open(tmp_path / "message", os.O_RDONLY)

    async def scenario(process):
        async with World() as world:
            seen = await world.host()
            client = Client(delivery.INTERFACE, str(tmp_path / "smtp" / "io.pyfix.Delivery"), None)
            small = await client.call("Deliver", request("[127.0.0.1]:1", 9), [descriptor])
            assert small.outcomes[0].status == "deferred"
            before = psutil.Process(process.pid).memory_info().rss
            delivered = await client.call("Deliver", request(f"[127.0.0.1]:{world.port}", 0), [descriptor])
            assert delivered.outcomes[0].status == "sent"
            assert len(seen.messages[0]) == 50 * 10_000 * 100 + 3
            client.close()
            return before

    try:
        with agent(tmp_path, "smtp", "io.pyfix.Delivery") as process:
            before = asyncio.run(scenario(process))
            with open(f"/proc/{process.pid}/status") as file:
                peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    finally:
        os.close(descriptor)
    assert peak - before < 8 * MEGABYTE


def test_hosts_are_found_through_the_resolver(tmp_path):
    (tmp_path / "main.cf").write_text("myhostname = client.example\n")
    (tmp_path / "message").write_bytes(encode_lines([b"Subject: x", b"", b"x"]) + encode(EXTRACTED, b""))
    descriptor = os.open(tmp_path / "message", os.O_RDONLY)

    async def scenario(server):
        async with World() as world:
            host = await world.host()
            server.zone |= {("d.example", "MX"): ["10 mx.d.example."], ("mx.d.example", "A"): ["127.0.0.1"]}
            client = Client(delivery.INTERFACE, str(tmp_path / "smtp" / "io.pyfix.Delivery"), None)
            delivered = await client.call("Deliver", request(f"d.example:{world.port}", 9), [descriptor])
            client.close()
            assert delivered.outcomes[0].relay == f"mx.d.example[127.0.0.1]:{world.port}"
            assert delivered.outcomes[0].status == "sent"
            assert len(host.messages) == 1

    try:
        with dns_server() as server:
            (tmp_path / "resolv.conf").write_text(f"nameserver 127.0.0.1:{server.port}\n")
            arguments = ("--resolv-conf", str(tmp_path / "resolv.conf"), "--hosts", "/dev/null")
            with (
                agent(tmp_path, "resolver", "io.pyfix.Resolver", *arguments),
                agent(tmp_path, "smtp", "io.pyfix.Delivery"),
            ):
                asyncio.run(scenario(server))
                client = BlockingClient(resolver.INTERFACE, str(tmp_path / "resolver" / "io.pyfix.Resolver"))
                assert client.call("Lookup", resolver.Lookup("no.example", "MX")).status == "not_found"
                assert client.call("NameClient", resolver.Client("192.0.2.1")).name == "unknown"
                client.close()
    finally:
        os.close(descriptor)
    assert "status=sent (250 2.0.0 Ok: queued as X1)" in (tmp_path / "log").read_text()
