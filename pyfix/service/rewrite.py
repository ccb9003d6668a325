"""io.pyfix.Rewrite: addresses in standard form, and where they are to be delivered."""

from typing import Literal

from msgspec import Struct

from pyfix.service.interface import Interface, Method


class Rewrite(Struct, frozen=True):
    """Addresses to bring into standard form."""

    # "local" completes with myorigin and mydomain; "remote" with remote_header_rewrite_domain
    ruleset: Literal["local", "remote"]
    addresses: tuple[str, ...]


class Rewritten(Struct, frozen=True):
    """The addresses in standard form, in the order asked."""

    addresses: tuple[str, ...]


class Resolve(Struct, frozen=True):
    """Recipients to resolve."""

    sender: str
    recipients: tuple[str, ...]


class Resolved(Struct, frozen=True):
    """Where a recipient is to be delivered."""

    # in standard form
    recipient: str
    # the transport's name, "local", "smtp", "error" ...
    transport: str
    # the next hop: a domain, "[host]:port", or the text for the error and retry transports, "5.1.3 bad address syntax"
    nexthop: str
    # Postfix's ADDRESS_CLASS_README; "error": the address cannot be delivered at all (nexthop begins with 5), or
    # nobody can tell now because a table is in trouble (nexthop begins with 4)
    address_class: Literal["local", "virtual_alias", "virtual_mailbox", "relay", "default", "error"]
    # what the class's recipient table says: "yes", "no", or "unknown" (no table, or the table is in trouble)
    listed: Literal["yes", "no", "unknown"] = "unknown"
    # the table's name for a recipient that is not listed, or whose table is in trouble: "local recipient table"
    table: str = ""
    # the local part holds @, % or !: the next host may take it for a route, so that nobody may relay by it
    # (unless allow_untrusted_routing)
    routed: bool = False


class ResolveReply(Struct, frozen=True):
    """The answers, in the order asked."""

    resolved: tuple[Resolved, ...]


INTERFACE = Interface(
    "io.pyfix.Rewrite",
    "Rewrites and resolves addresses",
    (
        Method("Rewrite", Rewrite, Rewritten, "Brings addresses into standard form"),
        Method("Resolve", Resolve, ResolveReply, "Finds transport and next hop of recipients"),
    ),
)
