"""What main.cf's lists say of an SMTP client."""

from collections.abc import Collection
from functools import lru_cache

from msgspec import Struct

from pyfix.conf.config import Config
from pyfix.tables.match import Client, network_list

_LISTS = (
    "mynetworks",
    "smtpd_forbid_bare_newline_exclusions",
    "smtpd_client_event_limit_exceptions",
    "smtpd_authorized_verp_clients",
)
# Clients whose standing is kept.
_KEPT = 1000


class Standing(Struct, frozen=True):
    """How a client is to be treated."""

    # mynetworks
    trusted: bool
    # smtpd_forbid_bare_newline_exclusions
    lenient: bool
    # not in smtpd_client_event_limit_exceptions
    counted: bool
    # local_header_rewrite_clients: its headers are completed with this system's domain
    local: bool
    # smtpd_authorized_verp_clients
    verp: bool = False


class ClientLists:
    """The lists. ``own`` are this system's addresses. Raises ConfigError.

    What lists without tables say of a client is found out once.
    """

    def __init__(self, conf: Config, own: Collection[str]) -> None:
        self._own = frozenset(own)
        lists = (network_list(conf, name) for name in _LISTS)
        self._mynetworks, self._exclusions, self._exceptions, self._verp = lists
        self._local = set(conf.words("local_header_rewrite_clients"))
        known = {"permit_inet_interfaces", "permit_mynetworks", "permit_sasl_authenticated"}
        for word in self._local - known:
            raise conf.error("local_header_rewrite_clients", f"{word} is not implemented by this version of pyfix")
        fixed = all(_is_fixed(word.lstrip("!")) for name in _LISTS for word in conf.words(name))
        self._find = lru_cache(_KEPT)(self._find_out) if fixed else self._find_out

    def standing(self, address: str, name: str) -> Standing:
        """How to treat a client. Raises TableError when a table of a list is in trouble."""
        return self._find(address, name)

    def _find_out(self, address: str, name: str) -> Standing:
        client = Client(address, "" if name == "unknown" else name)
        trusted = self._mynetworks.matches(client)
        return Standing(
            trusted=trusted,
            lenient=self._exclusions.matches(client),
            counted=not self._exceptions.matches(client),
            local=("permit_inet_interfaces" in self._local and address in self._own)
            or ("permit_mynetworks" in self._local and trusted),
            verp=self._verp.matches(client),
        )


def _is_fixed(pattern: str) -> bool:
    """Whether a pattern is certainly no table, and no file that may name one."""
    return pattern.startswith("[") or not (":" in pattern or pattern.startswith("/"))
