"""The transport table: an address or a domain to transport and next hop.

Source: transport(5).
"""

from collections.abc import Iterator
from typing import NamedTuple

from pyfix.tables.maps import Maps, user_part


class Route(NamedTuple):
    """A delivery transport and its next hop."""

    transport: str
    nexthop: str


def read_route(value: str, nexthop: str) -> Route:
    """The value of local_transport and its like, ``transport`` or ``transport:nexthop``."""
    transport, _colon, own_nexthop = value.partition(":")
    return Route(transport, own_nexthop or nexthop)


def address_entry(maps: Maps, address: str, delimiters: str, *, owner_request_special: bool) -> str | None:
    """What the table has for an address, with its extension or without it."""
    value = maps.look_up(address)
    if value is not None or not delimiters:
        return value
    local, _at, domain = address.rpartition("@")
    user = user_part(local, delimiters, owner_request_special=owner_request_special)
    return maps.look_up(f"{user}@{domain}", partial=True) if user != local else None


def domain_entry(maps: Maps, domain: str, *, parents: bool) -> str | None:
    """What the table has for all other addresses of a domain."""
    return next((v for key in _domain_keys(domain, parents=parents) if (v := maps.look_up(key, partial=True))), None)


def table_route(value: str, domain: str, route: Route) -> Route:
    """What an entry makes of a route that was found without the table.

    A value ``:`` changes nothing; ``transport:`` sends to the recipient's own domain; ``:nexthop`` keeps the transport.
    """
    transport, _colon, nexthop = value.partition(":")
    if not transport:
        return Route(route.transport, nexthop or route.nexthop)
    return Route(transport, nexthop or domain)


def _domain_keys(domain: str, *, parents: bool) -> Iterator[str]:
    yield domain
    at = domain.find(".", 1)
    while at > 0:
        yield domain[at + 1 :] if parents else domain[at:]
        at = domain.find(".", at + 1)
    yield "*"
