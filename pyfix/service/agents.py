"""The delivery agents, as the queue manager sees them: a transport's name, and a pool of connections for each."""

import re
from asyncio import Future
from collections.abc import Callable
from functools import partial

from msgspec import Struct

from pyfix.mail.verp import verp_sender
from pyfix.service.calling import Unavailable
from pyfix.service.client import Client, ClientSession, Unread
from pyfix.service.cycle import Cycle
from pyfix.service.delivery import Deliver, Delivered, Recipient
from pyfix.service.interface import ServiceError
from pyfix.spool.active import ActiveFile, ActiveQueue
from pyfix.spool.envelope import TRACE_VERIFY, Envelope

# A name becomes a directory's name.
_TRANSPORT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}", re.ASCII)

_UNAVAILABLE = "mail transport unavailable"
_LOST = "unknown mail transport error"


class AgentTrouble(Exception):
    """No agent has said what became of the mail. ``args[0]`` is for the log, ``reason`` for the recipients."""

    def __init__(self, message: str, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class _Attempt(Struct):
    """A delivery on its way."""

    client: Client
    request: Deliver
    file: ActiveFile
    then: Callable[[Delivered | AgentTrouble], None]
    # a call that no agent has read is sent once more
    again: bool = True


class Agents:
    """Calls delivery agents. ``connect`` makes a client of a transport's io.pyfix.Delivery."""

    def __init__(self, active: ActiveQueue, cycle: Cycle, connect: Callable[[str], Client]) -> None:
        self._active = active
        self._cycle = cycle
        self._connect = connect
        self._clients: dict[str, Client] = {}

    def deliver(
        self,
        transport: str,
        nexthop: str,
        recipients: tuple[Recipient, ...],
        file: ActiveFile,
        then: Callable[[Delivered | AgentTrouble], None],
    ) -> None:
        """Has the transport's agent deliver. ``then`` gets the answer; one without outcomes: the file is gone."""
        client = self._clients.get(transport)
        if client is None:
            if not _TRANSPORT.fullmatch(transport):
                then(AgentTrouble(f"bad transport name: {transport[:80]!r}", _UNAVAILABLE))
                return
            client = self._clients[transport] = self._connect(transport)
        envelope = file.envelope
        request = Deliver(
            queue_id=file.queue_id,
            message=0,
            content_offset=envelope.content_offset,
            size=envelope.size,
            transport=transport,
            nexthop=nexthop,
            sender=_sender(envelope, recipients),
            recipients=recipients,
            arrival_usec=envelope.arrival_usec,
            active_usec=file.active_usec,
            encoding=envelope.encoding,
            smtputf8=envelope.smtputf8 != 0,
            envid=envelope.envid,
            ret=envelope.ret,
            verify=envelope.trace_flags & TRACE_VERIFY != 0,
        )
        attempt = _Attempt(client, request, file, then)
        session = client.idle()
        if session is None:
            self._cycle.spawn(self._send_on_new(attempt))
        else:
            self._send(attempt, session)

    async def _send_on_new(self, attempt: _Attempt) -> None:
        try:
            # Connecting is a step of its own, for its failure is harmless: nobody has seen the mail.
            session = await attempt.client.connect()
        except Unavailable as error:
            text = f"connect to transport {attempt.request.transport}: {error}"
            attempt.then(AgentTrouble(text, _UNAVAILABLE))
        else:
            self._send(attempt, session)
        self._cycle.kick()

    def _send(self, attempt: _Attempt, session: ClientSession) -> None:
        try:
            descriptor = self._active.hold(attempt.file)
        except FileNotFoundError:
            session.release()
            attempt.then(Delivered(()))
            return
        reply = session.send("Deliver", attempt.request, (descriptor,))
        self._cycle.follow(reply, partial(self._answered, attempt, session))

    def _answered(self, attempt: _Attempt, session: ClientSession, reply: Future[Delivered]) -> None:
        self._active.let_go(attempt.file)
        session.release()
        error = reply.exception()
        if error is None:
            attempt.then(reply.result())
        elif attempt.again and isinstance(error, Unread):
            attempt.again = False
            self._cycle.spawn(self._send_on_new(attempt))
        elif isinstance(error, (Unavailable, ServiceError)):
            attempt.then(AgentTrouble(f"transport {attempt.request.transport} failure: {error}", _LOST))
        else:
            raise error


def _sender(envelope: Envelope, recipients: tuple[Recipient, ...]) -> str:
    """The sender that goes out; with a variable envelope return path, to the one recipient there is."""
    if not (envelope.verp_delimiters and envelope.sender):
        return envelope.sender
    return verp_sender(envelope.verp_delimiters, envelope.sender, recipients[0].original or recipients[0].address)
