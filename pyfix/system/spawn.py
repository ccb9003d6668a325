"""Starting a service's process the way systemd does: sockets from descriptor 3 on, an environment of its own.

The child leads a process group, dies with the supervisor, and has no descriptor but those given to it.
Exit statuses of a start that failed are systemd's. Source: sd_listen_fds(3), systemd.exec(5).
"""

import ctypes
import fcntl
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

_FIRST_FD = 3
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_EXIT_EXEC, _EXIT_GROUP, _EXIT_USER, _EXIT_LIMITS = 203, 216, 217, 205

_libc = ctypes.CDLL(None, use_errno=True)


class Credentials(NamedTuple):
    """As whom a process runs."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class Process(NamedTuple):
    """A process to start."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    # name and descriptor of each listening socket
    listeners: Sequence[tuple[str, int]] = ()
    # None: as the supervisor
    credentials: Credentials | None = None
    umask: int = 0o022
    # 0: as the supervisor
    limit_nofile: int = 0


def become_subreaper() -> None:
    """Makes this process the parent of orphans below it, so that it can reap them; without effect on old kernels."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def spawn(process: Process) -> int:
    """Forks and executes; the process ID. Raises OSError when there can be no fork.

    Signals are blocked over the fork: one that arrives in the child before its exec must not run a handler of the
    parent, which would write into the parent's own wake-up pipe.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    old_mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(process, parent)
        _lead_group(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    return pid


def _lead_group(pid: int) -> None:
    """Makes the child the leader of its group at once, so that signals to the group reach it from now on."""
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):
        return  # it is past its exec, or dead: then it has done this itself


def _become(process: Process, parent: int) -> NoReturn:
    """In the child: everything up to the exec."""
    status = _EXIT_EXEC
    try:
        os.setpgid(0, 0)
        _pass_descriptors([fd for _, fd in process.listeners])
        status = _EXIT_LIMITS
        if process.limit_nofile:
            _limit_descriptors(process.limit_nofile)
        os.umask(process.umask)
        if process.credentials is not None:
            status = _EXIT_GROUP
            os.setgroups(process.credentials.groups)
            os.setresgid(process.credentials.gid, process.credentials.gid, process.credentials.gid)
            status = _EXIT_USER
            os.setresuid(process.credentials.uid, process.credentials.uid, process.credentials.uid)
        # After the change of user, which clears it; a parent that went before is noticed by its number.
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)
        status = _EXIT_EXEC
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(number) is not signal.SIG_DFL and number < signal.SIGRTMIN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(process.argv[0], list(process.argv), _environment(process))  # noqa: S606 -- no shell is meant
    except (OSError, ValueError) as error:
        os.write(2, f"{process.argv[0]}: cannot be started: {error}\n".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


def _pass_descriptors(fds: Sequence[int]) -> None:
    """Puts standard input to /dev/null and the listening sockets at 3, 4, ...: all other descriptors close at exec."""
    null = os.open(os.devnull, os.O_RDONLY)
    if null != 0:
        os.dup2(null, 0)
    # First out of the way of the places where they shall go.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FD + len(fds)) for fd in fds]
    for place, copy in enumerate(copies, _FIRST_FD):
        os.dup2(copy, place)


def _limit_descriptors(wanted: int) -> None:
    """Sets both limits, as systemd does; a process that may not raise the hard limit makes do with it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def _environment(process: Process) -> dict[str, str]:
    environment = dict(process.environment)
    if process.listeners:
        environment["LISTEN_PID"] = str(os.getpid())
        environment["LISTEN_FDS"] = str(len(process.listeners))
        environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in process.listeners)
    if "WATCHDOG_USEC" in environment:
        environment["WATCHDOG_PID"] = str(os.getpid())
    return environment
