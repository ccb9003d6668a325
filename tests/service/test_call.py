"""Server and client together, over real sockets."""

import asyncio
import gc
import os
import socket
import threading

import pytest
from msgspec import Struct

from pyfix.service.blocking import BlockingClient, serve_blocking
from pyfix.service.calling import Codec, Unavailable
from pyfix.service.client import Client
from pyfix.service.crowd import Crowd
from pyfix.service.dispatch import Implementation
from pyfix.service.interface import Fd, Interface, Method, Nothing, ServiceError
from pyfix.service.server import Server
from pyfix.service.varlink import ExpectedMore, InvalidParameter
from pyfix.system.unix import BlockingChannel, connect


class Text(Struct, frozen=True):
    """A text."""

    text: str = ""


class File(Struct, frozen=True):
    """A file."""

    file: Fd


class Odd(ServiceError):
    """An odd text."""

    name = "io.pyfix.Test.Odd"
    Parameters = Text


TEST = Interface(
    "io.pyfix.Test",
    "For tests",
    (
        Method("Echo", Text, Text, "Gives the text back"),
        Method("Later", Text, Text, "Gives the text back after a while"),
        Method("Read", File, Text, "Reads a file"),
        Method("Count", Nothing, Text, "Streams 1, 2, 3"),
        Method("Fail", Text, Nothing, "Fails"),
    ),
    (Odd,),
)


def echo(call):
    if call.parameters.text == "odd":
        raise Odd(Text("very"))
    return Text(call.parameters.text)


async def later(call):
    await asyncio.sleep(0)
    return Text(call.parameters.text)


def read(call):
    fd = call.take_fd(call.parameters.file)
    try:
        return Text(os.read(fd, 100).decode())
    finally:
        os.close(fd)


async def count(_call):
    for number in ("1", "2", "3"):
        yield Text(number)


def fail(_call):
    raise ZeroDivisionError


HANDLERS = {"Echo": echo, "Later": later, "Read": read, "Count": count, "Fail": fail}


class Service:
    """The test interface on a socket, in an event loop."""

    def __init__(self, path):
        self.path = str(path)
        self.bugs = []
        self.server = Server(Implementation(TEST, HANDLERS, "1"), self.bugs.append)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.listener.setblocking(False)

    async def __aenter__(self):
        loop = asyncio.get_running_loop()

        def accept():
            sock, _ = self.listener.accept()
            sock.setblocking(False)
            self.server.accept(loop, sock)

        loop.add_reader(self.listener.fileno(), accept)
        return self

    async def __aexit__(self, *_):
        asyncio.get_running_loop().remove_reader(self.listener.fileno())
        self.server.close()
        self.listener.close()


def with_service(tmp_path, test):
    async def main():
        async with Service(tmp_path / "io.pyfix.Test") as service:
            client = Client(TEST, service.path, timeout=5)
            try:
                return await test(service, client)
            finally:
                client.close()

    return asyncio.run(main())


def open_fds():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("method", ["Echo", "Later"], ids=["function", "coroutine"])
def test_a_call_is_answered(tmp_path, method):
    async def test(_service, client):
        return [(await client.call(method, Text(f"text {i}"))).text for i in range(3)]

    assert with_service(tmp_path, test) == ["text 0", "text 1", "text 2"]


def test_calls_sent_ahead_are_answered_in_order(tmp_path):
    async def test(_service, client):
        session = await client.session()
        futures = [session.send("Later" if i % 2 else "Echo", Text(str(i))) for i in range(40)]
        replies = [(await f).text for f in futures]
        session.release()
        return replies

    assert with_service(tmp_path, test) == [str(i) for i in range(40)]


def test_a_declared_error_is_raised_with_its_fields(tmp_path):
    async def test(_service, client):
        with pytest.raises(Odd) as caught:
            await client.call("Echo", Text("odd"))
        return caught.value.parameters.text

    assert with_service(tmp_path, test) == "very"


def test_a_descriptor_travels_and_none_is_left_open(tmp_path):
    async def test(service, client):
        await client.call("Echo", Text("warm"))
        before = open_fds()
        for _ in range(20):
            reader, writer = os.pipe()
            os.write(writer, b"content")
            os.close(writer)
            reply = await client.call("Read", File(0), [reader])
            os.close(reader)
            assert reply.text == "content"
            # not taken: closed by the server
            reader, writer = os.pipe()
            await client.call("Echo", Text("x"), [reader, writer])
            os.close(reader)
            os.close(writer)
        return open_fds() - before

    assert with_service(tmp_path, test) == 0


