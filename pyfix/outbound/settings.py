"""What the configuration says to the SMTP client, in the form that it is used."""

from collections.abc import Sequence
from typing import NamedTuple

from pyfix.conf.config import Config
from pyfix.net.hostname import canonical_address
from pyfix.outbound.destination import DestinationError, parse_port
from pyfix.outbound.hosts import Policy
from pyfix.outbound.trouble import While
from pyfix.wire.smtp_client import Limits, Stage

_REPLY_LINES = 200
"""Lines in a reply. Greetings of some dozens of lines are seen; nobody has use for more."""

_FAMILY_TYPES = {"ipv4": ("A",), "ipv6": ("AAAA",), "all": ("A", "AAAA")}


class Settings(NamedTuple):
    """Parameters; those not explained bear Postfix's names without ``smtp_``."""

    helo_name: str
    myhostname: str
    relayhost: str
    fallback_relay: tuple[str, ...]
    port: int
    bind_address: str
    bind_address6: str
    connect_timeout: int
    # seconds for what is awaited
    timeouts: dict[Stage | While, int]
    limits: Limits
    line_length_limit: int
    mx_address_limit: int
    mx_session_limit: int
    skip_5xx_greeting: bool
    skip_quit_response: bool
    soft_bounce: bool
    cache_on_demand: bool
    cache_destinations: frozenset[str]
    cache_time_limit: int
    reuse_time_limit: int
    reuse_count_limit: int
    # DNS is asked for MX records
    look_up_mx: bool
    policy: Policy


def read_settings(conf: Config, own_addresses: Sequence[str]) -> Settings:
    """The settings, with the addresses of this system. Raises ConfigError."""
    seconds = conf.seconds
    helo, rset = seconds("smtp_helo_timeout"), seconds("smtp_rset_timeout")
    line = conf.integer("line_length_limit")
    return Settings(
        helo_name=conf.text("smtp_helo_name"),
        myhostname=conf.text("myhostname"),
        relayhost=conf.text("relayhost"),
        fallback_relay=conf.words("smtp_fallback_relay"),
        port=_port(conf),
        bind_address=conf.text("smtp_bind_address"),
        bind_address6=conf.text("smtp_bind_address6"),
        connect_timeout=seconds("smtp_connect_timeout"),
        timeouts={
            Stage.GREETING: helo,
            Stage.EHLO: helo,
            Stage.HELO: helo,
            Stage.MAIL: seconds("smtp_mail_timeout"),
            Stage.RCPT: seconds("smtp_rcpt_timeout"),
            Stage.DATA: seconds("smtp_data_init_timeout"),
            While.MESSAGE_BODY: seconds("smtp_data_xfer_timeout"),
            Stage.END_OF_DATA: seconds("smtp_data_done_timeout"),
            Stage.RSET: rset,
            Stage.QUIT: seconds("smtp_quit_timeout"),
        },
        limits=Limits(line, line, _REPLY_LINES),
        line_length_limit=conf.integer("smtp_line_length_limit"),
        mx_address_limit=conf.integer("smtp_mx_address_limit"),
        mx_session_limit=conf.integer("smtp_mx_session_limit"),
        skip_5xx_greeting=conf.boolean("smtp_skip_5xx_greeting"),
        skip_quit_response=conf.boolean("smtp_skip_quit_response"),
        soft_bounce=conf.boolean("soft_bounce"),
        cache_on_demand=conf.boolean("smtp_connection_cache_on_demand"),
        cache_destinations=frozenset(conf.words("smtp_connection_cache_destinations")),
        cache_time_limit=seconds("smtp_connection_cache_time_limit"),
        reuse_time_limit=seconds("smtp_connection_reuse_time_limit"),
        reuse_count_limit=conf.integer("smtp_connection_reuse_count_limit"),
        look_up_mx=not conf.boolean("disable_dns_lookups") and conf.text("smtp_dns_support_level") != "disabled",
        policy=_policy(conf, own_addresses),
    )


def _policy(conf: Config, own_addresses: Sequence[str]) -> Policy:
    protocols = conf.words("inet_protocols") or ("all",)
    proxies = conf.words("proxy_interfaces")
    return Policy(
        types=tuple(sorted({kind for protocol in protocols for kind in _FAMILY_TYPES[protocol]})),
        preference=conf.text("smtp_address_preference"),
        balance=conf.boolean("smtp_balance_inet_protocols"),
        address_limit=conf.integer("smtp_mx_address_limit"),
        randomize=conf.boolean("smtp_randomize_addresses"),
        defer_without_address=conf.boolean("smtp_defer_if_no_mx_address_found"),
        ignore_mx_error=conf.boolean("ignore_mx_lookup_error"),
        native="native" in conf.words("smtp_host_lookup"),
        own_addresses=frozenset(map(canonical_address, (*own_addresses, *proxies))),
    )


def _port(conf: Config) -> int:
    try:
        return parse_port(conf.text("smtp_tcp_port"))
    except DestinationError as error:
        raise conf.error("smtp_tcp_port", str(error)) from None
