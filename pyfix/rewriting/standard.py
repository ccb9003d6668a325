"""The standard form of an address: ``user@domain`` with a full domain.

Addresses come in internal form (pyfix.mail.address), without a route. The rules, in this order:

1. where there is no ``@``: ``site!user`` is ``user@site``, else ``user%domain`` is ``user@domain``, else ``@`` and the
   origin are added; what would have to stand in quotes (``"a b!c"``) is no route but a name;
2. a domain without a dot, unless it is an address literal, gets the completing domain;
3. one trailing dot is taken off.

Source: trivial-rewrite(8), ADDRESS_REWRITING_README "Rewrite addresses to standard form".
"""

import re
from typing import Literal, NamedTuple

from pyfix.conf.config import Config
from pyfix.mail.address import quote_local


class Ruleset(NamedTuple):
    """How addresses are completed. An empty text completes nothing."""

    # added to an address without domain
    origin: str
    # added to a domain without dot
    domain: str
    # site!user is user@site
    swap_bangpath: bool = True
    # user%domain is user@domain
    percent_hack: bool = True


def read_ruleset(conf: Config, name: Literal["local", "remote"]) -> Ruleset:
    """The ruleset as main.cf sets it: ``local`` completes with this system's names.

    ``remote`` completes with remote_header_rewrite_domain.
    """
    swap, percent = conf.boolean("swap_bangpath"), conf.boolean("allow_percent_hack")
    if name == "remote":
        foreign = conf.text("remote_header_rewrite_domain")
        return Ruleset(foreign, foreign, swap, percent)
    return Ruleset(
        conf.text("myorigin") if conf.boolean("append_at_myorigin") else "",
        conf.text("mydomain") if conf.boolean("append_dot_mydomain") else "",
        swap,
        percent,
    )


# Where no rule finds anything to do, as with nearly every address: one @, and a dot within the domain.
_COMPLETE = re.compile(r"[^@]*+@[^@.]*+\.[^@]*+(?<!\.)")


def standard_form(address: str, ruleset: Ruleset) -> str:
    """The address in standard form; the empty address stays empty."""
    if not address or _COMPLETE.fullmatch(address):
        return address
    if "@" not in address:
        address = _with_domain(address, ruleset)
    local, at, domain = address.rpartition("@")
    if not at:
        return address
    if domain and ruleset.domain and "." not in domain and not domain.startswith("["):
        return f"{local}@{domain}.{ruleset.domain}"
    return without_trailing_dot(address)


def without_trailing_dot(address: str) -> str:
    """The address without one dot at its end; a bogus ``..`` or ``@.`` stays, to be seen in messages."""
    if address.endswith(".") and not address.endswith(("..", "@.")) and len(address) > 1:
        return address[:-1]
    return address


def swap_bangpath(address: str) -> str:
    """``site!user`` as ``user@site``; the first ``!`` counts."""
    site, _bang, user = address.partition("!")
    return f"{user}@{site}"


def promote_percent(address: str) -> str:
    """``user%domain`` as ``user@domain``; the last ``%`` counts."""
    local, _percent, domain = address.rpartition("%")
    return f"{local}@{domain}"


def _with_domain(address: str, ruleset: Ruleset) -> str:
    if quote_local(address) == address:
        if ruleset.swap_bangpath and "!" in address:
            return swap_bangpath(address)
        if ruleset.percent_hack and "%" in address:
            return promote_percent(address)
    return f"{address}@{ruleset.origin}" if ruleset.origin else address
