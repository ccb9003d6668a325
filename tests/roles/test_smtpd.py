"""The SMTP server with its services played by the test, over real TCP and Unix sockets."""

import asyncio
import contextlib
import os
import socket

import pytest
from roles.serving import run

from pyfix.roles.smtpd import Connection, Smtpd
from pyfix.service import anvil, cleanup, resolver, rewrite
from pyfix.service.calling import Unavailable
from pyfix.service.interface import Nothing
from pyfix.system.pipe import PipeReader

MAIL = b"MAIL FROM:<sender@client.example>\r\n"
RCPT = b"RCPT TO:<user@mx.example.org>\r\n"
EHLO = b"EHLO client.example\r\n"


class Cleanup:
    """Stores messages in memory. ``refuse_open`` and ``refuse_commit`` are (code, status, text)."""

    def __init__(self, refuse_open=None, refuse_commit=None, slow=None):
        self.refuse_open, self.refuse_commit = refuse_open, refuse_commit
        self.slow = slow
        self.opened: list[cleanup.Open] = []
        self.messages: dict[str, bytes] = {}
        self.aborted: list[str] = []
        self.aborting = asyncio.Event()

    def handlers(self):
        return {"Open": self.open, "Commit": self.commit, "Store": self.store}

    def open(self, call):
        if self.refuse_open:
            return Nothing()
        request = call.parameters
        self.opened.append(request)
        content, whole = bytearray(), asyncio.get_running_loop().create_future()

        def end(_error):
            if not whole.done():
                whole.set_result(None)

        fd = call.take_fd(request.content)
        if self.slow:
            asyncio.get_running_loop().create_task(self._read_late(fd, content, end))
        else:
            PipeReader(asyncio.get_running_loop(), fd, content.extend, end).start()
        connection = call.connection
        connection.state = [request.queue_id, content, whole]
        connection.on_close[:] = [lambda: self._closed(connection)]
        return Nothing()

    async def store(self, call):
        self.open(call)
        return await self.commit(call)

    async def _read_late(self, fd, content, end):
        await self.slow.wait()
        PipeReader(asyncio.get_running_loop(), fd, content.extend, end).start()

    async def commit(self, call):
        if self.refuse_open:
            raise cleanup.Refused(cleanup.RefusedParameters(*self.refuse_open))
        if call.connection.state is None:
            raise cleanup.Refused(cleanup.RefusedParameters(451, "4.3.0", "Error: no transaction is open"))
        queue_id, content, whole = call.connection.state
        await whole
        call.connection.state = None
        if self.refuse_commit:
            raise cleanup.Refused(cleanup.RefusedParameters(*self.refuse_commit))
        self.messages[queue_id] = bytes(content)
        return cleanup.Committed(queue_id)

    def _closed(self, connection):
        if connection.state:
            self.aborted.append(connection.state[0])
            self.aborting.set()


def resolve(call):
    """user@mx.example.org exists; others there do not; other domains are elsewhere."""
    answers = []
    for recipient in call.parameters.recipients:
        local, _, domain = recipient.partition("@")
        if domain == "mx.example.org":
            listed = "yes" if local == "user" else "no"
            answers.append(rewrite.Resolved(recipient, "local", domain, "local", listed, "local recipient table"))
        else:
            answers.append(rewrite.Resolved(recipient, "smtp", domain, "default"))
    return rewrite.ResolveReply(tuple(answers))


