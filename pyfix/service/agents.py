"""The delivery agents, as the queue manager sees them: a transport's name, and a pool of connections for each."""

import re
from collections.abc import Callable

from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.delivery import Deliver, Delivered, Recipient
from pyfix.service.interface import ServiceError
from pyfix.spool.active import ActiveFile, ActiveQueue

# A name becomes a directory's name.
_TRANSPORT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}", re.ASCII)

_UNAVAILABLE = "mail transport unavailable"
_LOST = "unknown mail transport error"


class AgentTrouble(Exception):
    """No agent has said what became of the mail. ``args[0]`` is for the log, ``reason`` for the recipients."""

    def __init__(self, message: str, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class Agents:
    """Calls delivery agents. ``connect`` makes a client of a transport's io.pyfix.Delivery."""

    def __init__(self, active: ActiveQueue, connect: Callable[[str], Client]) -> None:
        self._active = active
        self._connect = connect
        self._clients: dict[str, Client] = {}

    async def deliver(
        self, transport: str, nexthop: str, recipients: tuple[Recipient, ...], file: ActiveFile
    ) -> Delivered:
        """Has the transport's agent deliver. No outcomes: the file is gone. Raises AgentTrouble."""
        client = self._clients.get(transport)
        if client is None:
            if not _TRANSPORT.fullmatch(transport):
                raise AgentTrouble(f"bad transport name: {transport[:80]!r}", _UNAVAILABLE)
            client = self._clients[transport] = self._connect(transport)
        try:
            # Connecting is a step of its own, for its failure is harmless: nobody has seen the mail.
            session = await client.session()
        except Unavailable as error:
            raise AgentTrouble(f"connect to transport {transport}: {error}", _UNAVAILABLE) from None
        envelope = file.envelope
        request = Deliver(
            queue_id=file.queue_id,
            message=0,
            content_offset=envelope.content_offset,
            size=envelope.size,
            transport=transport,
            nexthop=nexthop,
            sender=envelope.sender,
            recipients=recipients,
            arrival_usec=envelope.arrival_usec,
            active_usec=file.active_usec,
            encoding=envelope.encoding,
            smtputf8=envelope.smtputf8 != 0,
            envid=envelope.envid,
            ret=envelope.ret,
        )
        try:
            with self._active.opened(file) as descriptor:
                delivered: Delivered = await client.call("Deliver", request, (descriptor,), session)
        except FileNotFoundError:
            session.release()
            return Delivered(())
        except (Unavailable, ServiceError) as error:
            raise AgentTrouble(f"transport {transport} failure: {error}", _LOST) from None
        return delivered