def test_a_missing_descriptor_is_an_invalid_parameter(tmp_path):
    async def test(_service, client):
        with pytest.raises(InvalidParameter):
            await client.call("Read", File(0))

    with_service(tmp_path, test)


def test_a_bug_reaches_the_owner_and_no_text_of_it_the_peer(tmp_path):
    async def test(service, client):
        with pytest.raises(Unavailable):
            await client.call("Fail", Text())
        return [type(b) for b in service.bugs]

    assert with_service(tmp_path, test) == [ZeroDivisionError]


def test_streams_need_more(tmp_path):
    async def test(_service, client):
        with pytest.raises(ExpectedMore):
            await client.call("Count", Nothing())

    with_service(tmp_path, test)


def test_nobody_there_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr("pyfix.service.client.CONNECT_PATIENCE", 0)

    async def main():
        with pytest.raises(Unavailable):
            await Client(TEST, str(tmp_path / "nobody")).call("Echo", Text())

    asyncio.run(main())


def test_a_call_on_a_lost_connection_that_nobody_waits_for_is_no_bug(tmp_path):
    async def test(_service, client):
        trouble = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: trouble.append(context))
        session = await client.session()
        session.close()
        session.send("Echo", Text("nobody waits"))
        gc.collect()
        return trouble

    assert with_service(tmp_path, test) == []


def test_a_service_that_closed_an_idle_connection_is_called_again(tmp_path):
    async def test(service, client):
        await client.call("Echo", Text("first"))
        service.server.close()
        return (await client.call("Echo", Text("second"))).text

    assert with_service(tmp_path, test) == "second"


def is_closed(sock):
    return sock.recv(1) == b""


def test_a_user_with_too_many_connections_gets_no_more_until_one_is_closed(tmp_path):
    async def test(service, client):
        service.server.crowd = Crowd(2)
        service.server.crowd._exempt = set()

        def come():
            sock = connect(service.path)
            sock.settimeout(5)
            return sock

        first, second, third = come(), come(), come()
        assert await asyncio.to_thread(is_closed, third)
        # The server ends it as it would for a broken frame; to wait for a plain end would be a race.
        first.sendall(b"\0")
        assert await asyncio.to_thread(is_closed, first)
        assert (await client.call("Echo", Text("x"))).text == "x"
        for sock in (first, second, third):
            sock.close()

    with_service(tmp_path, test)


def test_calls_that_wait_hoard_no_descriptors(tmp_path):
    async def test(service, _client):
        go_on = asyncio.Event()

        async def wait(_call):
            await go_on.wait()
            return Text()

        service.server.implementation = Implementation(TEST, HANDLERS | {"Later": wait}, "1")
        sock = connect(service.path)
        before = open_fds()
        reader, writer = os.pipe()
        for _ in range(20):
            socket.send_fds(sock, [b'{"method":"io.pyfix.Test.Later"}\0'], [reader] * 8)
        for _ in range(50):
            await asyncio.sleep(0)
        held = open_fds() - before
        go_on.set()
        sock.setblocking(False)
        answers = b""
        while answers.count(b"\0") < 20:
            answers += await asyncio.get_running_loop().sock_recv(sock, 65536)
        for fd in (reader, writer):
            os.close(fd)
        sock.close()
        return held

    # the connection, the pipe, and two calls
    assert with_service(tmp_path, test) == 1 + 2 + 2 * 8


RAW = [
    (b'{"method":"io.pyfix.Test.Nope"}', b"org.varlink.service.MethodNotFound"),
    (b'{"method":"io.pyfix.Other.Echo"}', b"org.varlink.service.InterfaceNotFound"),
    (b'{"method":"io.pyfix.Test.Echo","parameters":{"text":1}}', b"org.varlink.service.InvalidParameter"),
    (b'{"method":"org.varlink.service.GetInfo"}', b'"interfaces":["io.pyfix.Test","org.varlink.service"]'),
    (
        b'{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.pyfix.Test"}}',
        b"interface io.pyfix.Test",
    ),
]


@pytest.mark.parametrize(("request_", "expected"), RAW, ids=lambda v: v[-40:].decode())
def test_what_every_varlink_service_answers(tmp_path, request_, expected):
    async def test(service, _client):
        def ask():
            channel = BlockingChannel(connect(service.path), 5)
            channel.send(request_ + b"\0")
            frame = channel.receive()
            channel.close()
            return frame.data

        return await asyncio.to_thread(ask)

    assert expected in with_service(tmp_path, test)


