"""Resolution: which class an address belongs to, and by which transport to which next hop it goes.

First every local domain is taken off the end of the address: ``user%elsewhere@here``, ``elsewhere!user@here`` and
``"user@elsewhere"@here`` all end up at ``elsewhere``, because that is where Postfix and others would send them; who
may relay is decided on that domain. What remains is a recipient of this system, or an address in another domain.

Source: trivial-rewrite(8), ADDRESS_CLASS_README, postconf(5) resolve_dequoted_address.
"""

from typing import Literal, NamedTuple

from pyfix.mail.address import quote_local
from pyfix.net.hostname import ascii_domain, canonical_address, is_hostname, literal_address
from pyfix.rewriting.standard import Ruleset, promote_percent, standard_form, swap_bangpath, without_trailing_dot
from pyfix.rewriting.transport import Route, address_entry, domain_entry, read_route, table_route
from pyfix.service.rewrite import Resolved
from pyfix.tables.key import fold
from pyfix.tables.maps import Maps, find_address
from pyfix.tables.match import MatchList
from pyfix.tables.table import TableError

MAX_LENGTH = 4096
"""Longer addresses are not looked at."""

_MAX_ROUNDS = 1000
_BAD_SYNTAX = "5.1.3 bad address syntax"
_TROUBLE = "4.3.0 address resolver failure"
_TABLE_NAMES: dict[str, str] = {
    "local": "local recipient table",
    "virtual_alias": "virtual alias table",
    "virtual_mailbox": "virtual mailbox table",
    "relay": "relay recipient table",
}

AddressClass = Literal["local", "virtual_alias", "virtual_mailbox", "relay", "default", "error"]


class Settings(NamedTuple):
    """What main.cf says about resolution."""

    # how addresses that remain after a local domain are completed
    ruleset: Ruleset
    # this system's own addresses, in shortest form
    own_addresses: frozenset[str]
    myhostname: str
    myorigin: str
    local_transport: str
    virtual_transport: str
    relay_transport: str
    default_transport: str
    relayhost: str
    empty_address_recipient: str
    recipient_delimiter: str
    owner_request_special: bool
    resolve_dequoted_address: bool
    resolve_null_domain: bool
    resolve_numeric_domain: bool
    # a local part may begin with "-", which a command could take for an option
    allow_min_user: bool
    show_user_unknown_table_name: bool
    # transport_maps: a domain stands for its subdomains too
    transport_parents: bool


class Tables(NamedTuple):
    """The lists and tables that decide."""

    mydestination: MatchList[str]
    virtual_alias_domains: MatchList[str]
    virtual_mailbox_domains: MatchList[str]
    relay_domains: MatchList[str]
    transport_maps: Maps
    # an address found in one of these is rewritten later, and so exists
    aliases: tuple[Maps, ...]
    local_recipient_maps: Maps
    virtual_mailbox_maps: Maps
    relay_recipient_maps: Maps


class Stripped(NamedTuple):
    """An address without its local domains."""

    address: str
    local: bool


class Site:
    """What is known of a domain: where mail for it goes."""

    __slots__ = ("address_class", "domain", "mapped", "route")

    def __init__(self, domain: str, address_class: AddressClass, route: Route) -> None:
        self.domain = domain
        self.address_class = address_class
        # without the transport table, and with its entry for the domain; None as long as nobody asked for that
        self.route = route
        self.mapped: Route | None = None


