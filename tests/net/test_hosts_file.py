"""/etc/hosts."""

from pyfix.net.hosts_file import Hosts

HOSTS = Hosts(
    "# comment\n127.0.0.1\tlocalhost l # more\n::1 localhost\n192.0.2.1 b\u00e4d good.example\n"
    "192.0.2.1 second\nnonsense x\n192.0.2.3\n\n192.0.2.4 -bad\n"
)


def test_names_of_addresses():
    assert HOSTS.name("127.0.0.1") == "localhost"
    assert HOSTS.name("0:0::1") == "localhost"
    assert HOSTS.name("192.0.2.1") == "good.example"
    assert [HOSTS.name(a) for a in ("192.0.2.3", "192.0.2.4", "192.0.2.9")] == ["", "", ""]


def test_addresses_of_names():
    assert HOSTS.addresses("LocalHost") == ("127.0.0.1", "::1")
    assert HOSTS.addresses("second") == ("192.0.2.1",)
    assert HOSTS.addresses("x") == ()
