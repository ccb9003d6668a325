import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from pyfix.conf.unit_kinds import SocketUnit
from pyfix.system.listening import Owner, forget, listen_on


def unit(**settings):
    return SocketUnit(name="pyfix-x.socket", service="pyfix-x.service", listen=(), fd_name="x", **settings)


@pytest.fixture
def umask():
    old = os.umask(0o077)
    yield
    os.umask(old)


def test_modes_do_not_depend_on_the_umask(tmp_path, umask):
    path = tmp_path / "run/x/socket"
    with listen_on(str(path), unit(mode=0o660, directory_mode=0o751), Owner()):
        assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent, path.parent.parent)] == [
            0o660,
            0o751,
            0o751,
        ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_socket_is_given_to_its_owner(tmp_path):
    path = tmp_path / "socket"
    with listen_on(str(path), unit(), Owner(12345, 23456)):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_a_listener_does_not_block_and_is_not_inherited(tmp_path):
    with listen_on(str(tmp_path / "socket"), unit(), Owner()) as listener:
        assert (listener.getblocking(), listener.get_inheritable()) == (False, False)


@pytest.mark.parametrize(("address", "family"), [("127.0.0.1", socket.AF_INET), ("[::1]", socket.AF_INET6)])
def test_addresses(address, family):
    if family == socket.AF_INET6 and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    with socket.socket(family) as other:
        other.bind((address.strip("[]"), 0))
        port = other.getsockname()[1]
    with listen_on(f"{address}:{port}", unit(ipv6_only=True), Owner()) as listener:
        assert (listener.family, listener.getsockname()[1]) == (family, port)


def test_a_port_alone_takes_both_families():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    with listen_on(str(port), unit(), Owner()), socket.create_connection(("127.0.0.1", port)) as client:
        assert client.getpeername()[1] == port


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=f"pyfix-x.socket: cannot listen on {address}: ") as caught:
            listen_on(address, unit(), Owner())
    assert caught.value.errno == errno.EADDRINUSE


def test_a_host_name_is_no_address():
    with pytest.raises(OSError, match=r"cannot listen on localhost:25"):
        listen_on("localhost:25", unit(), Owner())


def test_forgetting_what_is_gone_is_no_work(tmp_path):
    path = tmp_path / "socket"
    listen_on(str(path), unit(), Owner()).close()
    forget(str(path))
    assert not path.exists()
    forget(str(path))
    forget("127.0.0.1:25")
