"""io.pyfix.Resolver: DNS for all roles."""

from typing import Literal

from msgspec import Struct

from pyfix.service.interface import Interface, Method

Status = Literal["ok", "not_found", "no_data", "again", "fail"]
"""ok; the name does not exist; it has no such record; try again later; the server refuses or answers nonsense."""


class Lookup(Struct, frozen=True):
    """A question."""

    # a host or domain name in ASCII form, without the trailing dot
    name: str
    type: Literal["A", "AAAA", "MX", "PTR", "TXT", "CNAME", "NS", "SRV", "TLSA"]
    # for A and AAAA: /etc/hosts is asked before DNS
    hosts: bool = False


class Record(Struct, frozen=True):
    """One record of an answer."""

    # an address, a host name without trailing dot, or a text
    value: str
    # MX and SRV preference
    preference: int = 0


class Answer(Struct, frozen=True):
    """An answer."""

    status: Status
    records: tuple[Record, ...] = ()
    # a validating resolver vouched for it (AD bit)
    secure: bool = False
    # for status other than ok: "Host not found", "Host not found, try again" ...
    reason: str = ""


class Client(Struct, frozen=True):
    """An SMTP client whose name is asked for."""

    # an IPv4 or IPv6 address
    address: str


class ClientName(Struct, frozen=True):
    """What DNS and /etc/hosts say of an address (Postfix's smtpd_peer)."""

    # the name that resolves to the address, else "unknown"
    name: str
    # the name before that check, else "unknown"
    reverse_name: str
    # of the name: "ok", "not_found" (5xx), "again" (4xx), "forged" (does not resolve to the address)
    name_status: Literal["ok", "not_found", "again", "forged"]
    # for name_status other than ok, the warning's text: "hostname H does not resolve to address A"; empty for none
    warning: str = ""


INTERFACE = Interface(
    "io.pyfix.Resolver",
    "Looks up names",
    (
        Method("Lookup", Lookup, Answer, "Asks DNS one question"),
        Method("NameClient", Client, ClientName, "Finds the name of an SMTP client"),
    ),
)
