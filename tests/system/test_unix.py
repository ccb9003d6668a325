"""Channels: long paths, back-pressure, descriptors in queues, broken peers."""

import asyncio
import os
import socket

import pytest

from pyfix.system.channel import Channel
from pyfix.system.unix import BlockingChannel, connect, peer_of, short_path


def listen(path):
    listener = socket.socket(socket.AF_UNIX)
    with short_path(str(path)) as name:
        listener.bind(name)
    listener.listen()
    return listener


@pytest.mark.parametrize("length", [10, 200], ids=["short", "longer than a socket address"])
def test_a_path_of_any_length_can_be_connected_to(tmp_path, length):
    directory = tmp_path / ("d" * length)
    directory.mkdir()
    listener = listen(directory / "socket")
    sock = connect(str(directory / "socket"))
    accepted, _ = listener.accept()
    assert peer_of(accepted) == (os.getpid(), os.getuid(), os.getgid())
    for s in (sock, accepted, listener):
        s.close()


def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    ours.setblocking(False)
    return ours, theirs


def test_what_the_peer_does_not_read_waits_with_its_descriptors():
    """Far more than a socket buffer holds is queued; the descriptor arrives with its own message."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        channel = Channel(loop, ours)
        reader, writer = os.pipe()
        for i in range(50):
            channel.send(b"x" * 20000 + b"\0", [reader] if i == 49 else ())
        os.close(reader)  # the channel has its own

        def read_all():
            peer = BlockingChannel(theirs, 5)
            frames = [peer.receive() for _ in range(50)]
            peer.close()
            return frames

        frames = await loop.run_in_executor(None, read_all)
        channel.close()
        assert [len(f.data) for f in frames] == [20000] * 50
        assert [len(f.fds) for f in frames] == [0] * 49 + [1]
        os.write(writer, b"through")
        os.close(writer)
        assert os.read(frames[-1].fds[0], 100) == b"through"
        os.close(frames[-1].fds[0])

    asyncio.run(main())


def test_a_peer_that_answers_and_goes_at_once_is_heard():
    """Nothing is sent after the message, not even nothing: that would fail, and hide the answer."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.sendall(b"answer\0")
    reader, writer = os.pipe()
    send_fds = socket.send_fds

    def send_and_lose_the_peer(*arguments):
        sent = send_fds(*arguments)
        theirs.recv(100)
        theirs.close()
        return sent

    channel = BlockingChannel(ours, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "send_fds", send_and_lose_the_peer)
        channel.send(b"call\0", [reader])
    assert channel.receive().data == b"answer"
    channel.close()
    os.close(reader)
    os.close(writer)


def test_a_blocking_channel_waits_for_its_peer_so_long_and_no_longer():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    ours.setblocking(False)
    channel = BlockingChannel(ours, 0.05)
    theirs.sendall(b"half a message")
    with pytest.raises(TimeoutError, match="timed out"):
        channel.receive()
    theirs.sendall(b", and the other\0")
    assert channel.receive().data == b"half a message, and the other"
    with pytest.raises(TimeoutError, match="timed out"):
        channel.send(b"x" * 10_000_000)
    with pytest.raises(TimeoutError, match="timed out"), open(os.devnull, "rb") as file:
        channel.send(b"x", [file.fileno()])
    channel.close()
    theirs.close()


@pytest.mark.parametrize("last_words", [b"", b"{}\0{"], ids=["silent", "in the middle of a message"])
def test_the_end_of_a_peer_is_told_once(last_words):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        channel = Channel(loop, ours)
        ends, frames = [], []
        ended = loop.create_future()
        channel.on_frame = frames.append
        channel.on_close = lambda error: (ends.append(error), ended.set_result(None))
        if last_words:
            theirs.send(last_words)
        theirs.close()
        await asyncio.wait_for(ended, 5)
        assert channel.closed
        channel.close()
        channel.send(b"to nobody\0")
        assert ends == [None]
        assert len(frames) == last_words.count(b"\0")

    asyncio.run(main())


def test_a_paused_channel_reads_nothing():
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        channel = Channel(loop, ours)
        frames = []
        channel.on_frame = frames.append
        channel.pause()
        theirs.send(b"a\0")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert frames == []
        assert channel.unread()
        got = loop.create_future()
        channel.on_frame = lambda frame: got.set_result(frame.data)
        channel.resume()
        assert await asyncio.wait_for(got, 5) == b"a"
        channel.close()
        theirs.close()

    asyncio.run(main())


def test_too_many_descriptors_end_the_connection_and_leak_nothing():
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        channel = Channel(loop, ours)
        ended = loop.create_future()
        channel.on_close = ended.set_result
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(theirs, [b"a\0"], [0] * 30)
        assert isinstance(await asyncio.wait_for(ended, 5), OSError)
        assert len(os.listdir("/proc/self/fd")) == before - 1
        theirs.close()

    asyncio.run(main())