@pytest.mark.parametrize("garbage", [b"\0", b"{\0", b"[]\0", b'{"method":1}\0', b"\xff\xfe\0"])
def test_garbage_ends_the_connection_and_nothing_else(tmp_path, garbage):
    async def test(service, client):
        def ask():
            channel = BlockingChannel(connect(service.path), 5)
            channel.send(garbage)
            frame = channel.receive()
            channel.close()
            return frame

        assert await asyncio.to_thread(ask) is None
        assert service.bugs == []
        return (await client.call("Echo", Text("still here"))).text

    assert with_service(tmp_path, test) == "still here"


def test_blocking_halves_speak_the_same_protocol(tmp_path):
    path = str(tmp_path / "io.pyfix.Test")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    handlers = {"Echo": echo, "Later": echo, "Read": read, "Count": echo, "Fail": fail}

    def serve():
        sock, _ = listener.accept()
        serve_blocking(Implementation(TEST, handlers), sock, 5)

    thread = threading.Thread(target=serve)
    thread.start()
    client = BlockingClient(TEST, path)
    assert client.call("Echo", Text("a")).text == "a"
    with pytest.raises(Odd):
        client.call("Echo", Text("odd"))
    reader, writer = os.pipe()
    os.write(writer, b"piped")
    os.close(writer)
    assert client.call("Read", File(0), [reader]).text == "piped"
    os.close(reader)
    client.close()
    thread.join(5)
    assert not thread.is_alive()
    listener.close()


def test_the_last_call_of_a_peer_that_has_gone_is_not_carried_out():
    carried_out = []

    def handle(call):
        carried_out.append(call.parameters.text)
        return call.parameters

    handlers = {"Echo": handle, "Later": handle, "Read": handle, "Count": handle, "Fail": handle}
    ours, theirs = socket.socketpair()
    codec = Codec(TEST)
    theirs.sendall(codec.encode("Echo", Text("first")) + codec.encode("Echo", Text("last")))
    theirs.close()
    serve_blocking(Implementation(TEST, handlers), ours, 5)
    assert carried_out == ["first"]


def test_a_stream_waits_for_its_reader(tmp_path):
    """What a slow reader has not taken is not made: memory is bounded by the socket's buffer."""
    made = []

    async def endless(_call):
        while len(made) < 10_000:
            made.append(1)
            yield Text("x" * 10_000)

    async def test(service, _client):
        service.server.implementation = Implementation(TEST, {**HANDLERS, "Count": endless}, "1")
        sock = connect(service.path)
        sock.send(b'{"method":"io.pyfix.Test.Count","more":true}\0')
        before = -1
        while len(made) != before:
            before = len(made)
            await asyncio.sleep(0.05)
        stalled_at = len(made)
        sock.close()
        await service.server.drain()
        return stalled_at

    assert 0 < with_service(tmp_path, test) < 200
    assert len(made) < 200


def test_what_was_asked_before_a_service_ends_is_answered(tmp_path):
    """Also what it has not read yet, and what waits behind a call at work; then connections end."""

    begun = asyncio.Event()

    async def work(call):
        begun.set()
        return await later(call)

    async def test(service, client):
        service.server.implementation = Implementation(TEST, {**HANDLERS, "Later": work}, "1")
        sessions = [await client.connect() for _ in range(3)]
        for session in sessions:
            await session.call("Echo", Text("here"))
        asked = [sessions[0].send("Later", Text("at work"))]
        await begun.wait()
        asked += [sessions[0].send("Echo", Text("behind it")), sessions[1].send("Later", Text("not read yet"))]
        await service.server.drain()
        with pytest.raises(Unavailable):
            await sessions[2].call("Echo", Text("too late"))
        return [(await reply).text for reply in asked]

    assert with_service(tmp_path, test) == ["at work", "behind it", "not read yet"]


def test_a_stream_is_read_to_its_end(tmp_path):
    async def test(service, _client):
        def ask():
            client = BlockingClient(TEST, service.path)
            try:
                return [reply.text for reply in client.stream("Count", Nothing())]
            finally:
                client.close()

        return await asyncio.to_thread(ask)

    assert with_service(tmp_path, test) == ["1", "2", "3", ""]
