"""``pyfix up``: starts, watches and ends the services of unit files where systemd does not.

One thread, one selector: listening sockets of services that are down, the notify socket, watched directories, and the
wake-up pipe of signals. Sockets outlive their services; a connection that comes while a service is down, or being
restarted, waits in the backlog.
"""

import json
import os
import selectors
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pyfix.conf.unit_kinds import PathUnit, ServiceUnit, SocketUnit, TimerUnit
from pyfix.system import listening
from pyfix.system.clock import monotonic
from pyfix.system.identity import Identities
from pyfix.system.spawn import Credentials, Process, become_subreaper, spawn
from pyfix.system.supervised import NEVER, Service
from pyfix.system.watch import Watch, holds_files

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
_NOTICE_LIMIT = 4096
_CREDENTIALS = struct.Struct("3i")
_MISSING_DIRECTORY_POLL = 5.0


class Plan(NamedTuple):
    """What to run."""

    services: Mapping[str, ServiceUnit]
    sockets: tuple[SocketUnit, ...] = ()
    timers: tuple[TimerUnit, ...] = ()
    paths: tuple[PathUnit, ...] = ()
    # for every service
    environment: Mapping[str, str] = {}
    # where RuntimeDirectory= is
    runtime: str = "/run"
    # a command as the unit says it -> as it is executed
    command: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda argv: argv


class _Listener(NamedTuple):
    """A listening socket, under the name that its service knows it by."""

    name: str
    address: str
    socket: socket.socket


