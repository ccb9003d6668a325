"""Prefork: several processes behind one listener, kept alive by a parent that does nothing else.

The parent replaces workers that die, forwards reload and stop, answers the watchdog while every worker shows signs of
life, and ends all when none has had work for some time. Worker and parent share a page of counters.
"""

import mmap
import os
import select
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pyfix.system import notify
from pyfix.system.clock import monotonic

_SLOT = struct.Struct("dd")  # last sign of life, last moment with work; seconds on the monotonic clock
_RESPAWN_PAUSE = 1.0
_SILENCE_LIMIT = 60.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Pulse:
    """A worker's slot on the shared page."""

    def __init__(self, page: mmap.mmap, index: int) -> None:
        self._page = page
        self._offset = index * _SLOT.size

    def beat(self, last_work: float) -> None:
        """Shows a sign of life, and when there last was work."""
        _SLOT.pack_into(self._page, self._offset, monotonic(), last_work)

    def read(self) -> tuple[float, float]:
        """The last sign of life, and the last moment with work."""
        alive, work = _SLOT.unpack_from(self._page, self._offset)
        return alive, work


class Prefork:
    """The parent of ``count`` workers.

    ``work`` runs in each worker, with its pulse, and ends with an exit status; it starts with the signals for its end
    and for reload blocked, and unblocks them (accept_signals()) once it handles them. ``on_reload`` lets the parent
    follow a reload, for workers to come; ``on_lost`` is told the process ID and the wait status of each worker that
    ends unasked. After ``max_idle`` seconds without work (None: never) all ends.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[Pulse], int],
        *,
        on_reload: Callable[[], None],
        on_lost: Callable[[int, int], None],
        max_idle: float | None,
    ) -> None:
        page = mmap.mmap(-1, count * _SLOT.size)
        self._pulses = [Pulse(page, i) for i in range(count)]
        self._work = work
        self._on_reload = on_reload
        self._on_lost = on_lost
        self._max_idle = max_idle
        self._pids: dict[int, int] = {}
        self._stopping = False
        self._signals: set[int] = set()

    def run(self) -> int:
        """Runs until told to stop or idle; the exit status."""
        wake = wake_on_signals(_SIGNALS, self._signals)
        pause = notify.watchdog_interval() or 5.0
        if self._max_idle is not None:
            pause = min(pause, max(self._max_idle / 4, 0.1))
        respawn_at: float | None = None
        for index in range(len(self._pulses)):
            self._spawn(index)
        notify.ready()
        while True:
            select.select([wake], [], [], _RESPAWN_PAUSE if respawn_at is not None else pause)
            drain_wakeups(wake)
            self._forward()
            if self._reap() and not self._stopping:
                respawn_at = monotonic() + _RESPAWN_PAUSE if respawn_at is None else respawn_at
            if self._stopping and not self._pids:
                return 0
            if respawn_at is not None and monotonic() >= respawn_at and not self._stopping:
                respawn_at = None
                for index in set(range(len(self._pulses))) - set(self._pids.values()):
                    self._spawn(index)
            self._look_after()

    def _forward(self) -> None:
        self._stopping |= bool(self._signals & {signal.SIGTERM, signal.SIGINT})
        if signal.SIGHUP in self._signals:
            notify.reloading()
            self._on_reload()
            self._signal_all(signal.SIGHUP)
            notify.ready()
        if self._stopping:
            notify.stopping()
            self._signal_all(signal.SIGTERM)
        self._signals.clear()

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._pids:
            os.kill(pid, number)

    def _spawn(self, index: int) -> None:
        self._pulses[index].beat(monotonic())
        self._pids[fork_child(lambda: self._work(self._pulses[index]), block=_SIGNALS)] = index

    def _reap(self) -> bool:
        """Whether a worker was lost."""
        lost = False
        while self._pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            del self._pids[pid]
            if not self._stopping:
                self._on_lost(pid, status)
                lost = True
        return lost

    def _look_after(self) -> None:
        now = monotonic()
        if self._pids and all(now - self._pulses[i].read()[0] < _SILENCE_LIMIT for i in self._pids.values()):
            notify.alive()
        if self._max_idle is not None and all(now - p.read()[1] > self._max_idle for p in self._pulses):
            self._stopping = True


def _run_child(work: Callable[[], int]) -> NoReturn:
    """Runs a forked child's work and ends the process, whatever happens, without the parent's cleanup."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        status = work()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def fork_child(work: Callable[[], int], block: Sequence[signal.Signals] = ()) -> int:
    """Forks; the child runs ``work``, with signals blocked, and exits with what it returns. The child's process ID."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, block)
    pid = os.fork()
    if pid == 0:
        _run_child(work)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def accept_signals() -> None:
    """Lets a worker have the signals that were held back until it was ready for them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def wake_on_signals(numbers: Sequence[int], seen: set[int]) -> int:
    """Arranges for signals to be put into ``seen`` and to wake a select() on the descriptor returned."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda number, _frame: seen.add(number))
    return wake_read


def drain_wakeups(fd: int) -> None:
    """Empties the descriptor of wake_on_signals()."""
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        return
