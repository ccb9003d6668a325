"""The names of SMTP clients, as the resolver service finds them."""

from collections.abc import Callable

from pyfix.service import resolver
from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.interface import ServiceError
from pyfix.service.resolver import ClientName

_LOOPBACK = ("127.0.0.1", "::1")
_LOCALHOST = ClientName("localhost", "localhost", "ok")
_UNKNOWN = ClientName("unknown", "unknown", "again")


class ClientNames:
    """Looks up names while they are ``wanted`` (smtpd_peername_lookup). ``warn`` logs a warning."""

    def __init__(self, service: Client, warn: Callable[[str], None]) -> None:
        self._service = service
        self._warn = warn
        self.wanted = True

    async def look_up(self, address: str) -> ClientName:
        """Who a client is; without a name when the resolver knows none, or cannot be reached."""
        if not self.wanted:
            return _UNKNOWN
        if address in _LOOPBACK:
            return _LOCALHOST
        try:
            answer: ClientName = await self._service.call("NameClient", resolver.Client(address))
        except (Unavailable, ServiceError) as error:
            self._warn(f"name of {address}: {error}")
            return _UNKNOWN
        if answer.warning:
            self._warn(answer.warning)
        return answer
