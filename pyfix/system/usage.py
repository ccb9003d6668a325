"""What a service's processes use, from /proc."""

import glob
import os
import socket
from collections.abc import Collection
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """The use of a process and of those below it."""

    # resident, in bytes; pages that processes share count for each
    memory: int
    processes: int
    # established TCP connections, and connected Unix stream sockets, its own calls to other services included
    connections: int


class Load(NamedTuple):
    """What the processes of a service have taken."""

    # resident, in bytes; pages that processes share count for each
    memory: int
    processes: int
    # of processor time, by those that run
    cpu_seconds: float


_UNITS = "/sys/fs/cgroup/pyfix.slice/*.service/cgroup.procs"


def unit_processes() -> dict[str, list[int]]:
    """The processes of each service that systemd runs in pyfix.slice, by the unit's name."""
    found = {}
    for path in glob.glob(_UNITS):
        try:
            with open(path, encoding="ascii") as file:
                pids = [int(line) for line in file]
        except OSError:
            continue  # it has just ended
        if pids:
            found[os.path.basename(os.path.dirname(path))] = pids
    return found


def with_children(pids: Collection[int]) -> dict[int, list[int]]:
    """Each process and all those below it."""
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process.pid)
    found = {}
    for pid in pids:
        tree = [pid]
        for parent in tree:
            tree += children.get(parent, ())
        found[pid] = tree
    return found


def load(pids: Collection[int]) -> Load:
    """What these processes have taken; one that ends meanwhile counts as nothing."""
    memory = processes = 0
    seconds = 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                memory += process.memory_info().rss
                times = process.cpu_times()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        seconds += times.user + times.system
        processes += 1
    return Load(memory, processes, seconds)


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
