"""Tells anvil who comes and goes. It is no trouble when there is nobody to tell: then nobody counts."""

import asyncio

from pyfix.service.anvil import Client as Attendant
from pyfix.service.calling import Unavailable
from pyfix.service.client import Client, ClientSession


class Attendance:
    """The clients of one service, announced over one connection, whose end would disconnect them all."""

    def __init__(self, client: Client, service: str) -> None:
        self._client = client
        self._service = service
        self._session: ClientSession | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[tuple[str, str]] = []

    def connect(self, address: str) -> None:
        """A client has come."""
        self._tell("Connect", address)

    def disconnect(self, address: str) -> None:
        """A client has gone."""
        self._tell("Disconnect", address)

    def close(self) -> None:
        """Ends the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._session is not None:
            self._session.close()

    def _tell(self, method: str, address: str) -> None:
        if self._session is not None and not self._session.closed:
            self._session.oneway(method, Attendant(self._service, address))
            return
        self._waiting.append((method, address))
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            self._session = await self._client.session()
        except Unavailable:
            self._waiting.clear()
            return
        for method, address in self._waiting:
            self._session.oneway(method, Attendant(self._service, address))
        self._waiting.clear()