class Peer:
    """An SMTP client in the test's hands."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        lines = []
        while True:
            line = (await self.reader.readline()).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def say(self, data: bytes) -> str:
        self.writer.write(data)
        return await self.reply()

    async def close(self):
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class World:
    """smtpd and its services."""

    def __init__(self, role, **options):
        self.role = role
        self.cleanup = Cleanup(**options)
        self.counted: list[tuple[str, str]] = []
        self.peers: list[Peer] = []
        role.implement(cleanup.INTERFACE, self.cleanup.handlers())
        role.implement(rewrite.INTERFACE, {"Rewrite": None, "Resolve": resolve})
        role.implement(resolver.INTERFACE, {"Lookup": None, "NameClient": self.name})
        role.implement(
            anvil.INTERFACE, {"Connect": self.count, "Disconnect": self.uncount, "Count": None, "Look": None}
        )
        self.smtpd = Smtpd(role)

    def name(self, call):
        return resolver.ClientName("peer.example", "peer.example", "ok")

    def count(self, call):
        self.counted.append(("+", call.parameters.address))
        return anvil.Counts(1, 1)

    def uncount(self, call):
        self.counted.append(("-", call.parameters.address))
        return Nothing()

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self.smtpd), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for peer in self.peers:
            await peer.close()
        await self.role.idle()
        self.smtpd.attendance.close()

    async def connect(self) -> Peer:
        peer = Peer(*await asyncio.open_connection(*self.server.sockets[0].getsockname()))
        self.peers.append(peer)
        return peer

    async def greeted(self) -> Peer:
        peer = await self.connect()
        assert (await peer.reply()).startswith("220 mx.example.org ESMTP")
        assert (await peer.say(EHLO)).startswith("250-mx.example.org")
        return peer

    async def broken_off(self, content) -> Peer:
        """A client that has sent the beginning of a message."""
        peer = await self.greeted()
        for command in (MAIL, RCPT, b"DATA\r\n"):
            await peer.say(command)
        peer.writer.write(content)
        return peer

    async def sent(self, peer, content=b"Subject: x\r\n\r\nbody\r\n.\r\n") -> str:
        assert await peer.say(MAIL) == "250 2.1.0 Ok"
        assert await peer.say(RCPT) == "250 2.1.5 Ok"
        assert (await peer.say(b"DATA\r\n")).startswith("354 ")
        return await peer.say(content)


async def until(condition):
    while not condition():  # noqa: ASYNC110 -- what is waited for happens at the other end of a socket
        await asyncio.sleep(0)


def play(tmp_path, scenario, parameters=None, **options):
    async def main(role):
        async with World(role, **options) as world:
            await scenario(world)

    defaults = {"mynetworks": "127.0.0.0/8", "smtpd_error_sleep_time": "0"}
    return run(tmp_path, main, **(defaults | (parameters or {})))


def test_a_message_is_handed_over_and_logged(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        reply = await world.sent(peer)
        [opened] = world.cleanup.opened
        assert reply == f"250 2.0.0 Ok: queued as {opened.queue_id}"
        assert world.cleanup.messages == {opened.queue_id: b"Subject: x\n\nbody\n"}
        assert opened.sender == "sender@client.example"
        assert [r.address for r in opened.recipients] == ["user@mx.example.org"]
        lines = opened.trace.split("\n\t")
        assert lines[0] == "Received: from client.example (localhost [127.0.0.1])"
        assert lines[1] == f"by mx.example.org (pyfix) with ESMTP id {opened.queue_id}"
        assert lines[2].startswith("for <user@mx.example.org>; ")
        assert opened.attributes["log_helo_name"] == "client.example"
        assert opened.attributes["rewrite_context"] == "local"
        assert await peer.say(b"QUIT\r\n") == "221 2.0.0 Bye"
        assert await peer.reader.read() == b""
        world.queue_id = opened.queue_id
        scenario.queue_id = opened.queue_id

    log = play(tmp_path, scenario).journal.lines
    assert log == [
        "connect from localhost[127.0.0.1]",
        f"{scenario.queue_id}: client=localhost[127.0.0.1]",
        "disconnect from localhost[127.0.0.1] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5",
    ]


def test_pipelined_transactions_each_get_their_reply(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        for _ in range(3):
            assert await peer.say(MAIL + RCPT + b"DATA\r\n") == "250 2.1.0 Ok"
            assert await peer.reply() == "250 2.1.5 Ok"
            assert (await peer.reply()).startswith("354 ")
            assert (await peer.say(b"x\r\n.\r\n")).startswith("250 2.0.0 Ok: queued as ")
        assert sorted(world.cleanup.messages.values()) == [b"x\n"] * 3

    play(tmp_path, scenario)


def test_strangers_may_not_relay(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        await peer.say(MAIL)
        reply = await peer.say(b"RCPT TO:<x@elsewhere.example>\r\n")
        assert reply == "454 4.7.1 <x@elsewhere.example>: Relay access denied"
        reply = await peer.say(b"RCPT TO:<nobody@mx.example.org>\r\n")
        assert reply == (
            "550 5.1.1 <nobody@mx.example.org>: Recipient address rejected: User unknown in local recipient table"
        )
        assert await peer.say(b"DATA\r\n") == "554 5.5.1 Error: no valid recipients"

    log = play(tmp_path, scenario, {"mynetworks": "192.0.2.1"}).journal.lines
    assert (
        "NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 454 4.7.1 <x@elsewhere.example>: Relay access denied; "
        "from=<sender@client.example> to=<x@elsewhere.example> proto=ESMTP helo=<client.example>"
    ) in log


def test_with_soft_bounce_clients_and_the_log_are_told_of_temporary_refusals(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        await peer.say(MAIL)
        reply = await peer.say(b"RCPT TO:<nobody@mx.example.org>\r\n")
        assert reply.startswith("450 4.1.1 <nobody@mx.example.org>: Recipient address rejected")

    log = play(tmp_path, scenario, {"soft_bounce": "yes"}).journal.lines
    assert any("reject: RCPT from localhost[127.0.0.1]: 450 4.1.1 <nobody" in line for line in log)


@pytest.mark.parametrize("when", ["refuse_open", "refuse_commit"])
def test_a_refusal_of_cleanup_is_the_reply(tmp_path, when):
    async def scenario(world):
        peer = await world.greeted()
        assert await world.sent(peer) == "452 4.3.1 Insufficient system storage"
        assert world.cleanup.messages == {}
        assert await peer.say(MAIL) == "250 2.1.0 Ok"

    play(tmp_path, scenario, **{when: (452, "4.3.1", "Insufficient system storage")})


def test_a_refused_message_of_any_size_is_read_to_its_end(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        content = b"x" * 998 + b"\r\n"
        assert await world.sent(peer, content * 3000 + b".\r\n") == "452 4.3.1 Insufficient system storage"
        assert await peer.say(b"NOOP\r\n") == "250 2.0.0 Ok"

    play(tmp_path, scenario, refuse_open=(452, "4.3.1", "Insufficient system storage"))


def test_without_cleanup_the_client_is_asked_to_come_again(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        os.unlink(world.role.path(cleanup.INTERFACE))
        world.smtpd._cleanup.connect = _nobody
        assert await world.sent(peer) == "451 4.3.0 Error: queue file write error"

    log = play(tmp_path, scenario).journal.lines
    assert any(line.startswith("warning: ") and "cleanup: nobody there" in line for line in log)


async def _nobody():
    raise Unavailable("nobody there")


def test_content_waits_for_cleanup(tmp_path):
    async def scenario(world):
        slow = world.cleanup.slow
        peer = await world.greeted()
        await peer.say(MAIL)
        await peer.say(RCPT)
        await peer.say(b"DATA\r\n")
        content = (b"x" * 998 + b"\r\n") * 4000
        peer.writer.write(content + b".\r\n")
        [connection] = world.smtpd.audience._connections
        await until(lambda: not connection._reading)
        assert connection._session._storing.held <= 65536
        slow.set()
        assert (await peer.reply()).startswith("250 2.0.0 Ok: queued as ")
        assert list(world.cleanup.messages.values()) == [content.replace(b"\r\n", b"\n")]

    async def main(role):
        async with World(role, slow=asyncio.Event()) as world:
            await scenario(world)

    run(tmp_path, main, mynetworks="127.0.0.0/8")


def test_cleanup_hears_nothing_of_a_short_message_that_is_broken_off(tmp_path):
    async def scenario(world):
        peer = await world.broken_off(b"abc\r\n")
        await peer.close()
        await world.role.idle()
        assert world.cleanup.opened == []

    log = play(tmp_path, scenario).journal.lines
    assert log[-2].endswith(": lost connection after DATA (5 bytes) from localhost[127.0.0.1]")
    assert log[-1] == "disconnect from localhost[127.0.0.1] ehlo=1 mail=1 rcpt=1 data=0/1 commands=3/4"


def test_a_lost_connection_aborts_a_message_that_the_pipe_does_not_hold(tmp_path):
    async def scenario(world):
        peer = await world.broken_off((b"x" * 998 + b"\r\n") * 100)
        await until(lambda: world.cleanup.opened)
        await peer.close()
        await world.cleanup.aborting.wait()
        assert world.cleanup.messages == {}
        await world.role.idle()

    log = play(tmp_path, scenario).journal.lines
    assert ": lost connection after DATA (" in log[-2]


def test_a_message_over_the_limit_is_refused_and_dropped(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        content = b"x" * 998 + b"\r\n"
        assert await world.sent(peer, content * 300 + b".\r\n") == "552 5.3.4 Error: message file too big"
        assert world.cleanup.messages == {}
        refusal = await peer.say(b"MAIL FROM:<a@b.example> SIZE=100001\r\n")
        assert refusal == "552 5.3.4 Message size exceeds fixed limit"

    log = play(tmp_path, scenario, {"message_size_limit": "100000"}).journal.lines
    assert any(line.endswith(": queue file size limit exceeded") for line in log)


def test_the_client_that_speaks_first_is_sent_away(tmp_path):
    async def scenario(world):
        with socket.create_connection(world.server.sockets[0].getsockname()) as sock:
            sock.sendall(EHLO)
            reader, writer = await asyncio.open_connection(sock=sock)
            peer = Peer(reader, writer)
            world.peers.append(peer)
            assert await peer.reply() == "554 5.5.0 Error: SMTP protocol synchronization"
            assert await reader.read() == b""
            await peer.close()

    log = play(tmp_path, scenario).journal.lines
    assert "improper command pipelining after CONNECT from localhost[127.0.0.1]: EHLO client.example\\r\\n" in log


def test_a_silent_client_is_timed_out(tmp_path):
    async def scenario(world):
        world.smtpd.audience.timeout = 0.05
        peer = await world.greeted()
        assert await peer.reply() == "421 4.4.2 mx.example.org Error: timeout exceeded"
        assert await peer.reader.read() == b""

    log = play(tmp_path, scenario).journal.lines
    assert "NOQUEUE: timeout after EHLO from localhost[127.0.0.1]" in log


def test_a_client_that_is_silent_within_content_is_timed_out(tmp_path):
    async def scenario(world):
        world.smtpd.audience.timeout = 0.2
        peer = await world.greeted()
        await peer.say(MAIL)
        await peer.say(RCPT)
        await peer.say(b"DATA\r\n")
        assert await peer.say(b"abc\r\n") == "421 4.4.2 mx.example.org Error: timeout exceeded"
        assert world.cleanup.messages == {}

    log = play(tmp_path, scenario).journal.lines
    assert any(line.endswith(": timeout after DATA (5 bytes) from localhost[127.0.0.1]") for line in log)


def test_errors_slow_replies_down(tmp_path):
    async def scenario(world):
        waits = []
        world.smtpd.later = lambda seconds, then: (waits.append(seconds), asyncio.get_running_loop().call_soon(then))
        peer = await world.greeted()
        for _ in range(5):
            assert await peer.say(b"FOO\r\n") == "500 5.5.2 Error: command not recognized"
        assert waits == [1, 1]

    play(tmp_path, scenario, {"smtpd_soft_error_limit": "3", "smtpd_error_sleep_time": "1s"})


def test_draining_finishes_the_message_and_ends_the_rest(tmp_path):
    async def scenario(world):
        idle, sending = await world.greeted(), await world.greeted()
        await sending.say(MAIL)
        await sending.say(RCPT)
        await sending.say(b"DATA\r\n")
        drained = asyncio.get_running_loop().create_task(world.smtpd.drain())
        assert await idle.reply() == "421 4.3.2 mx.example.org Service shutting down"
        assert not drained.done()
        assert (await sending.say(b"x\r\n.\r\n")).startswith("250 2.0.0 Ok: queued as ")
        assert await sending.reply() == "421 4.3.2 mx.example.org Service shutting down"
        await drained

    play(tmp_path, scenario)


def test_clients_are_counted_but_for_the_exceptions(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        await peer.say(b"QUIT\r\n")
        await peer.close()
        await world.role.idle()
        await until(lambda: len(world.counted) == 2)
        assert world.counted == [("+", "127.0.0.1"), ("-", "127.0.0.1")]

    async def uncounted(world):
        peer = await world.greeted()
        await world.sent(peer)
        await peer.close()
        assert world.counted == []

    play(tmp_path, scenario, {"smtpd_client_event_limit_exceptions": ""})
    other = tmp_path / "other"
    other.mkdir()
    play(other, uncounted)


def test_a_client_that_reads_nothing_is_not_read_from(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        peer.writer.transport.pause_reading()
        [connection] = world.smtpd.audience._connections
        peer.writer.write(b"RSET\r\n" * 3_000_000)
        await until(lambda: not connection._reading)
        assert connection._transport.get_write_buffer_size() < 300_000
        peer.writer.transport.abort()

    play(tmp_path, scenario, {"smtpd_junk_command_limit": "100000000"})


def told_postmaster(world):
    """What is in the queue, by recipient."""
    names = {opened.queue_id: opened.recipients[0].address for opened in world.cleanup.opened}
    return {names[queue_id]: content for queue_id, content in world.cleanup.messages.items()}


@pytest.mark.parametrize(
    ("classes", "told"),
    [("policy", ["boss"]), ("protocol, delay", ["boss"]), ("resource, software", []), ("2bounce, bounce, data", [])],
)
def test_postmaster_is_told_of_a_session_as_notify_classes_says(tmp_path, classes, told):
    async def scenario(world):
        peer = await world.greeted()
        await peer.say(b"FOO bar\x07\r\n")
        await peer.say(MAIL)
        await peer.say(b"RCPT TO:<nobody@mx.example.org>\r\n")
        await peer.close()
        await world.role.idle()
        await until(lambda: len(told_postmaster(world)) == len(told))
        assert list(told_postmaster(world)) == told
        for opened in world.cleanup.opened:
            assert opened.sender == "double-bounce@mx.example.org"
            content = world.cleanup.messages[opened.queue_id].decode()
            head, _, body = content.partition("\n\n")
            assert head.split("\n")[1:] == [
                "From: Mail Delivery System <MAILER-DAEMON>",
                "To: Postmaster <boss>",
                "Subject: pyfix SMTP server: errors from unknown[127.0.0.1]",
            ]
            assert "\n In:  FOO bar?\n Out: 500 5.5.2 Error: command not recognized\n" in body
            assert " Out: 550 5.1.1 <nobody@mx.example.org>: Recipient address rejected:" in body
            assert "\n\nSession aborted, reason: lost connection\n\n" in body
            quoted = body.split("follows.\n\n")[1].split("\n\n")[0]
            assert all(line.startswith(" ") for line in quoted.split("\n"))

    play(
        tmp_path, scenario, {"notify_classes": classes, "error_notice_recipient": "boss", "smtpd_peername_lookup": "no"}
    )


def test_a_long_session_is_told_of_in_parts(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        for _ in range(8):
            await peer.say(b"NOOP\r\n")
        await peer.say(b"FOO\r\n")
        await peer.say(EHLO)
        await until(lambda: told_postmaster(world))
        [first] = told_postmaster(world).values()
        assert first.count(b"In:  NOOP") == 8
        assert b"aborted" not in first
        await peer.say(b"QUIT\r\n")
        await world.role.idle()
        assert len(world.cleanup.opened) == 1

    play(tmp_path, scenario, {"notify_classes": "protocol", "smtpd_history_flush_threshold": "10"})


def test_a_postmaster_who_cannot_be_told_costs_nothing(tmp_path):
    async def scenario(world):
        peer = await world.greeted()
        await peer.say(b"FOO\r\n")
        assert await peer.say(b"QUIT\r\n") == "221 2.0.0 Bye"
        await until(lambda: any("postmaster notify: " in line for line in world.role.journal.lines))

    play(tmp_path, scenario, {"notify_classes": "protocol"}, refuse_open=(452, "4.3.1", "Insufficient system storage"))
