"""Host names, domains and addresses: what is one, and their forms for DNS."""

import ipaddress
import re

_NAME_LIMIT = 255
_LABEL_LIMIT = 63
_ADDRESS_LIMIT = 64
# A label of letters, digits, "_" and inner "-". Postfix accepts "_" because there are such hosts.
_HOSTNAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


def is_hostname(name: str) -> bool:
    """Whether this may be a host's name: Postfix's rule, RFC 1123 and ``_``; never a number or an address."""
    return (
        len(name) <= _NAME_LIMIT
        and _HOSTNAME.fullmatch(name) is not None
        and not name.replace(".", "").isdigit()
        and max(map(len, name.split("."))) <= _LABEL_LIMIT
    )


def address_family(text: str) -> int:
    """4 or 6 for the text of an IP address, 0 for anything else; zones (``%eth0``) are not accepted."""
    if len(text) > _ADDRESS_LIMIT or "%" in text or not text.isascii():
        return 0
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return 0


def literal_address(literal: str) -> str:
    """The IP address in the inside of an address literal (RFC 5321 section 4.1.3), ``""`` if it is none.

    As Postfix, ``IPv6:`` may be left out.
    """
    address = literal[5:] if literal[:5].upper() == "IPV6:" else literal
    return address if address_family(address) else ""


def ascii_domain(domain: str) -> str:
    """A domain in the form that DNS knows: U-labels become A-labels (RFC 3490). ``""`` if there is no such form."""
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def reverse_name(address: str) -> str:
    """The name under which DNS has an address's PTR records."""
    return ipaddress.ip_address(address).reverse_pointer


def canonical_address(address: str) -> str:
    """An address in its shortest form, IPv4-mapped IPv6 as IPv4: what can be compared."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def equal_names(one: str, other: str) -> bool:
    """Whether two host names are the same to DNS: ASCII letters in any case."""
    return one.encode("utf-8", "surrogateescape").lower() == other.encode("utf-8", "surrogateescape").lower()
