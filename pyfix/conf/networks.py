"""The networks and addresses of this machine, as inet_interfaces and mynetworks_style choose them.

Source: postconf(5) inet_interfaces, inet_protocols, mynetworks_style.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Interface(NamedTuple):
    """An address of a network interface with the length of its network's prefix."""

    address: str
    prefix: int


def own_interfaces(
    names: Sequence[str],
    protocols: Sequence[str],
    present: Iterable[Interface],
    addresses_of: Callable[[str], Sequence[str]],
) -> tuple[Interface, ...]:
    """The interfaces that ``inet_interfaces`` names, each once, in the order of the machine's own list.

    ``names`` are ``all``, ``loopback-only``, addresses or host names; ``addresses_of`` finds a host name's addresses.
    An address that no interface of the machine has is taken as it is: it may appear later.
    """
    versions = _versions(protocols)
    candidates = [one for one in present if _parsed(one.address).version in versions]
    chosen = dict[str, Interface]()
    for name in names:
        if name == "all":
            found = candidates
        elif name == "loopback-only":
            found = [one for one in candidates if _parsed(one.address).is_loopback]
        else:
            found = _named(name, versions, candidates, addresses_of)
        chosen.update((one.address, one) for one in found)
    return tuple(chosen.values())


def trusted_networks(style: str, own: Iterable[Interface]) -> list[str]:
    """The value of mynetworks that a mynetworks_style makes of the machine's interfaces."""
    networks = dict[str, None]()
    for address, prefix in own:
        parsed = _parsed(address)
        if style == "host":
            prefix = parsed.max_prefixlen  # noqa: PLW2901  the style decides how much of the address counts
        elif style == "class" and parsed.version == 4:
            prefix = _class_prefix(parsed)  # noqa: PLW2901  as above
        network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
        text = str(network.network_address)
        networks[f"[{text}]/{prefix}" if network.version == 6 else f"{text}/{prefix}"] = None
    return list(networks)


def _named(
    name: str, versions: set[int], candidates: Sequence[Interface], addresses_of: Callable[[str], Sequence[str]]
) -> list[Interface]:
    literal = name.removeprefix("[").removesuffix("]")
    try:
        texts: Sequence[str] = [str(ipaddress.ip_address(literal))]
    except ValueError:
        texts = addresses_of(name)
    known = {one.address: one for one in candidates}
    return [
        known.get(text) or Interface(text, _parsed(text).max_prefixlen)
        for text in texts
        if _parsed(text).version in versions
    ]


def _parsed(address: str) -> Address:
    return ipaddress.ip_address(address)


def _versions(protocols: Sequence[str]) -> set[int]:
    if not protocols or "all" in protocols:
        return {4, 6}
    return {4 if protocol == "ipv4" else 6 for protocol in protocols}


def _class_prefix(address: Address) -> int:
    """The prefix length of an IPv4 address's class, as of before 1993."""
    first = address.packed[0]
    if first < 128:
        return 8
    return 16 if first < 192 else 24
