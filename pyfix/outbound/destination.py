"""Next hops as qmgr names them: ``domain``, ``domain:port``, ``[host]``, ``[host]:port``, and lists of these.

Source: transport(5), postconf(5) relayhost.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from pyfix.net.hostname import ascii_domain, literal_address

SMTP_PORT = 25
_PORTS = {"smtp": 25, "lmtp": 24, "submission": 587, "submissions": 465, "smtps": 465}
_FORM = re.compile(r"(?:\[(?P<literal>[^\[\]]*)\]|(?P<domain>[^\[\]:]*))(?::(?P<port>[A-Za-z0-9-]+))?")


class Destination(NamedTuple):
    """A next hop."""

    # a host's or domain's name in ASCII form, or an address
    name: str
    port: int
    # whether the name's MX records count
    mx: bool


class DestinationError(ValueError):
    """A next hop of no known form; the message says which."""


def split_destinations(nexthop: str) -> list[str]:
    """The next hops of a list: separated by commas and white space."""
    return re.findall(r"[^, \t\r\n]+", nexthop)


def parse_port(text: str) -> int:
    """A TCP port's number, given as a number or by one of the names that mail uses. Raises DestinationError."""
    if text in _PORTS:
        return _PORTS[text]
    if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535:
        return int(text)
    raise DestinationError(f"unknown service: {text}")


@lru_cache(maxsize=1000)
def parse_destination(text: str, default_port: int) -> Destination:
    """One next hop. Raises DestinationError."""
    form = _FORM.fullmatch(text)
    if form is None or not (form["literal"] or form["domain"]):
        raise DestinationError(f"bad destination: {text}")
    port = parse_port(form["port"]) if form["port"] else default_port
    inside = form["literal"]
    if inside is not None and (address := literal_address(inside)):
        return Destination(address, port, mx=False)
    name = ascii_domain(inside or form["domain"])
    if not name:
        raise DestinationError(f"bad destination: {text}")
    return Destination(name.removesuffix("."), port, mx=inside is None)
