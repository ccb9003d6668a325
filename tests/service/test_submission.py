import asyncio
import os

import pytest
from roles.serving import run

from pyfix.service import cleanup
from pyfix.service.interface import Nothing
from pyfix.service.submission import Message, Submission


def opening():
    return cleanup.Open("QID", 0, "s@x", (cleanup.Recipient("r@x"),), 1)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


class Keeper:
    """Takes a message; ``fds`` are the reading ends."""

    def __init__(self):
        self.content = None
        self.gone = asyncio.Event()

    def open(self, call):
        self.content = call.take_fd(call.parameters.content)
        call.connection.on_close.append(self.gone.set)
        return Nothing()

    def commit(self, _call):
        with os.fdopen(self.content, "rb") as pipe:
            return cleanup.Committed(pipe.read().decode())


def play(tmp_path, scenario):
    async def main(role):
        keeper = Keeper()
        role.implement(cleanup.INTERFACE, {"Open": keeper.open, "Commit": keeper.commit})
        await scenario(role, keeper)

    return run(tmp_path, main)


def test_content_goes_through_the_pipe(tmp_path):
    async def scenario(role, _keeper):
        replies = asyncio.Queue()
        loop = asyncio.get_running_loop()
        submission = Submission(loop, role.client(cleanup.INTERFACE), opening(), lambda: None)
        message = Message("QID", submission, role.journal.warning)
        message.write(b"abc")
        message.commit(replies.put_nowait)
        assert str(await replies.get()) == "250 2.0.0 Ok: queued as abc"

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
