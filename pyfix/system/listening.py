"""Listening sockets as a .socket unit describes them, for ``pyfix up``. Source: systemd.socket(5)."""

import errno
import os
import socket
import stat
from typing import NamedTuple

from pyfix.conf.unit_kinds import SocketUnit
from pyfix.system.unix import short_path

# <linux/in.h>, <linux/in6.h>: IP_FREEBIND and IPV6_FREEBIND
_FREE_BIND = {socket.AF_INET: (socket.SOL_IP, 15, 1), socket.AF_INET6: (socket.IPPROTO_IPV6, 78, 1)}


class Owner(NamedTuple):
    """To whom a socket file is given; -1 leaves it as it is."""

    uid: int = -1
    gid: int = -1


def listen_on(address: str, unit: SocketUnit, owner: Owner) -> socket.socket:
    """A non-blocking listening socket at one of the unit's addresses; raises OSError, with the address in its text.

    A socket file that nobody listens on any more is replaced; anything else in the way is an error.
    """
    try:
        return _listen_unix(address, unit, owner) if address.startswith("/") else _listen_tcp(address, unit)
    except OSError as error:
        raise OSError(error.errno, f"{unit.name}: cannot listen on {address}: {error.strerror}") from error


def forget(address: str) -> None:
    """Removes the socket file that listen_on() made; no file, no work."""
    if address.startswith("/"):
        try:
            os.unlink(address)
        except FileNotFoundError:
            return


def _listen_unix(path: str, unit: SocketUnit, owner: Owner) -> socket.socket:
    _make_directories(os.path.dirname(path), unit.directory_mode)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with short_path(path) as name:
            listener.bind(name)
        # Nobody can connect before listen(): owner and mode are right from the first moment.
        os.chown(path, owner.uid, owner.gid)
        os.chmod(path, unit.mode)
        listener.listen(unit.backlog)
    except OSError:
        listener.close()
        raise
    return listener


def _make_directories(directory: str, mode: int) -> None:
    if directory and not os.path.isdir(directory):
        _make_directories(os.path.dirname(directory), mode)
        os.mkdir(directory)
        os.chmod(directory, mode)  # whatever the umask


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode) or _answers(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe, short_path(path) as name:
        return probe.connect_ex(name) in (0, errno.EAGAIN, errno.EINPROGRESS)


def _listen_tcp(address: str, unit: SocketUnit) -> socket.socket:
    host, _, port = address.rpartition(":")
    numeric = socket.getaddrinfo(
        host.strip("[]") or _any_address(),
        int(port),
        type=socket.SOCK_STREAM,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
    family, kind, _, _, where = numeric[0]
    listener = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(unit.ipv6_only))
        if unit.free_bind:
            listener.setsockopt(*_FREE_BIND[family])
        listener.bind(where)
        listener.listen(unit.backlog)
    except OSError:
        listener.close()
        raise
    return listener


def _any_address() -> str:
    """Where a port without address listens: both families where there is IPv6, else IPv4."""
    return "::" if os.path.exists("/proc/net/if_inet6") else "0.0.0.0"
