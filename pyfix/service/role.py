"""The skeleton of every role: command line, configuration, journal, sockets, workers, signals, idle exit.

A role is a ``start`` function that is given a :class:`Role` and says what is served; run_role() does the rest. Sockets
come from systemd or ``pyfix up``. SIGHUP reloads: a broken main.cf is reported and the running configuration stays.
SIGTERM drains and ends. A role that had nothing to do for max_idle ends; its sockets stay with systemd.

A bug ends the process after its traceback went to the journal: systemd starts it anew, and mail is safe in the queue.
"""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.version import VERSION
from pyfix.service import events
from pyfix.service.calling import socket_path
from pyfix.service.client import Client
from pyfix.service.crowd import Crowd
from pyfix.service.dispatch import Handler, Implementation
from pyfix.service.interface import Interface
from pyfix.service.options import Options, describe, load_checked, prepare, refuse
from pyfix.service.server import Server
from pyfix.system import notify
from pyfix.system.activation import Listener
from pyfix.system.clock import monotonic
from pyfix.system.journal import Journal
from pyfix.system.workers import Prefork, Pulse, accept_signals

PER_UID_LIMIT = 50
"""Connections that a user may hold to a socket that is open to all."""

_ACCEPT_BATCH = 64
_DRAIN_LIMIT = 20.0
_BEAT = 1.0


class Role:
    """What a running role is given, and what it says about itself."""

    def __init__(self, options: Options, conf: Config, journal: Journal, listeners: list[Listener]) -> None:
        self.name = options.name
        self.conf = conf
        self.journal = journal
        self.on_reload: list[Callable[[Config], None]] = []
        self.on_stop: list[Callable[[], Awaitable[None]]] = []
        self._options = options
        self._listeners = listeners
        self._activated = bool(listeners)
        self._servers: list[Server] = []
        self._tcp: list[asyncio.Server] = []
        self._clients: list[Client] = []
        self._unix: list[socket.socket] = []
        self._busy = 0
        self._last_work = monotonic()
        self._served = 0
        self._stop = asyncio.Event()
        self._status = 0

    # What a role calls from its start function.

    def implement(self, interface: Interface, handlers: Mapping[str, Handler], *, per_uid_limit: int = 0) -> None:
        """Serves an interface on every listener whose socket is named after it.

        ``per_uid_limit`` is for sockets that are open to every user: how many connections each of them may hold.
        """
        crowd = Crowd(per_uid_limit) if per_uid_limit else None
        server = Server(Implementation(interface, handlers, VERSION), self.bug, crowd)
        self._servers.append(server)
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            if os.path.basename(listener.path) == interface.name:
                self._unix.append(listener.socket)
                loop.add_reader(listener.socket.fileno(), self._accept, loop, listener.socket, server)

    async def accept_streams(self, factory: Callable[[], asyncio.Protocol], name: str | None = None) -> None:
        """Serves TCP listeners (those of that name) with a protocol of its own for each connection."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            if not listener.path and name in (None, listener.name):
                self._tcp.append(await loop.create_server(factory, sock=listener.socket, backlog=socket.SOMAXCONN))

    def client(self, interface: Interface, role: str, timeout: float | None = 100.0) -> Client:
        """A client of another role."""
        client = Client(interface, socket_path(role, interface.name), timeout)
        self._clients.append(client)
        return client

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Holds off the idle exit while there is work that is not a call."""
        self.begin_work()
        try:
            yield
        finally:
            self.end_work()

    def begin_work(self) -> None:
        """Holds off the idle exit until end_work()."""
        self._busy += 1

    def end_work(self) -> None:
        """Ends what begin_work() began."""
        self._busy -= 1
        self._last_work = monotonic()

    def stop(self) -> None:
        """Drains and ends, as on SIGTERM."""
        self._stop.set()

    def bug(self, error: BaseException) -> None:
        """Reports an exception that nobody foresaw, and ends the process."""
        self.journal.bug(error)
        self._status = 1
        self._stop.set()

    def fail(self, error: OSError) -> None:
        """Reports trouble of this machine that the role cannot work with, and ends the process."""
        if not self._status:  # the same trouble may meet what is still being finished
            self.journal.write(events.unusable(describe(error)))
            self._status = os.EX_OSERR
        self._stop.set()

    # What run_role() calls.

    async def run(self, start: Callable[["Role"], Awaitable[None]], pulse: Pulse | None) -> int:
        """Starts the role and serves until the end; the exit status."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_exception)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        accept_signals()
        try:
            await start(self)
        except ConfigError as error:
            return refuse(self.journal, error)
        except OSError as error:
            self.journal.write(events.unusable(describe(error)))
            return os.EX_OSERR
        except Exception as error:  # noqa: BLE001 -- a bug: it belongs into the journal, and ends the process
            self.journal.bug(error)
            return 1
        gc.collect()
        gc.freeze()  # what is there now stays: later collections need not look at it
        if pulse is None:
            notify.ready()
        beat = loop.create_task(self._beat(pulse))
        await self._stop.wait()
        beat.cancel()
        if pulse is None:
            notify.stopping()
        await self._drain(loop)
        return self._status

    async def _beat(self, pulse: Pulse | None) -> None:
        """Shows life to the watchdog, and ends a role that is idle."""
        interval = notify.watchdog_interval() if pulse is None else _BEAT
        max_idle = self.conf.seconds("max_idle")
        while True:
            await asyncio.sleep(min(interval or max_idle, max(max_idle / 4, 0.1)))
            self._note_work()
            self._tell_refused()
            if pulse is not None:
                pulse.beat(self._last_work)
                continue
            notify.alive()
            if self._activated and monotonic() - self._last_work > max_idle and all(s.quiet() for s in self._servers):
                self._stop.set()

    def _note_work(self) -> None:
        served = sum(s.served for s in self._servers)
        if self._busy or served != self._served or any(s.active for s in self._servers):
            self._served = served
            self._last_work = monotonic()

    def _tell_refused(self) -> None:
        """Logs what a user can bring about no more often than this is called."""
        for server in self._servers:
            if server.crowd is not None:
                for uid, count in server.crowd.refused().items():
                    self.journal.warning(f"too many connections: {count} of uid={uid} were closed")

    def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket.socket, server: Server) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self.journal.warning(f"accept: {error.strerror}")
                loop.remove_reader(listener.fileno())
                loop.call_later(1.0, loop.add_reader, listener.fileno(), self._accept, loop, listener, server)
                return
            sock.setblocking(False)
            server.accept(loop, sock)

    def _reload(self) -> None:
        notify.reloading()
        try:
            conf = load_checked(self._options)
            for callback in self.on_reload:
                callback(conf)
            self.conf = conf
        except (ConfigError, OSError) as error:
            reason = describe(error)
            self.journal.write(events.configuration_kept(reason))
            notify.ready(f"Reload failed: {reason}")
        else:
            notify.ready()

    async def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stops accepting, lets the work at hand finish for a while, closes the rest."""
        for sock in self._unix:
            loop.remove_reader(sock.fileno())
        for tcp in self._tcp:
            tcp.close()
        try:
            async with asyncio.timeout(_DRAIN_LIMIT):
                for callback in self.on_stop:
                    await callback()
                for server in self._servers:
                    await server.drain()
        except TimeoutError:
            self.journal.warning(f"work was still going on after {_DRAIN_LIMIT:.0f} s and was cut off")
        for server in self._servers:
            server.close()
        for client in self._clients:
            client.close()

    def _loop_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError):
            # A peer's connection that broke while nobody was waiting for it.
            self.journal.warning(f"{context.get('message')}: {error}")
        else:
            self.bug(error if isinstance(error, BaseException) else RuntimeError(str(context.get("message"))))


