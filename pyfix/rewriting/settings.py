"""A Resolver as main.cf describes it."""

from collections.abc import Iterable

from pyfix.conf.config import Config
from pyfix.net.hostname import canonical_address
from pyfix.rewriting.resolve import Resolver, Settings, Tables
from pyfix.rewriting.standard import read_ruleset
from pyfix.tables.maps import open_maps
from pyfix.tables.match import domain_list, string_list

_ALIASES = ("recipient_canonical_maps", "canonical_maps", "virtual_alias_maps")
_TRANSPORTS = ("local_transport", "virtual_transport", "relay_transport", "default_transport")


def read_resolver(conf: Config, own_addresses: Iterable[str]) -> Resolver:
    """The resolver with its tables opened; ConfigError when main.cf is wrong.

    ``own_addresses`` are the addresses of inet_interfaces and proxy_interfaces.
    """
    return Resolver(read_settings(conf, own_addresses), open_tables(conf))


def read_settings(conf: Config, own_addresses: Iterable[str]) -> Settings:
    """The values that decide, checked against each other."""
    for name in ("relayhost", "myorigin"):
        if len(conf.words(name)) > 1:
            raise conf.error(name, "more than one value", "write one value")
    if conf.text("relayhost") and conf.text("relayhost") == conf.text("myhostname"):
        raise conf.error("relayhost", "the same as myhostname", "mail would loop; leave it empty or name another host")
    for name in _TRANSPORTS:
        if not conf.text(name).partition(":")[0]:
            raise conf.error(name, "the transport is missing", "write transport or transport:nexthop")
    return Settings(
        ruleset=read_ruleset(conf, "local"),
        own_addresses=frozenset(canonical_address(address) for address in own_addresses),
        myhostname=conf.text("myhostname"),
        myorigin=conf.text("myorigin"),
        local_transport=conf.text("local_transport"),
        virtual_transport=conf.text("virtual_transport"),
        relay_transport=conf.text("relay_transport"),
        default_transport=conf.text("default_transport"),
        relayhost=conf.text("relayhost"),
        empty_address_recipient=conf.text("empty_address_recipient"),
        recipient_delimiter=conf.text("recipient_delimiter"),
        owner_request_special=conf.boolean("owner_request_special"),
        resolve_dequoted_address=conf.boolean("resolve_dequoted_address"),
        resolve_null_domain=conf.boolean("resolve_null_domain"),
        resolve_numeric_domain=conf.boolean("resolve_numeric_domain"),
        allow_min_user=conf.boolean("allow_min_user"),
        show_user_unknown_table_name=conf.boolean("show_user_unknown_table_name"),
        transport_parents="transport_maps" in conf.words("parent_domain_matches_subdomains"),
    )


def open_tables(conf: Config) -> Tables:
    """The lists and tables that decide."""
    return Tables(
        mydestination=string_list(conf, "mydestination"),
        virtual_alias_domains=string_list(conf, "virtual_alias_domains"),
        virtual_mailbox_domains=string_list(conf, "virtual_mailbox_domains"),
        relay_domains=domain_list(conf, "relay_domains"),
        transport_maps=open_maps(conf, "transport_maps"),
        aliases=tuple(open_maps(conf, name) for name in _ALIASES),
        local_recipient_maps=open_maps(conf, "local_recipient_maps"),
        virtual_mailbox_maps=open_maps(conf, "virtual_mailbox_maps"),
        relay_recipient_maps=open_maps(conf, "relay_recipient_maps"),
    )
