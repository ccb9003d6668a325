import pytest

from pyfix.conf.networks import Interface, own_interfaces, trusted_networks

PRESENT = (
    Interface("127.0.0.1", 8),
    Interface("192.0.2.2", 24),
    Interface("::1", 128),
    Interface("fd00::2", 64),
)


def addresses_of(host):
    return {"localhost": ["127.0.0.1", "::1"], "mail.example": ["203.0.113.5"]}.get(host, [])


@pytest.mark.parametrize(
    ("names", "protocols", "expected"),
    [
        (["all"], ["all"], ["127.0.0.1", "192.0.2.2", "::1", "fd00::2"]),
        (["all"], ["ipv4"], ["127.0.0.1", "192.0.2.2"]),
        (["all"], [], ["127.0.0.1", "192.0.2.2", "::1", "fd00::2"]),
        (["loopback-only"], ["all"], ["127.0.0.1", "::1"]),
        (["localhost"], ["ipv6"], ["::1"]),
        (["192.0.2.2", "[fd00::2]", "192.0.2.2"], ["all"], ["192.0.2.2", "fd00::2"]),
        (["mail.example", "nowhere.example"], ["all"], ["203.0.113.5"]),
        ([], ["all"], []),
    ],
)
def test_own_interfaces(names, protocols, expected):
    assert [one.address for one in own_interfaces(names, protocols, PRESENT, addresses_of)] == expected


def test_an_address_keeps_its_prefix():
    assert own_interfaces(["192.0.2.2"], ["all"], PRESENT, addresses_of) == (Interface("192.0.2.2", 24),)
    assert own_interfaces(["mail.example"], ["all"], PRESENT, addresses_of) == (Interface("203.0.113.5", 32),)


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("host", ["127.0.0.1/32", "192.0.2.2/32", "[::1]/128", "[fd00::2]/128"]),
        ("subnet", ["127.0.0.0/8", "192.0.2.0/24", "[::1]/128", "[fd00::]/64"]),
        ("class", ["127.0.0.0/8", "192.0.2.0/24", "[::1]/128", "[fd00::]/64"]),
    ],
)
def test_trusted_networks(style, expected):
    assert trusted_networks(style, PRESENT) == expected


def test_classes():
    own = [Interface("10.1.2.3", 24), Interface("172.16.5.6", 30), Interface("203.0.113.9", 29)]
    assert trusted_networks("class", own) == ["10.0.0.0/8", "172.16.0.0/16", "203.0.113.0/24"]
