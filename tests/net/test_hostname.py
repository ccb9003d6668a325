"""Host names and addresses."""

import pytest

from pyfix.net.hostname import (
    address_family,
    ascii_domain,
    canonical_address,
    equal_names,
    is_hostname,
    literal_address,
    reverse_name,
)


@pytest.mark.parametrize("name", ["a", "mail.example.com", "a-b.c_d.e", "1.a", "_x.y", "x" * 63 + ".de", "localhost"])
def test_host_names(name):
    assert is_hostname(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-.b",
        "a b",
        "a\n",
        "a\0",
        "123",
        "1.2.3.4",
        "[1.2.3.4]",
        "::1",
        "x" * 64,
        "a." * 128 + "b",
        "\u00e4.de",
        "\u212a.de",
        "a\u0661",
    ],
)
def test_what_is_no_host_name(name):
    assert not is_hostname(name)


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("192.0.2.1", 4),
        ("::1", 6),
        ("2001:DB8::1", 6),
        ("192.0.2.1 ", 0),
        ("192.0.2.1\n", 0),
        ("192.0.2.01", 0),
        ("192.0.2", 0),
        ("fe80::1%eth0", 0),
        ("\u0661.2.3.4", 0),
        ("x", 0),
        ("1" * 1000, 0),
    ],
)
def test_families(text, family):
    assert address_family(text) == family


@pytest.mark.parametrize(
    ("literal", "address"),
    [("192.0.2.1", "192.0.2.1"), ("IPv6:::1", "::1"), ("ipv6:2001:db8::1", "2001:db8::1"), ("::1", "::1"), ("x", "")],
)
def test_literals(literal, address):
    assert literal_address(literal) == address


def test_domains_for_dns():
    assert ascii_domain("example.com") == "example.com"
    assert ascii_domain("b\u00fccher.example") == "xn--bcher-kva.example"
    assert ascii_domain("\u00fc" * 100) == ""
    assert ascii_domain("\u00fc..x") == ""


def test_reverse_names():
    assert reverse_name("192.0.2.1") == "1.2.0.192.in-addr.arpa"
    assert reverse_name("2001:db8::1").endswith(".8.b.d.0.1.0.0.2.ip6.arpa")


def test_forms_of_one_address_are_equal():
    assert canonical_address("2001:DB8:0:0::1") == "2001:db8::1"
    assert canonical_address("::ffff:192.0.2.1") == "192.0.2.1"


def test_names_are_equal_in_any_case_of_ascii_letters_only():
    assert equal_names("Mail.Example", "mAIL.eXAMPLE")
    assert not equal_names("k", "\u212a")
