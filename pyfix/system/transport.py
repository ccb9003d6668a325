"""What asyncio knows of a connection."""

import asyncio
import ipaddress


def peer_of(transport: asyncio.Transport) -> tuple[str, int]:
    """The client's address, of IPv4 where it is one in disguise, and its port."""
    peer = transport.get_extra_info("peername") or ("unknown", 0)
    host, port = str(peer[0]).partition("%")[0], int(peer[1])
    if host.startswith("::ffff:") and (mapped := ipaddress.IPv6Address(host).ipv4_mapped):
        host = str(mapped)
    return host, port
