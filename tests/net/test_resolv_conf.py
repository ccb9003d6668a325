"""resolv.conf."""

import pytest

from pyfix.net.resolv_conf import NameServer, ResolvConf, parse_resolv_conf


@pytest.mark.parametrize(
    ("text", "conf"),
    [
        ("", ResolvConf((NameServer("127.0.0.1"),), 5, 2)),
        ("nameserver 192.0.2.1\n", ResolvConf((NameServer("192.0.2.1"),))),
        ("nameserver\t2001:db8::1 \r\n", ResolvConf((NameServer("2001:db8::1"),))),
        ("nameserver 127.0.0.1:5353", ResolvConf((NameServer("127.0.0.1", 5353),))),
        ("nameserver [::1]:54", ResolvConf((NameServer("::1", 54),))),
        ("nameserver [::1]:0\nnameserver 1.2.3.4:99999\nnameserver x\nnameserver", ResolvConf()),
        ("#nameserver 192.0.2.1\n;nameserver 192.0.2.1\nsearch example\n", ResolvConf()),
        ("options timeout:2 attempts:3 rotate", ResolvConf(timeout=2, attempts=3)),
        ("options timeout:0 attempts:999", ResolvConf(timeout=1, attempts=5)),
        ("options timeout:1_0 attempts:+1 timeout:\uff11", ResolvConf()),
    ],
)
def test_parsing(text, conf):
    assert parse_resolv_conf(text) == conf


def test_at_most_three_servers():
    conf = parse_resolv_conf("".join(f"nameserver 192.0.2.{i}\n" for i in range(9)))
    assert [server.address for server in conf.servers] == ["192.0.2.0", "192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize(
    ("address", "trusted"), [("127.0.0.53", True), ("::1", True), ("192.0.2.1", False), ("::127.0.0.1", False)]
)
def test_only_servers_of_this_machine_are_trusted(address, trusted):
    assert NameServer(address).trusted is trusted