class Supervisor:
    """Runs a plan. ``say`` is told what an administrator should know; the state is written to ``state_file``."""

    def __init__(self, plan: Plan, identities: Identities, say: Callable[[str], None], state_file: str) -> None:
        self._plan = plan
        self._identities = identities
        self._say = say
        self._state_file = state_file
        self._services = {name: Service(unit, self) for name, unit in plan.services.items()}
        # by service
        self._listeners: dict[str, list[_Listener]] = {}
        self._selector = selectors.DefaultSelector()
        self._watch = Watch()
        self._notify, self._notify_name = _notify_socket()
        # by timer and path unit
        self._alarms: dict[str, float] = {}
        self._stopping = False
        self._dirty = True

    def run(self, ready: Callable[[], None]) -> None:
        """Runs until SIGTERM or SIGINT and until everything has ended.

        ``ready`` is called when all sockets are open and the state file is there.
        Raises OSError when a socket cannot be opened; then none is left, and nothing was started.
        """
        become_subreaper()
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _ignore)
        self._selector.register(wake_read, selectors.EVENT_READ, lambda: self._signals(wake_read))
        self._selector.register(self._notify, selectors.EVENT_READ, self._notices)
        self._selector.register(self._watch, selectors.EVENT_READ, self._directories_changed)
        try:
            self._listen()
            self._begin()
            self._write_state()
            ready()
            while not self._stopping or not all(service.ended for service in self._services.values()):
                self._turn()
        finally:
            self._forget_listeners()
            self._remove_state()

    def _listen(self) -> None:
        for unit in self._plan.sockets:
            owner = self._identities.owner(unit)
            for address in unit.listen:
                listener = listening.listen_on(address, unit, owner)
                self._listeners.setdefault(unit.service, []).append(_Listener(unit.fd_name, address, listener))

    def _begin(self) -> None:
        """Starts what nothing else will start, and arms the timers and paths that start the rest."""
        now = monotonic()
        for timer in self._plan.timers:
            if timer.on_active:
                self._alarms[timer.name] = now + min(timer.on_active)
        triggered = {unit.service for unit in self._plan.sockets}
        triggered.update(timer.service for timer in self._plan.timers)
        triggered.update(path.service for path in self._plan.paths)
        for name, service in self._services.items():
            if name in triggered:
                self._poll_listeners(service)
            else:
                service.start(now)
        self._look_at_paths(now)

    def _turn(self) -> None:
        """One turn of the loop: waits for something to happen and deals with it."""
        if self._dirty:
            self._write_state()
        due = min(
            [service.deadline for service in self._services.values()] + list(self._alarms.values()), default=NEVER
        )
        for key, _ in self._selector.select(None if due == NEVER else max(0.0, due - monotonic())):
            key.data()
        now = monotonic()
        for service in self._services.values():
            service.tick(now)
        for name in [name for name, at in self._alarms.items() if at <= now]:
            del self._alarms[name]
            self._alarm(name, now)
        if self._stopping:
            self._stop_next(now)

    # -- what happens --

    def _signals(self, wake_read: int) -> None:
        numbers = _read_all(wake_read)
        if signal.SIGCHLD in numbers:
            self._notices()  # what a process said before it ended comes first
            self._reap()
        if signal.SIGHUP in numbers and not self._stopping:
            self._say("reloading")
            for service in self._services.values():
                service.reload()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            if self._stopping:
                self._say("killing what is left")
                for service in self._services.values():
                    service.kill()
            else:
                self._say("stopping")
                self._stopping = True

    def _reap(self) -> None:
        """Reaps all that ended: services, and orphans of theirs."""
        by_pid = {service.pid: service for service in self._services.values() if service.pid}
        while True:
            try:
                # Looked at before it is reaped: as long as it is not, its group's number is not given to another.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if service := by_pid.get(ended.si_pid):
                status = ended.si_status << 8 if ended.si_code == os.CLD_EXITED else ended.si_status
                service.exited(monotonic(), status)
                self._say_ended(service, status)
            os.waitpid(ended.si_pid, 0)

    def _say_ended(self, service: Service, status: int) -> None:
        if service.result == "success":
            return
        how = f"status {status >> 8}" if status >> 8 else f"signal {status & 0x7F}"
        if service.result in ("timeout", "watchdog"):
            how += f", after its {service.result}"
        if service.held:
            how += f" ({service.status})" if service.status else ""
            how += "; nothing starts it for a minute, or until a reload"
        self._say(f"{service.unit.name}: ended with {how}")

    def _notices(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._notify.recvmsg(_NOTICE_LIMIT, 256)
            except BlockingIOError:
                return
            pid = 0
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    pid = _CREDENTIALS.unpack_from(payload)[0]
                elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    for (fd,) in struct.iter_unpack("i", payload):
                        os.close(fd)
            for service in self._services.values():
                if pid and service.pid == pid:  # NotifyAccess=main
                    lines = data.decode("utf-8", "replace").split("\n")
                    service.notify(monotonic(), dict(line.partition("=")[::2] for line in lines))

    def _connection(self, service: Service) -> None:
        self._start(service, monotonic())

    def _directories_changed(self) -> None:
        self._watch.changed()
        self._look_at_paths(monotonic())

    def _look_at_paths(self, now: float) -> None:
        """Starts services whose directories hold files; directories that do not exist yet are looked for again."""
        for path in self._plan.paths:
            service = self._services[path.service]
            for directory in path.not_empty:
                try:
                    self._watch.add(directory)
                except (FileNotFoundError, NotADirectoryError):
                    self._alarms[path.name] = now + _MISSING_DIRECTORY_POLL
                if service.startable and holds_files(directory):
                    self._start(service, now)

    def _alarm(self, name: str, now: float) -> None:
        """A timer has elapsed, or it is time to look at a path again."""
        for timer in self._plan.timers:
            if timer.name == name:
                self._start(self._services[timer.service], now)
                return
        self._look_at_paths(now)

    def _start(self, service: Service, now: float) -> None:
        if service.startable and (not self._stopping or self._needed(service)):
            service.start(now)
            if service.result == "start-limit":
                self._say(f"{service.unit.name}: started too often, waits for {service.deadline - now:.0f} s")

    # -- ending --

    def _stop_next(self, now: float) -> None:
        """Stops the services that no running one is ordered after, so that each can finish what needs others."""
        running = [service for service in self._services.values() if not service.ended]
        ready = [service for service in running if not self._needed(service)]
        for service in ready or running:  # all of a circle at once
            if service.state not in ("stopping", "clearing"):
                service.stop(now)

    def _needed(self, service: Service) -> bool:
        """Whether a running service is ordered after this one, and may still call it."""
        return any(
            service.unit.name in other.unit.after and not other.ended
            for other in self._services.values()
            if other is not service
        )

    # -- a service's hands --

    def spawn(self, service: Service) -> int:
        """Starts a service's process."""
        try:
            return spawn(self._process(service.unit))
        except OSError as error:
            self._say(f"{service.unit.name}: cannot be started: {error}")
            raise

    def _process(self, unit: ServiceUnit) -> Process:
        environment = {**self._plan.environment, **unit.environment}
        if unit.type == "notify":
            environment["NOTIFY_SOCKET"] = self._notify_name
        if unit.watchdog_sec:
            environment["WATCHDOG_USEC"] = str(int(unit.watchdog_sec * 1e6))
        credentials = self._identities.credentials(unit.identity)
        if unit.runtime_directories:
            made = [os.path.join(self._plan.runtime, name) for name in unit.runtime_directories]
            for directory in made:
                _make_runtime_directory(directory, unit.runtime_directory_mode, credentials)
            environment["RUNTIME_DIRECTORY"] = ":".join(made)
        listeners = self._listeners.get(unit.name, [])
        return Process(
            argv=self._plan.command(unit.command.argv),
            environment=environment,
            listeners=[(listener.name, listener.socket.fileno()) for listener in listeners],
            credentials=credentials,
            umask=unit.umask,
            limit_nofile=unit.limit_nofile,
        )

    def send(self, pid: int, number: signal.Signals) -> None:
        """Signals a main process, which is not reaped yet: the number is its own."""
        os.kill(pid, number)

    def send_to_group(self, pid: int, number: signal.Signals) -> None:
        """Signals a group; an empty one is none."""
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return

    def group_is_empty(self, pid: int) -> bool:
        """Whether nothing is left of a group."""
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return True
        return False

    def changed(self, service: Service) -> None:
        """A service's state has changed: whether its sockets are polled, and when its timers start it."""
        self._dirty = True
        self._poll_listeners(service)
        if not service.startable or self._stopping:
            return
        for timer in self._plan.timers:
            if timer.service == service.unit.name and timer.on_inactive and service.inactive_since != NEVER:
                due = service.inactive_since + min(timer.on_inactive)
                self._alarms[timer.name] = min(due, self._alarms.get(timer.name, NEVER))
        for path in self._plan.paths:
            if path.service == service.unit.name:
                self._alarms[path.name] = monotonic()  # files may have been left

    def _poll_listeners(self, service: Service) -> None:
        for listener in self._listeners.get(service.unit.name, ()):
            polled = listener.socket in self._selector.get_map()
            if service.startable and not polled:
                self._selector.register(listener.socket, selectors.EVENT_READ, lambda: self._connection(service))
            elif polled and not service.startable:
                self._selector.unregister(listener.socket)

    # -- the state file --

    def _write_state(self) -> None:
        """What ``pyfix status`` shows."""
        self._dirty = False
        units = {
            name: {
                "state": service.state,
                "result": service.result,
                "pid": service.pid,
                "restarts": service.restarts,
                "status": service.status,
                "sockets": [listener.address for listener in self._listeners.get(name, ())],
            }
            for name, service in self._services.items()
        }
        _replace(self._state_file, json.dumps({"pid": os.getpid(), "units": units}))

    def _remove_state(self) -> None:
        if os.path.exists(self._state_file):
            os.unlink(self._state_file)

    def _forget_listeners(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.socket.close()
                listening.forget(listener.address)
        self._listeners.clear()


def _notify_socket() -> tuple[socket.socket, str]:
    """A datagram socket with an abstract name, which is as short as an address must be; senders prove who they are."""
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    name = f"pyfix-notify-{os.getpid()}-{os.urandom(8).hex()}"
    notify.bind("\0" + name)
    return notify, "@" + name


def _make_runtime_directory(directory: str, mode: int, credentials: Credentials | None) -> None:
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, mode)
    if credentials:
        os.chown(directory, credentials.uid, credentials.gid)


def _replace(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)


def _read_all(fd: int) -> bytes:
    data = b""
    while True:
        try:
            data += os.read(fd, 4096)
        except BlockingIOError:
            return data


def _ignore(_number: int, _frame: object) -> None:
    """The wake-up pipe tells the loop; a handler must be there for a byte to be written."""
