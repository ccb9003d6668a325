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


def transport_route(
    maps: Maps, address: str, route: Route, delimiters: str, *, parents: bool, owner_request_special: bool
) -> Route:
    """What the table makes of a route that was found without it.

    A value ``:`` changes nothing; ``transport:`` sends to the recipient's own domain; ``:nexthop`` keeps the transport.
    """
    local, _at, domain = address.rpartition("@")
    user = user_part(local, delimiters, owner_request_special=owner_request_special)
    value = maps.look_up(address)
    if value is None and user != local:
        value = maps.look_up(f"{user}@{domain}", partial=True)
    if value is None:
        value = next(
            (v for key in _domain_keys(domain, parents=parents) if (v := maps.look_up(key, partial=True))), None
        )
    if value is None:
        return route
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
