import asyncio
import os
import socket

import pytest
from roles.serving import run

from pyfix.service import cleanup
from pyfix.service.client import ClientSession
from pyfix.service.interface import Nothing
from pyfix.service.submission import Message, Submission
from pyfix.system.channel import Channel


def opening():
    return cleanup.Open("QID", 0, "s@x", (cleanup.Recipient("r@x"),), 1)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


class Keeper:
    """Takes a message; ``calls`` are the names of the calls that brought it."""

    def __init__(self):
        self.calls = []
        self.content = None
        self.opened = asyncio.Event()
        self.gone = asyncio.Event()

    def open(self, call):
        self.calls.append("Open")
        self.content = call.take_fd(call.parameters.content)
        self.opened.set()
        call.connection.on_close.append(self.gone.set)
        return Nothing()

    async def store(self, call):
        self.open(call)
        self.calls[:] = ["Store"]
        return cleanup.Committed(await asyncio.to_thread(self._read))

    async def commit(self, _call):
        self.calls.append("Commit")
        return cleanup.Committed(await asyncio.to_thread(self._read))

    def _read(self):
        with os.fdopen(self.content, "rb") as pipe:
            return pipe.read().decode()


def play(tmp_path, scenario):
    async def main(role):
        keeper = Keeper()
        handlers = {"Open": keeper.open, "Commit": keeper.commit, "Store": keeper.store}
        role.implement(cleanup.INTERFACE, handlers)
        await scenario(role, keeper)

    return run(tmp_path, main)


@pytest.mark.parametrize(("size", "calls"), [(3, ["Store"]), (200_000, ["Open", "Commit"])])
def test_content_goes_through_the_pipe(tmp_path, size, calls):
    async def scenario(role, keeper):
        replies = asyncio.Queue()
        loop = asyncio.get_running_loop()
        submission = Submission(loop, role.client(cleanup.INTERFACE), opening(), lambda: None)
        message = Message("QID", submission, role.journal.warning)
        message.write(b"a" * size)
        if message.held:
            await keeper.opened.wait()
        message.commit(replies.put_nowait)
        assert str(await replies.get()) == f"250 2.0.0 Ok: queued as {'a' * size}"
        assert keeper.calls == calls

    play(tmp_path, scenario)


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_an_aborted_message_leaves_no_descriptor(tmp_path, turns):
    async def scenario(role, keeper):
        client = role.client(cleanup.INTERFACE)
        before = descriptors()
        submission = Submission(asyncio.get_running_loop(), client, opening(), lambda: None)
        submission.content.write(b"abc")
        for _ in range(turns):
            await asyncio.sleep(0)
        submission.abort()
        for _ in range(20):
            await asyncio.sleep(0)
        if keeper.content is not None:
            await keeper.gone.wait()
            os.close(keeper.content)
        assert descriptors() == before

    play(tmp_path, scenario)


def test_a_message_that_a_service_left_unread_goes_to_the_next(tmp_path):
    """A service that ends may be sent a message in the last moment."""

    async def scenario(role, keeper):
        replies = asyncio.Queue()
        loop = asyncio.get_running_loop()
        before = descriptors()
        client = role.client(cleanup.INTERFACE)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)

        def go_away():
            loop.remove_reader(theirs.fileno())
            theirs.close()

        loop.add_reader(theirs.fileno(), go_away)
        client.keep(ClientSession(client, Channel(loop, ours, fds=False), loop))
        message = Message("QID", Submission(loop, client, opening(), lambda: None), role.journal.warning)
        message.write(b"abc")
        message.commit(replies.put_nowait)
        assert str(await replies.get()) == "250 2.0.0 Ok: queued as abc"
        assert keeper.calls == ["Store"]
        client.close()
        await keeper.gone.wait()
        assert descriptors() == before

    play(tmp_path, scenario)
