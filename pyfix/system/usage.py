"""What a service's processes use, from /proc."""

import socket
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """The use of a process and of those below it."""

    # resident, in bytes; pages that processes share count for each
    memory: int
    processes: int
    # established TCP connections, and connected Unix stream sockets, its own calls to other services included
    connections: int


def is_running(pid: int) -> bool:
    """Whether there is a process of that number."""
    return bool(psutil.pid_exists(pid))


def usage(pid: int, unix_listeners: int) -> Usage:
    """What a process and its children use; ``unix_listeners`` of its sockets are not connections.

    A process that ends meanwhile, or that belongs to somebody else, counts as nothing.
    """
    memory = processes = connections = 0
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        tree = []
    for process in tree:
        try:
            memory += process.memory_info().rss
            connections += max(0, _connections(process) - unix_listeners)
            processes += 1
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return Usage(memory, processes, connections)


def _connections(process: psutil.Process) -> int:
    sockets = process.net_connections("all") if hasattr(process, "net_connections") else process.connections("all")
    return sum(1 for s in sockets if s.status == psutil.CONN_ESTABLISHED or _is_unix_stream(s.family, s.type))


def _is_unix_stream(family: int, kind: int) -> bool:
    return (family, kind) == (socket.AF_UNIX, socket.SOCK_STREAM)
