"""resolv.conf: which name servers to ask, and for how long.

Beside resolv.conf(5)'s ``nameserver ADDRESS`` this knows ``nameserver ADDRESS:PORT`` and ``nameserver [ADDRESS]:PORT``,
as systemd's DNS= has them: for a server that does not stand on port 53.
"""

import re
from typing import NamedTuple

from pyfix.net.hostname import address_family

DNS_PORT = 53
_SERVERS_LIMIT = 3
_OPTION = re.compile(r"(timeout|attempts):([0-9]{1,3})")
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")


class NameServer(NamedTuple):
    """A server."""

    address: str
    port: int = DNS_PORT

    @property
    def trusted(self) -> bool:
        """Whether its word on DNSSEC (the AD bit) counts: only on this machine nobody can have changed it."""
        return self.address == "::1" or self.address.startswith("127.")


class ResolvConf(NamedTuple):
    """What the file says. Without a server in it, this machine's own is asked, as resolv.conf(5) tells."""

    servers: tuple[NameServer, ...] = (NameServer("127.0.0.1"),)
    # seconds for each attempt with each server
    timeout: int = 5
    attempts: int = 2


def parse_resolv_conf(text: str) -> ResolvConf:
    """Reads the file's text; lines that mean nothing here are passed over, as every resolver library does."""
    servers: list[NameServer] = []
    options = {"timeout": 5, "attempts": 2}
    for line in text.split("\n"):
        words = re.findall(r"[^ \t\r]+", line)
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            server = _server(words[1])
            if server is not None and len(servers) < _SERVERS_LIMIT:
                servers.append(server)
        elif words[0] == "options":
            for word in words[1:]:
                if option := _OPTION.fullmatch(word):
                    options[option[1]] = max(int(option[2]), 1)
    timeout, attempts = min(options["timeout"], 30), min(options["attempts"], 5)
    return ResolvConf(tuple(servers) or ResolvConf().servers, timeout, attempts)


def _server(text: str) -> NameServer | None:
    if address_family(text):
        return NameServer(text)
    found = _WITH_PORT.fullmatch(text)
    if found is None:
        return None
    address, port = found[1] or found[2], int(found[3])
    return NameServer(address, port) if address_family(address) and 0 < port < 65536 else None