def run_role(
    name: str, start: Callable[[Role], Awaitable[None]], description: str, options: Options | None = None
) -> NoReturn:
    """The main function of a role with an event loop. ``description`` is its docstring, shown by --help."""
    options = options or Options(name, description)
    conf, journal, listeners = prepare(options)

    def work(pulse: Pulse | None) -> int:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            role_main = _role_main(options, conf, journal, listeners, start, pulse)
            return runner.run(role_main)

    if options.workers == 1:
        raise SystemExit(work(None))

    def on_lost(pid: int, status: int) -> None:
        journal.warning(f"worker {pid} ended: wait status {os.waitstatus_to_exitcode(status)}")

    def on_reload() -> None:
        nonlocal conf
        try:
            conf = load_checked(options)
        except ConfigError as error:  # the workers find the same and say so
            notify.status(f"Reload failed: {error}")

    max_idle = float(conf.seconds("max_idle")) if listeners else None
    raise SystemExit(Prefork(options.workers, work, on_reload=on_reload, on_lost=on_lost, max_idle=max_idle).run())


async def _role_main(
    options: Options,
    conf: Config,
    journal: Journal,
    listeners: list[Listener],
    start: Callable[[Role], Awaitable[None]],
    pulse: Pulse | None,
) -> int:
    return await Role(options, conf, journal, listeners).run(start, pulse)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 -- optional: half the cost of asyncio's own loop where it is installed
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
