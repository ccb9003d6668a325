"""The addresses of this machine's network interfaces, and those of host names.

The kernel's files are read instead of asking by a socket: a role without any network may still do that, and it costs
nothing to load.
"""

import socket
import struct
import sys

from pyfix.conf.networks import Interface

_NET = "/proc/self/net/"
_LOOPBACK_PREFIX = 8


def interfaces() -> tuple[Interface, ...]:
    """Every IPv4 and IPv6 address of the machine with its prefix length: IPv4 first."""
    networks = _connected_networks()
    four = [Interface(address, _prefix(address, networks)) for address in _ipv4_addresses()]
    six = [Interface(_ipv6(line[0]), int(line[2], 16)) for line in _table("if_inet6")]
    return (*four, *six)


def addresses_of(host: str) -> tuple[str, ...]:
    """A host name's addresses as /etc/hosts and DNS give them; empty when there are none."""
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(answer[4][0]).partition("%")[0] for answer in answers))


def _table(name: str) -> list[list[str]]:
    """The words of each line of one of the kernel's files; none where the protocol is not there, or /proc hidden."""
    try:
        with open(_NET + name, encoding="ascii") as file:
            return [line.split() for line in file]
    except (FileNotFoundError, PermissionError):
        return []


def _ipv4_addresses() -> list[str]:
    """The addresses that the kernel delivers to itself: those of a route ``/32 host LOCAL``."""
    found, leaf = dict[str, None](), ""
    for words in _table("fib_trie"):
        if words[0] == "|--":
            leaf = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            found[leaf] = None
    return list(found)


def _connected_networks() -> list[tuple[int, int]]:
    """Network and mask of every network that is reached without a gateway."""
    rows = [(row[1], row[2], row[7]) for row in _table("route")[1:]]
    return [(_number(to), _number(mask)) for to, gateway, mask in rows if not int(gateway, 16) and int(mask, 16)]


def _prefix(address: str, networks: list[tuple[int, int]]) -> int:
    """The length of the address's network: the longest one that holds it."""
    (number,) = struct.unpack("!I", socket.inet_aton(address))
    if address.startswith("127."):
        return _LOOPBACK_PREFIX
    return max((mask.bit_count() for network, mask in networks if number & mask == network), default=32)


def _number(native: str) -> int:
    """An IPv4 address that the kernel shows as a number in the machine's own byte order."""
    return int.from_bytes(int(native, 16).to_bytes(4, sys.byteorder), "big")


def _ipv6(digits: str) -> str:
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
