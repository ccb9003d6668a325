"""An SMTP client's surroundings: hosts that do what they like, a resolver, a journal, messages."""

import asyncio
import contextlib
import os
import tempfile
from typing import ClassVar

from roles.serving import Log

from pyfix.conf.config import Config
from pyfix.conf.main_cf import Assignment
from pyfix.net.dns import REASONS
from pyfix.outbound.trouble import While
from pyfix.roles.smtp import Agent
from pyfix.service.calling import Unavailable
from pyfix.service.delivery import Deliver, Recipient
from pyfix.service.dispatch import Call
from pyfix.service.resolver import Answer, Record
from pyfix.spool.record import EXTRACTED, encode, encode_lines
from pyfix.wire.smtp_client import Stage

CONTENT = [b"Subject: x", b"", b"a line", b".", b"..dots", b"x" * 3000, b"\xe4 8-bit", b""]
LONG = b"x" * 998 + b"\r\n " + b"x" * 997 + b"\r\n " + b"x" * 997 + b"\r\n " + b"x" * 8
WIRE = b"\r\n".join([b"Subject: x", b"", b"a line", b"..", b"...dots", LONG, b"\xe4 8-bit", b"", b"."]) + b"\r\n"


class Resolver:
    """Answers from a zone: {("d.example", "MX"): [(10, "a.example")]}; without one it is not there."""

    def __init__(self, zone):
        self.zone = zone

    async def call(self, _method, question):
        if self.zone is None:
            raise Unavailable("nobody there")
        found = self.zone.get((question.name, question.type))
        if found is None:
            status = "no_data" if any(name == question.name for name, _ in self.zone) else "not_found"
            return Answer(status, (), False, REASONS[status])
        return Answer("ok", tuple(Record(r) if isinstance(r, str) else Record(r[1], r[0]) for r in found))


class Role:
    def __init__(self, zone, parameters):
        parameters = {"myhostname": "client.example", "inet_interfaces": "127.0.0.1"} | parameters
        self.conf = Config("/etc/pyfix", [Assignment(n, v, "main.cf", 1) for n, v in parameters.items()])
        self.journal = Log()
        self.zone = zone

    def client(self, _interface, _role):
        return Resolver(self.zone)


class Host(asyncio.Protocol):
    """A host that answers verbs from a script; a list gives the answers one after the other, the last for ever.

    CLOSE ends the connection in place of an answer, HANG says nothing, for ever.
    """

    SCRIPT: ClassVar = {
        "GREETING": "220 host.example ESMTP",
        "EHLO": "250-host.example\r\n250-PIPELINING\r\n250-SIZE 100000000\r\n250 8BITMIME",
        "HELO": "250 host.example",
        "MAIL": "250 2.1.0 Ok",
        "RCPT": "250 2.1.5 Ok",
        "DATA": "354 go",
        ".": "250 2.0.0 Ok: queued as X1",
        "RSET": "250 Ok",
        "QUIT": "221 bye",
    }

    def __init__(self, record, script):
        self.record = record
        self.script = script
        self.buffer = bytearray()
        self.in_data = False
        self.hung = False

    def connection_made(self, transport):
        self.transport = transport
        self.record.transports.append(transport)
        self.record.dialogue.append("CONNECT")
        self.answer("GREETING")

    def answer(self, verb):
        reply = self.script.get(verb, self.SCRIPT.get(verb, "500 what?"))
        if isinstance(reply, list):
            reply = reply.pop(0) if len(reply) > 1 else reply[0]
        if reply == "HANG":
            self.hung = True
        if self.hung:
            return
        if reply == "CLOSE":
            self.transport.close()
        else:
            self.transport.write(reply.encode() + b"\r\n")
            self.in_data = verb == "DATA" and reply.startswith("354")

    def data_received(self, data):
        searched = max(len(self.buffer) - 5, 0)
        self.buffer += data
        while not self.transport.is_closing():
            if self.in_data:
                end = 3 if self.buffer.startswith(b".\r\n") else self.buffer.find(b"\r\n.\r\n", searched) + 5
                if end < 5 and end != 3:
                    return
                self.record.messages.append(bytes(self.buffer[:end]))
                self.buffer = self.buffer[end:]
                searched = 0
                self.in_data = False
                self.answer(".")
                continue
            line, end, rest = self.buffer.partition(b"\r\n")
            if not end:
                return
            self.buffer = rest
            searched = 0
            verb = line.decode().partition(" ")[0].upper()
            self.record.dialogue.append(line.decode())
            self.answer(verb)
            if verb == "QUIT" and not self.hung:
                self.transport.close()


class Seen:
    def __init__(self):
        self.dialogue = []
        self.messages = []
        self.transports = []
        self.server = None

    @property
    def connections(self):
        return self.dialogue.count("CONNECT")


class World:
    """Hosts, an agent, and messages for it, in one event loop."""

    def __init__(self, zone=None, **parameters):
        self.role = Role(zone, parameters)
        self.agent = Agent(self.role)
        self.stack = contextlib.AsyncExitStack()
        self.port = 0

    async def __aenter__(self):
        await self.stack.__aenter__()
        return self

    async def __aexit__(self, *error):
        await self.agent.close()
        await self.stack.__aexit__(*error)

    async def host(self, address="127.0.0.1", *, record=None, **script):
        """Starts a host; all of them have the same port."""
        record = record or Seen()
        script = {{"DOT": ".", "END": "."}.get(verb, verb): reply for verb, reply in script.items()}
        loop = asyncio.get_running_loop()
        record.server = await loop.create_server(lambda: Host(record, script), address, self.port)
        self.port = record.server.sockets[0].getsockname()[1]
        self.stack.push_async_callback(self.close, record)
        return record

    async def close(self, record):
        record.server.close()
        for transport in record.transports:
            transport.abort()
        await asyncio.sleep(0)  # lets the transports close their sockets

    def request(self, nexthop=None, *, recipients=("r@example.net",), lines=CONTENT, **fields):
        """A message; its descriptor is the request's, which the agent closes."""
        data = encode_lines(list(lines)) + encode(EXTRACTED, b"") if isinstance(lines, list) else lines
        fd, path = tempfile.mkstemp()
        os.write(fd, data)
        os.unlink(path)
        deliver = Deliver(
            "Q1", 0, 0, fields.pop("size", 9), "smtp", nexthop or f"[127.0.0.1]:{self.port}",
            fields.pop("sender", "s@example.com"),
            tuple(Recipient(number, address) for number, address in enumerate(recipients)), 0, 0, **fields,
        )  # fmt: skip
        return Call(deliver, [fd], None)

    async def deliver(self, *arguments, **fields):
        call = self.request(*arguments, **fields)
        return await self.agent.deliver(call, call.parameters)

    def limit(self, seconds):
        timeouts = dict.fromkeys((*Stage, While.MESSAGE_BODY), seconds)
        self.agent.settings = self.agent.settings._replace(timeouts=timeouts, connect_timeout=seconds)


def run(scenario, seconds=20):
    asyncio.run(asyncio.wait_for(scenario(), seconds))


async def until(condition):
    while not condition():  # noqa: ASYNC110 -- what is waited for happens at the other end of a socket
        await asyncio.sleep(0)


def one(delivered):
    (outcome,) = delivered.outcomes
    return outcome.status, outcome.dsn, outcome.reason
