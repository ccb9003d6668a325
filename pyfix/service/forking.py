"""The skeleton of roles whose work blocks: a process for each connection.

The parent accepts and forks; a child serves its connection with plain blocking code and ends with it. Configuration,
reload, idle exit and bugs are as in role.py.
"""

import gc
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from pyfix.conf.config import Config, ConfigError
from pyfix.service import events
from pyfix.service.options import Options, describe, load_checked, prepare, refuse
from pyfix.system import notify
from pyfix.system.activation import Listener
from pyfix.system.clock import monotonic
from pyfix.system.journal import Journal
from pyfix.system.workers import drain_wakeups, fork_child, wake_on_signals

Serve = Callable[[socket.socket], None]
"""Serves a connected socket, in a forked child, until its end."""

_DRAIN_LIMIT = 20.0


def run_forking_role(name: str, start: Callable[["ForkingRole"], Serve], description: str) -> NoReturn:
    """The main function of a role whose work blocks: a process for each connection.

    ``start`` gets the role and returns the function that serves a connected socket, in a forked child, until its end.
    """
    options = Options(name, description)
    conf, journal, listeners = prepare(options)
    role = ForkingRole(options, conf, journal, listeners)
    try:
        serve = start(role)
    except ConfigError as error:
        raise SystemExit(refuse(journal, error)) from None
    except OSError as error:
        journal.write(events.unusable(describe(error)))
        raise SystemExit(os.EX_OSERR) from None
    except Exception as error:  # noqa: BLE001 -- a bug: it belongs into the journal, and ends the process
        journal.bug(error)
        raise SystemExit(1) from None
    raise SystemExit(role.run(serve, start))


class ForkingRole:
    """A role that forks a child for each connection; at most default_process_limit of them."""

    def __init__(self, options: Options, conf: Config, journal: Journal, listeners: list[Listener]) -> None:
        self.name = options.name
        self.conf = conf
        self.journal = journal
        self._options = options
        self._listeners = listeners
        self._children: set[int] = set()
        self._signals: set[int] = set()
        self._last_work = monotonic()

    def run(
        self,
        serve: Serve,
        start: Callable[["ForkingRole"], Serve],
    ) -> int:
        """Accepts until told to stop or idle; the exit status."""
        wake = wake_on_signals((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD), self._signals)
        limit = self.conf.integer("default_process_limit")
        max_idle = self.conf.seconds("max_idle")
        pause = min(notify.watchdog_interval() or max_idle, max(max_idle / 4, 0.1))
        sockets = [listener.socket for listener in self._listeners]
        gc.collect()
        gc.freeze()  # what is there now stays: collections in the children need not look at it
        notify.ready()
        while True:
            wanted = sockets if len(self._children) < limit else []
            readable = select.select([wake, *(sock.fileno() for sock in wanted)], [], [], pause)[0]
            drain_wakeups(wake)
            self._reap()
            if self._signals & {signal.SIGTERM, signal.SIGINT}:
                return self._end()
            if signal.SIGHUP in self._signals:
                self._signals.clear()
                serve = self._reload(serve, start)
            for sock in sockets:
                if sock.fileno() in readable:
                    self._accept(sock, serve)
            notify.alive()
            if self._children:
                self._last_work = monotonic()
            elif monotonic() - self._last_work > max_idle:
                return 0

    def _accept(self, listener: socket.socket, serve: Serve) -> None:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self._last_work = monotonic()

        def work() -> int:
            for other in self._listeners:
                other.socket.close()
            try:
                serve(sock)
            except Exception as error:  # noqa: BLE001 -- a bug: reported, and this child ends
                self.journal.bug(error)
                return 1
            return 0

        try:
            self._children.add(fork_child(work))
        except OSError as error:
            self.journal.warning(f"fork: {error.strerror}")
        sock.close()

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            if status:
                self.journal.warning(f"process {pid} ended: status {os.waitstatus_to_exitcode(status)}")

    def _reload(
        self,
        serve: Serve,
        start: Callable[["ForkingRole"], Serve],
    ) -> Serve:
        """Children finish their work at hand with the old configuration; their callers then connect to new ones."""
        notify.reloading()
        try:
            conf = load_checked(self._options)
            before, self.conf = self.conf, conf
            try:
                serve = start(self)
            except (ConfigError, OSError):
                self.conf = before
                raise
        except (ConfigError, OSError) as error:
            reason = describe(error)
            self.journal.write(events.configuration_kept(reason))
            notify.ready(f"Reload failed: {reason}")
        else:
            self._tell_children(signal.SIGTERM)
            notify.ready()
        return serve

    def _end(self) -> int:
        """Children end when their work at hand is done: they get the same signal."""
        notify.stopping()
        self._tell_children(signal.SIGTERM)
        deadline = monotonic() + _DRAIN_LIMIT
        while self._children and monotonic() < deadline:
            select.select([], [], [], 0.02)
            self._reap()
        self._tell_children(signal.SIGKILL)
        return 0

    def _tell_children(self, number: int) -> None:
        for pid in self._children:
            os.kill(pid, number)
