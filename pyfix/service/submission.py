"""A message on its way to cleanup while it still arrives: the caller's half of io.pyfix.Cleanup, for event loops.

Content goes into a pipe. cleanup gets the pipe's reading end when the message is whole (Store), or when the pipe is
full (Open, and Commit at the end): so most messages reach it in one piece, and one that is broken off seldom troubles
it. What cleanup has to say of it is learned at the end. Postdrop speaks the same protocol.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from pyfix.service import cleanup, postdrop
from pyfix.service.calling import Unavailable
from pyfix.service.client import Client, ClientSession, Unread
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

    __slots__ = (
        "_again",
        "_client",
        "_connecting",
        "_loop",
        "_on_done",
        "_reading",
        "_request",
        "_session",
        "content",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, client: Client, request: Struct, on_room: Callable[[], None]
    ) -> None:
        self._reading, writing = open_pipe()
        self.content = PipeWriter(loop, writing, on_room, self._start)
        self._loop = loop
        self._client = client
        self._request = request
        self._session: ClientSession | None = None
        # the call was made a second time
        self._again = False
        self._connecting: asyncio.Task[ClientSession] | None = None
        self._on_done: Callable[[asyncio.Future[Any]], None] | None = None

    def commit(self, on_done: Callable[[asyncio.Future[Any]], None]) -> None:
        """The content is whole: asks for the message to be kept.

        ``on_done`` gets a future: its result is Committed, its exception one of the service's errors or Unavailable.
        """
        self.content.finish()
        self._on_done = on_done
        if self._session is not None:
            self._session.send("Commit", Nothing()).add_done_callback(self._committed)
        elif self._connecting is None:
            self._start()
        elif self._reading < 0:  # there was no connection to be had
            on_done(self._connecting)

    def abort(self) -> None:
        """Nothing of the message is to stay. Nobody is told any more."""
        self._on_done = None
        self.content.close()
        self._close_reading()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._session is not None:
            self._session.close()

    def _start(self) -> None:
        """Lets the service read from now on. The content is whole, or the pipe is full."""
        if self._session is not None or self._connecting is not None:
            return
        session = self._client.idle()
        if session is not None:
            self._hand_over(session)
        else:
            self._connecting = self._loop.create_task(self._client.session())
            self._connecting.add_done_callback(self._connected)

    def _connected(self, connecting: asyncio.Task[ClientSession]) -> None:
        if not connecting.cancelled() and connecting.exception() is None:
            self._hand_over(connecting.result())
        else:
            self._close_reading()
            if self._on_done is not None:
                self._on_done(connecting)

    def _hand_over(self, session: ClientSession) -> None:
        if self._reading < 0:  # dropped while the connection was made
            session.release()
            return
        self._session = session
        if self._on_done is None:
            session.oneway("Open", self._request, (self._reading,))
            self._close_reading()
        else:
            session.send("Store", self._request, (self._reading,)).add_done_callback(self._stored)

    def _stored(self, reply: asyncio.Future[Any]) -> None:
        """The service has answered; or it has gone away without a look at the call, which is made again, once."""
        if isinstance(reply.exception(), Unread) and not self._again and self._reading >= 0:
            self._again, self._session = True, None
            self._connecting = self._loop.create_task(self._client.connect())
            self._connecting.add_done_callback(self._connected)
        else:
            self._close_reading()
            self._committed(reply)

    def _committed(self, reply: asyncio.Future[Any]) -> None:
        assert self._session is not None
        if reply.exception() is None:
            self._session.release()
        else:
            self._session.close()
        if self._on_done is not None:
            self._on_done(reply)

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

    def _done(self, done: "asyncio.Future[cleanup.Committed | postdrop.Committed]") -> None:
        assert self._then is not None
        try:
            reply = Reply(250, "2.0.0", f"Ok: queued as {done.result().queue_id}")
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
