"""cidr: network patterns for addresses, ``192.0.2.0/24 result``, first match wins.

Source: cidr_table(5).
"""

import ipaddress
from typing import NamedTuple

from pyfix.conf.error import ValueTrouble
from pyfix.tables.rule import Rule, matching, read_rules


class NetworkPattern(NamedTuple):
    """A network, or everything but a network."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    negated: bool = False

    def matches(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Whether the pattern holds for the address; no pattern holds for an address of the other version."""
        if address.version != self.network.version:
            return self.negated
        return (address in self.network) != self.negated


class CidrTable:
    """Network patterns with results."""

    partial = False

    def __init__(self, name: str, rules: list[Rule[NetworkPattern]]) -> None:
        self.name = name
        self._rules = rules

    def look_up(self, key: str) -> str | None:
        """The result of the first pattern that holds for the address; None for a key that is no address."""
        try:
            address = ipaddress.ip_address(key)
        except ValueError:
            return None
        found = next(matching(self._rules, lambda pattern: pattern.matches(address)), None)
        return found.result if found else None


def open_table(name: str, argument: str) -> CidrTable:
    """The table in that file."""
    return CidrTable(name, read_rules(name, argument, _parse))


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network such as ``192.0.2.0/24``, ``[2001:db8::]/32``, ``2001:db8::/32`` or an address alone.

    ValueTrouble when it is malformed or has host bits set, as Postfix refuses them too.
    """
    plain = text
    if text.startswith("["):
        address, bracket, length = text[1:].partition("]")
        if not bracket or (length and not length.startswith("/")):
            raise ValueTrouble(f'bad network "{text[:60]}"', "write address/prefix length")
        plain = address + length
    if plain.rpartition("/")[1] and not plain.rpartition("/")[2].isdigit():
        raise ValueTrouble(f'bad network "{text[:60]}"', "write address/prefix length")
    try:
        return ipaddress.ip_network(plain)
    except ValueError as error:
        hint = "the address has bits beyond the prefix" if "host bits" in str(error) else "write address/prefix length"
        raise ValueTrouble(f'bad network "{text[:60]}": {hint}', hint) from None


def _parse(text: str) -> tuple[NetworkPattern, str]:
    negated = text.startswith("!")
    words = text.removeprefix("!").split(None, 1)
    if not words:
        raise ValueTrouble("a pattern is missing")
    return NetworkPattern(parse_network(words[0]), negated), words[1] if len(words) > 1 else ""
