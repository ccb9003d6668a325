"""The names of SMTP clients, as the resolver service finds them."""

from collections.abc import Callable

from pyfix.service import resolver
from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.interface import ServiceError
from pyfix.service.resolver import ClientName
from pyfix.system.clock import monotonic

# Seconds that an answer is kept, and how many of them.
_AGE = 1.0
_LIMIT = 1000
_LOOPBACK = ("127.0.0.1", "::1")
_LOCALHOST = ClientName("localhost", "localhost", "ok")
_UNKNOWN = ClientName("unknown", "unknown", "again")


class ClientNames:
    """Looks up names while they are ``wanted`` (smtpd_peername_lookup). ``warn`` logs a warning."""

    def __init__(self, service: Client, warn: Callable[[str], None]) -> None:
        self._service = service
        self._warn = warn
        self._answers: dict[str, tuple[float, ClientName]] = {}
        self.wanted = True

    def known(self, address: str) -> ClientName | None:
        """Who a client is, where nobody has to be asked: all know, or it was asked a moment ago."""
        if not self.wanted:
            return _UNKNOWN
        if address in _LOOPBACK:
            return _LOCALHOST
        answer = self._answers.get(address)
        return answer[1] if answer is not None and monotonic() - answer[0] < _AGE else None

    async def look_up(self, address: str) -> ClientName:
        """Who a client is; without a name when the resolver knows none, or cannot be reached."""
        if (known := self.known(address)) is not None:
            return known
        try:
            answer: ClientName = await self._service.call("NameClient", resolver.Client(address))
        except (Unavailable, ServiceError) as error:
            self._warn(f"name of {address}: {error}")
            return _UNKNOWN
        if answer.warning:  # is to be told each time
            self._warn(answer.warning)
            return answer
        if len(self._answers) >= _LIMIT:
            self._answers.clear()
        self._answers[address] = (monotonic(), answer)
        return answer
