import socket

import psutil

from pyfix.conf.networks import Interface
from pyfix.system.interfaces import addresses_of, interfaces


def asked_by_a_socket():
    for family, bits in ((socket.AF_INET, 32), (socket.AF_INET6, 128)):
        for addresses in psutil.net_if_addrs().values():
            for one in addresses:
                if one.family == family:
                    mask = int.from_bytes(socket.inet_pton(family, one.netmask or "::"), "big")
                    yield Interface(one.address.partition("%")[0], mask.bit_count() if one.netmask else bits)


def test_the_kernels_files_tell_what_a_socket_tells():
    assert set(interfaces()) == set(asked_by_a_socket())


def test_addresses_of():
    assert "127.0.0.1" in addresses_of("localhost")
    assert addresses_of("192.0.2.1") == ("192.0.2.1",)
    assert addresses_of("no such host") == ()
    assert addresses_of("a" * 300) == ()
