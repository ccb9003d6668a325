"""What main.cf's lists say of an SMTP client."""

from collections.abc import Collection

from msgspec import Struct

from pyfix.conf.config import Config
from pyfix.tables.match import Client, network_list


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


class ClientLists:
    """The lists. ``own`` are this system's addresses. Raises ConfigError."""

    def __init__(self, conf: Config, own: Collection[str]) -> None:
        self._own = frozenset(own)
        self._mynetworks = network_list(conf, "mynetworks")
        self._exclusions = network_list(conf, "smtpd_forbid_bare_newline_exclusions")
        self._exceptions = network_list(conf, "smtpd_client_event_limit_exceptions")
        self._local = set(conf.words("local_header_rewrite_clients"))
        known = {"permit_inet_interfaces", "permit_mynetworks", "permit_sasl_authenticated"}
        for word in self._local - known:
            raise conf.error("local_header_rewrite_clients", f"{word} is not implemented by this version of pyfix")

    def standing(self, address: str, name: str) -> Standing:
        """How to treat a client. Raises TableError when a table of a list is in trouble."""
        client = Client(address, "" if name == "unknown" else name)
        trusted = self._mynetworks.matches(client)
        return Standing(
            trusted=trusted,
            lenient=self._exclusions.matches(client),
            counted=not self._exceptions.matches(client),
            local=("permit_inet_interfaces" in self._local and address in self._own)
            or ("permit_mynetworks" in self._local and trusted),
        )
