"""The serving half of Varlink, in an event loop.

Calls of one connection are served one after the other, in order; connections are independent. An exception that is no
ServiceError is a bug, which is reported to the owner and never told to the peer. A peer that does not read its replies
is not read from, and a stream waits for it.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from pyfix.service.crowd import Crowd
from pyfix.service.dispatch import (
    Call,
    Connection,
    Entry,
    Implementation,
    close_fds,
    decode_request,
    encode_error,
    encode_reply,
)
from pyfix.service.interface import ServiceError
from pyfix.service.varlink import ExpectedMore, Request
from pyfix.system.channel import Channel
from pyfix.system.unix import Peer, peer_of
from pyfix.wire.varlink import Frame, FramingError

_PIPELINE_LIMIT = 16


class Server:
    """Serves one interface on the connections it is given.

    ``on_bug`` gets exceptions that no handler foresaw. ``crowd`` limits who may connect. ``active`` is the number of
    calls being served; ``served`` counts all calls.
    """

    def __init__(
        self, implementation: Implementation, on_bug: Callable[[BaseException], None], crowd: Crowd | None = None
    ) -> None:
        self.crowd = crowd
        self.implementation = implementation
        self.on_bug = on_bug
        self.active = 0
        self.served = 0
        self._sessions: set[_Session] = set()

    def accept(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """Serves a connected, non-blocking Unix socket from now on, or closes it where there are too many."""
        peer = peer_of(sock)
        if self.crowd is not None and not self.crowd.enter(peer.uid):
            sock.close()
            return
        self._sessions.add(_Session(self, loop, sock, peer))

    def forget(self, session: "_Session") -> None:
        """Drops a session that has ended."""
        if session in self._sessions:
            self._sessions.remove(session)
            if self.crowd is not None:
                self.crowd.leave(session.connection.peer.uid)

    def quiet(self) -> bool:
        """Whether no call is being served or waits to be read: closing now loses nothing."""
        return self.active == 0 and not any(s.channel.unread() for s in self._sessions)

    async def drain(self) -> None:
        """Ends each connection as soon as all that was asked on it is answered."""
        async with asyncio.TaskGroup() as group:
            for session in list(self._sessions):
                group.create_task(session.drain())

    def close(self) -> None:
        """Ends all connections."""
        for session in list(self._sessions):
            session.end()


class _Session:
    __slots__ = ("_busy", "_loop", "_server", "_waiting", "channel", "connection", "task")

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, sock: socket.socket, peer: Peer) -> None:
        self._server = server
        self._loop = loop
        self.connection = Connection(peer)
        self._waiting: deque[Frame] = deque()
        self._busy = False
        self.task: asyncio.Task[None] | None = None
        self.channel = Channel(loop, sock)
        self.channel.on_frame = self._on_frame
        self.channel.on_close = self._on_close

    def _on_frame(self, frame: Frame) -> None:
        if self._busy:
            self._waiting.append(frame)
            # Calls that wait hold no more descriptors than one message can bring.
            if len(self._waiting) >= _PIPELINE_LIMIT or frame.fds:
                self.channel.pause()
            return
        self._serve(frame)

    def _serve(self, frame: Frame) -> None:
        server = self._server
        server.served += 1
        fds = list(frame.fds)
        oneway = False
        try:
            request = decode_request(frame.data)
            oneway = request.oneway
            entry, call = server.implementation.begin(request, fds, self.connection)
            result = entry.handler(call)
            if result is not None and not isinstance(result, msgspec.Struct):
                self._busy = True
                server.active += 1
                self.task = self._loop.create_task(self._finish(call, entry, result, request))
                return
            if not oneway:
                self.channel.send(encode_reply(result))
        except ServiceError as error:
            if not oneway:
                self.channel.send(encode_error(error))
        except msgspec.DecodeError:
            self.end()
        except Exception as error:  # noqa: BLE001 -- a bug must not pass for an answer; its owner decides
            server.on_bug(error)
            self.end()
        close_fds(fds)

    async def _finish(self, call: Call[Any], entry: Entry, result: Any, request: Request) -> None:
        try:
            if not hasattr(result, "__aiter__"):
                reply = encode_reply(await result)
            elif request.more:
                async for part in result:
                    self.channel.send(encode_reply(part, continues=True))
                    await self.channel.drained()
                    if self.channel.closed:
                        return
                reply = encode_reply(entry.reply())
            else:
                reply = encode_error(ExpectedMore())
            if not request.oneway:
                self.channel.send(reply)
        except ServiceError as error:
            if not request.oneway:
                self.channel.send(encode_error(error))
        except Exception as error:  # noqa: BLE001 -- as above
            self._server.on_bug(error)
            self.end()
        finally:
            close_fds(call.fds)
            self._busy = False
            self._server.active -= 1
            self.task = None
        while self._waiting and not self._busy:
            self._serve(self._waiting.popleft())
        self.channel.resume()

    async def drain(self) -> None:
        while not self.channel.closed:
            if self.task is not None:
                await asyncio.wait([self.task])
            elif self.channel.unread():
                await asyncio.sleep(0)  # it is read in the next turn of the loop
            elif self.channel.sending:
                await self.channel.drained()
            else:
                self.end()

    def end(self) -> None:
        self.channel.close()
        self._on_close(None)

    def _on_close(self, _error: OSError | FramingError | None) -> None:
        self._server.forget(self)
        while self._waiting:
            close_fds(self._waiting.popleft().fds)
        callbacks, self.connection.on_close = self.connection.on_close, []
        for callback in callbacks:
            callback()
