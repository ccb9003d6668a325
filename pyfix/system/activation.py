"""Sockets that systemd (or ``pyfix up``) listens on and hands over: LISTEN_FDS, LISTEN_FDNAMES.

Source: sd_listen_fds(3), systemd.socket(5).
"""

import os
import socket
from typing import NamedTuple

_FIRST_FD = 3


class Listener(NamedTuple):
    """A listening socket, and the name its unit gave it (FileDescriptorName=)."""

    name: str
    socket: socket.socket

    @property
    def path(self) -> str:
        """Where a Unix socket is bound; empty for other families."""
        address = self.socket.getsockname()
        return str(address) if self.socket.family == socket.AF_UNIX else ""


def take_listeners() -> list[Listener]:
    """The sockets meant for this process, non-blocking and close-on-exec; the environment forgets them."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isascii() or not count.isdigit() or pid != str(os.getpid()):
        return []
    names += [""] * (int(count) - len(names))
    listeners = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        listeners.append(Listener(names[fd - _FIRST_FD], sock))
    return listeners
