"""The SMTP client's settings."""

import pytest

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.outbound.settings import read_settings
from pyfix.outbound.trouble import While
from pyfix.wire.smtp_client import Stage


def settings(own=(), **parameters):
    parameters = {"myhostname": "h.example"} | parameters
    return read_settings(Config("/etc/pyfix", [Assignment(n, v, "main.cf", 1) for n, v in parameters.items()]), own)


def test_defaults_are_postfix_s():
    found = settings()
    assert found.helo_name == "h.example"
    assert found.port == 25
    assert (found.mx_address_limit, found.mx_session_limit) == (5, 2)
    assert found.skip_5xx_greeting
    assert found.connect_timeout == 30
    assert found.timeouts[Stage.END_OF_DATA] == 600
    assert found.timeouts[While.MESSAGE_BODY] == 180
    assert found.policy.types == ("A", "AAAA")
    assert found.look_up_mx
    assert set(found.timeouts) == {*Stage, While.MESSAGE_BODY}


def test_what_is_set():
    found = settings(
        ("192.0.2.1", "2001:DB8::1"),
        inet_protocols="ipv4",
        proxy_interfaces="::ffff:192.0.2.9",
        smtp_fallback_relay="a, [b]:26",
        smtp_host_lookup="dns, native",
        smtp_tcp_port="submission",
        smtp_mail_timeout="7s",
        disable_dns_lookups="yes",
    )
    assert found.policy.types == ("A",)
    assert found.policy.own_addresses == {"192.0.2.1", "2001:db8::1", "192.0.2.9"}
    assert found.policy.native
    assert found.fallback_relay == ("a", "[b]:26")
    assert found.port == 587
    assert found.timeouts[Stage.MAIL] == 7
    assert not found.look_up_mx
    assert not settings(smtp_dns_support_level="disabled").look_up_mx


def test_a_port_that_is_none():
    with pytest.raises(ConfigError, match="unknown service: gopher"):
        settings(smtp_tcp_port="gopher")
