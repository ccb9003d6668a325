"""The name of a client: its address's name, if that name has the address.

Whoever owns an address owns its PTR records, and can write anything into them: the name counts only if its own owner
says the same. Source: smtpd(8), reject_unknown_client_hostname in postconf(5).
"""

from collections.abc import Generator, Sequence
from typing import Literal, NamedTuple

from pyfix.net.dns import Asked, decisive
from pyfix.net.hostname import canonical_address, is_hostname

UNKNOWN = "unknown"

NameStatus = Literal["ok", "not_found", "again", "forged"]
Forward = Generator[str, tuple[Sequence[Asked], Sequence[str]], "ClientName"]

_REASONS = {
    "again": "Temporary failure in name resolution",
    "not_found": "Name or service not known",
    "no_data": "No address associated with hostname",
    "fail": "Non-recoverable failure in name resolution",
}


class ClientName(NamedTuple):
    """What is known of a client's name."""

    name: str
    reverse_name: str
    status: NameStatus
    warning: str = ""


def name_client(address: str, reverse: Asked, names: Sequence[str]) -> Forward:
    """Judges a client, given how the question for its name ended and the names found.

    Yields the name whose addresses are wanted, and is sent how those questions ended, and the addresses.
    """
    if reverse.status == "again":
        return ClientName(UNKNOWN, UNKNOWN, "again")
    name = names[0] if names else ""
    if not is_hostname(name):
        return ClientName(UNKNOWN, UNKNOWN, "not_found")
    asked, addresses = yield name
    wanted = canonical_address(address)
    if any(canonical_address(one) == wanted for one in addresses):
        return ClientName(name, name, "ok")
    warning = f"hostname {name} does not resolve to address {address}"
    final = decisive(asked)
    if not addresses and not final.found:
        reason = _REASONS[final.status]
        return ClientName(UNKNOWN, name, "again" if final.status == "again" else "forged", f"{warning}: {reason}")
    return ClientName(UNKNOWN, name, "forged", warning)
