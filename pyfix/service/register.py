"""The record of what is deferred for whom, as those see it who defer mail: which destinations have one, and the caller.

Source: postconf(5) fast_flush_domains.
"""

from collections.abc import Iterable

from pyfix.conf.config import Config
from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.flush import Add
from pyfix.tables.key import fold
from pyfix.tables.match import domain_list
from pyfix.tables.table import TableError

PATIENCE = 10.0
"""Seconds to wait for the flush service: mail does without what it keeps."""


class FastFlush:
    """fast_flush_domains: the destinations for which deferred mail is kept on record."""

    def __init__(self, conf: Config) -> None:
        self._domains = domain_list(conf, "fast_flush_domains")

    def __bool__(self) -> bool:
        return bool(self._domains)

    def has(self, site: str) -> bool:
        """Whether the destination is one of them. Raises TableError."""
        return self._domains.matches(fold(site))


class Register:
    """The record as those who defer mail see it. ``client`` calls io.pyfix.Register."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._fast_flush: FastFlush | None = None

    def configure(self, conf: Config) -> None:
        """Takes a configuration. Raises ConfigError."""
        self._fast_flush = FastFlush(conf)

    async def add(self, queue_id: str, recipients: Iterable[str]) -> str:
        """Notes that mail to these recipients is deferred; what went wrong, which costs no mail."""
        if not self._fast_flush:
            return ""
        try:
            domains = dict.fromkeys(address.rpartition("@")[2] for address in recipients if "@" in address)
            sites = tuple(domain for domain in domains if domain and self._fast_flush.has(domain))
            failed = bool(sites) and (await self._client.call("Add", Add(queue_id, sites))).status == "fail"
        except (TableError, Unavailable) as error:
            return f"flush service failure: {error}"
        return "flush service failure" if failed else ""