class Resolver:
    """Resolves addresses. All methods may raise TableError."""

    def __init__(self, settings: Settings, tables: Tables) -> None:
        self._settings = settings
        self._tables = tables
        self._ruleset = settings.ruleset
        self._aliases = tuple(maps for maps in tables.aliases if maps)
        self._recipient_maps: dict[str, Maps] = {
            "local": tables.local_recipient_maps,
            "virtual_mailbox": tables.virtual_mailbox_maps,
            "relay": tables.relay_recipient_maps,
        }

    def resolve(self, recipient: str, sites: dict[str, Site] | None = None) -> Resolved:
        """Where a recipient, in internal form, is to be delivered.

        ``sites`` keeps what was found out about domains, for the other recipients of the same call.
        """
        if len(recipient) > MAX_LENGTH:
            return _unresolved(recipient, "error", _BAD_SYNTAX)
        address, (local_part, _at, domain) = recipient, recipient.rpartition("@")
        # Nothing but the domain decides what becomes of such an address.
        plain = bool(local_part) and not _routed(local_part)
        site = sites.get(domain) if sites and plain else None
        if site is None:
            stripped = self.strip(standard_form(recipient, self._ruleset))
            if stripped is None:
                return _unresolved(recipient, "error", _BAD_SYNTAX)
            address, local = self._with_literal(stripped)
            local_part, _at, domain = address.rpartition("@")
            if not _is_domain(domain):
                return _unresolved(address, "error", _BAD_SYNTAX)
            site = self._site(domain, local=local)
            if sites is not None and plain and address == recipient:
                sites[domain] = site
        if address.startswith("-") and not self._settings.allow_min_user:
            return _unresolved(address, "error", _BAD_SYNTAX)
        route = self._route(address, site)
        listed, table = self._listing(address, site.address_class)
        return Resolved(
            address,
            route.transport,
            route.nexthop,
            site.address_class,
            listed,
            table,
            routed=not plain and _routed(local_part),
        )

    def strip(self, recipient: str) -> Stripped | None:
        """The recipient without its local domains but the first; None when that never ends."""
        settings, text, saved = self._settings, recipient, ""
        for _round in range(_MAX_ROUNDS):
            text = without_trailing_dot(text)
            if settings.resolve_null_domain:
                text = text.removesuffix("@")
            head, at, domain = text.rpartition("@")
            if at:
                if domain and not self.is_local(domain):
                    return Stripped(text, local=False)
                text, saved = head, at + domain
            rest = self._routed_further(text)
            if rest is not None:
                text = standard_form(rest, self._ruleset)
            elif text:
                return Stripped(text + (saved or "@" + settings.myhostname), local=True)
            else:
                text = settings.empty_address_recipient
        return None

    def is_local(self, domain: str) -> bool:
        """Whether mydestination has the domain, or it is the literal of one of this system's addresses."""
        domain = fold(domain.removesuffix(".") or domain)
        if self._tables.mydestination.matches(domain):
            return True
        if not (domain.startswith("[") and domain.endswith("]")):
            return False
        address = literal_address(domain[1:-1])
        return bool(address) and canonical_address(address) in self._settings.own_addresses

    def _routed_further(self, text: str) -> str | None:
        """Where what stood before a local domain names another domain: that address, else None."""
        percent, bang = "%" in text and self._ruleset.percent_hack, "!" in text and self._ruleset.swap_bangpath
        if "@" not in text and not percent and not bang:
            return None
        if quote_local(text) == text:
            return text
        # It stood in quotes, and is cracked open lest it be relayed by a host that does so.
        if not self._settings.resolve_dequoted_address:
            return None
        if text.startswith("@") and ":" in text:
            return text.partition(":")[2]  # a route: what follows it counts
        if "@" in text:
            return text
        return promote_percent(text) if percent else swap_bangpath(text)

    def _with_literal(self, stripped: Stripped) -> Stripped:
        """A bare network address as domain becomes an address literal, where that is wanted."""
        local_part, _at, domain = stripped.address.rpartition("@")
        if not (self._settings.resolve_numeric_domain and literal_address(domain)):
            return stripped
        literal = f"[IPv6:{domain}]" if ":" in domain else f"[{domain}]"
        return Stripped(f"{local_part}@{literal}", stripped.local or self.is_local(literal))

    def _site(self, domain: str, *, local: bool) -> Site:
        if local:
            return Site(domain, "local", read_route(self._settings.local_transport, fold(domain)))
        return Site(domain, *self._remote_route(fold(domain)))

    def _remote_route(self, domain: str) -> tuple[AddressClass, Route]:
        settings, tables = self._settings, self._tables
        if tables.virtual_alias_domains.matches(domain):
            table = " in virtual alias table" if settings.show_user_unknown_table_name else ""
            return "virtual_alias", Route("error", "5.1.1 User unknown" + table)
        if tables.virtual_mailbox_domains.matches(domain):
            return "virtual_mailbox", read_route(settings.virtual_transport, domain)
        nexthop = settings.relayhost or domain
        if tables.relay_domains.matches(domain):
            return "relay", read_route(settings.relay_transport, nexthop)
        return "default", read_route(settings.default_transport, nexthop)

    def _route(self, address: str, site: Site) -> Route:
        settings, maps = self._settings, self._tables.transport_maps
        if not maps or site.address_class == "virtual_alias":
            return site.route
        value = address_entry(
            maps, address, settings.recipient_delimiter, owner_request_special=settings.owner_request_special
        )
        if value is not None:
            return table_route(value, site.domain, site.route)
        if site.mapped is None:
            value = domain_entry(maps, site.domain, parents=settings.transport_parents)
            site.mapped = site.route if value is None else table_route(value, site.domain, site.route)
        return site.mapped

    def _listing(self, address: str, address_class: AddressClass) -> tuple[Literal["yes", "no", "unknown"], str]:
        """Whether the recipient exists, and the table that does not have it or cannot tell."""
        table = _TABLE_NAMES.get(address_class, "")
        try:
            for maps in self._aliases:
                if self._has(maps, address):
                    return "yes", ""
            if address_class == "virtual_alias":
                return "no", table
            members = self._recipient_maps.get(address_class)
            if not members:
                return "unknown", ""
            return ("yes", "") if self._has(members, address) else ("no", table)
        except TableError:
            return "unknown", table or _TABLE_NAMES["virtual_alias"]

    def _has(self, maps: Maps, address: str) -> bool:
        settings = self._settings
        value = find_address(
            maps,
            address,
            settings.recipient_delimiter,
            self._is_own,
            owner_request_special=settings.owner_request_special,
        )
        return value is not None

    def _is_own(self, domain: str) -> bool:
        return fold(domain) == fold(self._settings.myorigin) or self.is_local(domain)


def in_trouble(recipient: str) -> Resolved:
    """The answer when a table that decides cannot be used now: the mail waits."""
    return _unresolved(recipient, "retry", _TROUBLE)


def _unresolved(recipient: str, transport: str, reason: str) -> Resolved:
    return Resolved(recipient, transport, reason, "error")


def _routed(local_part: str) -> bool:
    """Whether the next host may take a local part for a route."""
    return "@" in local_part or "%" in local_part or "!" in local_part


def _is_domain(domain: str) -> bool:
    """Whether mail may be sent to the domain: a host name, or an address literal, never a bare address."""
    if domain.startswith("["):
        return domain.endswith("]") and bool(literal_address(domain[1:-1]))
    return is_hostname(ascii_domain(domain))
