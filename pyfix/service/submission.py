"""A message on its way to cleanup while it still arrives: the caller's half of io.pyfix.Cleanup, for event loops.

Content goes into a pipe. cleanup gets the pipe's reading end when the message is whole, or when the pipe is full: so
most messages reach it in one piece, and one that is broken off seldom troubles it. What cleanup has to say of it is
learned at the end. Postdrop speaks the same protocol.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from pyfix.service import cleanup, postdrop
from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.interface import Nothing, ServiceError
from pyfix.system.pipe import open_pipe
from pyfix.system.pipe_writer import PipeWriter
from pyfix.wire.reply import Reply

WRITE_ERROR = Reply(451, "4.3.0", "Error: queue file write error")
"""The reply when a message could not be stored for a reason that is not the client's."""


class Submission:
    """One message. ``request`` is the service's Open; its descriptor's index is 0.

    Raises OSError when there is no pipe to be had. ``on_room`` is called when the pipe has taken all that was held.
    """

    __slots__ = ("_client", "_loop", "_reading", "_request", "_task", "_whole", "content")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, client: Client, request: Struct, on_room: Callable[[], None]
    ) -> None:
        self._reading, writing = open_pipe()
        self.content = PipeWriter(loop, writing, on_room, self._start)
        self._loop = loop
        self._client = client
        self._request = request
        self._whole: asyncio.Future[None] = loop.create_future()
        self._task: asyncio.Task[Any] | None = None

    def commit(self, on_done: Callable[["asyncio.Task[Any]"], None]) -> None:
        """The content is whole: asks for the message to be kept.

        ``on_done`` gets a task: its result is Committed, its exception one of the service's errors or Unavailable.
        """
        self.content.finish()
        self._whole.set_result(None)
        self._start().add_done_callback(on_done)

    def abort(self) -> None:
        """Nothing of the message is to stay."""
        self.content.close()
        if self._task is not None:
            self._task.cancel()
        # A task that is cancelled before it began runs nothing, no finally clause either.
        self._close_reading()

    def _start(self) -> asyncio.Task[Any]:
        """Lets the service read from now on."""
        if self._task is None:
            self._task = self._loop.create_task(self._submit())
        return self._task

    async def _submit(self) -> Any:
        try:
            session = await self._client.session()
            session.oneway("Open", self._request, (self._reading,))
        finally:
            self._close_reading()
        try:
            await self._whole
            reply = await session.send("Commit", Nothing())
        except BaseException:
            session.close()
            raise
        session.release()
        return reply

    def _close_reading(self) -> None:
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1


class Message:
    """A message of an SMTP session on its way to cleanup or postdrop, and the reply that comes of it.

    ``warn`` logs a warning, about ``name``, when the service is in trouble.
    """

    __slots__ = ("_name", "_submission", "_then", "_warn", "write")

    def __init__(self, name: str, submission: Submission, warn: Callable[[str], None]) -> None:
        self._name = name
        self._submission = submission
        self._warn = warn
        self._then: Callable[[Reply], None] | None = None
        self.write = submission.content.write

    @property
    def held(self) -> int:
        """Bytes of content that the service did not take yet."""
        return self._submission.content.held

    def abort(self) -> None:
        """Drops the message."""
        self._submission.abort()

    def commit(self, then: Callable[[Reply], None]) -> None:
        """Has the message made durable; ``then`` gets the reply to the client."""
        self._then = then
        self._submission.commit(self._done)

    def _done(self, task: "asyncio.Task[cleanup.Committed | postdrop.Committed]") -> None:
        assert self._then is not None
        try:
            reply = Reply(250, "2.0.0", f"Ok: queued as {task.result().queue_id}")
        except cleanup.Refused as refused:
            why = refused.parameters
            reply = Reply(why.code, why.status, why.text)
        except postdrop.Refused as refused:
            status, text = refused.parameters.status, refused.parameters.text
            reply = Reply(451 if status.startswith("4") else 554, status, f"Error: {text}")
        except (Unavailable, ServiceError) as error:
            self._warn(f"{self._name}: {error}")
            reply = WRITE_ERROR
        except asyncio.CancelledError:
            reply = WRITE_ERROR
        self._then(reply)
