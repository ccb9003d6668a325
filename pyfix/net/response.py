"""What a DNS server's message says to a question, as a value.

Names in answers come from strangers: they stay in DNS's own text form, in which odd characters are escaped, and who
uses one as a host name asks is_hostname() first.
"""

from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset

from pyfix.net.dns import Status

RECORD_LIMIT = 100
"""Records of one answer that are used; more would only keep the next ones waiting."""

NEGATIVE_LIMIT = 900
POSITIVE_LIMIT = 86_400
"""Seconds that an answer is believed, whatever its TTL says."""


class Data(NamedTuple):
    """A record: an address, a host name without trailing dot (the root: empty), or a text."""

    value: str
    preference: int = 0


class Reading(NamedTuple):
    """What a message says."""

    status: Status
    records: tuple[Data, ...] = ()
    # seconds for which it may be remembered
    ttl: int = 0
    # the server says that the answer is DNSSEC-valid
    authentic: bool = False
    # the name is an alias of this one, about which the message says nothing
    alias: str = ""


def read_response(response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Reading:
    """Reads a message. SERVFAIL and refusals are "again", as the C library has them: another day, another answer."""
    rcode = response.rcode()
    if rcode in (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP):
        return Reading("again")
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not isinstance(response, dns.message.QueryMessage):
        return Reading("fail")
    authentic = bool(response.flags & dns.flags.AD)
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException:
        return Reading("fail")
    if chain.answer is not None and rcode == dns.rcode.NOERROR:
        records = tuple(_data(rdata) for rdata, _ in zip(chain.answer, range(RECORD_LIMIT), strict=False))
        return Reading("ok", records, min(chain.minimum_ttl, POSITIVE_LIMIT), authentic)
    ttl = min(chain.minimum_ttl, NEGATIVE_LIMIT) if response.authority else 0
    if rcode == dns.rcode.NXDOMAIN:
        return Reading("not_found", (), ttl, authentic)
    if chain.canonical_name != name and not response.authority and kind != dns.rdatatype.CNAME:
        return Reading("no_data", (), 0, authentic, _host(chain.canonical_name))
    return Reading("no_data", (), ttl, authentic)


def _host(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True)


def _data(rdata: dns.rdata.Rdata) -> Data:
    kind = dns.rdatatype.to_text(rdata.rdtype)
    return _READERS[kind](rdata)


# Rdata classes are made at run time and have no types.
_READERS = {
    "A": lambda r: Data(r.address),
    "AAAA": lambda r: Data(r.address),
    "MX": lambda r: Data(_host(r.exchange), r.preference),
    "PTR": lambda r: Data(_host(r.target)),
    "CNAME": lambda r: Data(_host(r.target)),
    "NS": lambda r: Data(_host(r.target)),
    "SRV": lambda r: Data(f"{_host(r.target)}:{r.port}", r.priority),
    "TXT": lambda r: Data(b"".join(r.strings).decode("utf-8", "replace")),
    "TLSA": lambda r: Data(f"{r.usage} {r.selector} {r.mtype} {r.cert.hex()}"),
}
