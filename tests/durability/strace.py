"""strace on a running role: what calls it makes, and a kill or an error at one of them.

``when=`` counts for each name of a system call and each thread, so a place is a name and a number.
"""

import collections
import contextlib
import re
import signal
import subprocess
import threading
from typing import NamedTuple

_PATIENCE = 5
_CALL = re.compile(r"(\d+) +(\w+)\(")


class Place(NamedTuple):
    """The ``number``-th system call of that name, of a thread, since strace came."""

    call: str
    number: int


class Strace:
    """Follows processes within a context, from its begin on. ``hit``: something was injected."""

    def __init__(self, pids, output, *expressions):
        self._pids = pids
        self._output = output
        self._options = [word for expression in expressions for word in ("-e", expression)]
        self._process = None

    def __enter__(self):
        processes = [word for pid in self._pids for word in ("-p", str(pid))]
        command = ["strace", "-f", "-o", self._output, *self._options, *processes]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        # strace has reached a process when it says so.
        waiting = set(self._pids)
        for line in self._process.stderr:
            attached = re.search(r"Process (\d+) attached", line)
            waiting -= {int(attached[1])} if attached else set()
            if not waiting or "ptrace" in line:
                break
        threading.Thread(target=self._process.stderr.read, daemon=True).start()
        return self

    def __exit__(self, *_):
        # Somebody whom strace waits for may not come to a stop: its own end sets all free, too.
        for number in (signal.SIGINT, signal.SIGKILL):
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
                break

    def _lines(self):
        with open(self._output, errors="replace") as file:
            yield from file

    @property
    def ended(self):
        """Nobody is left to follow."""
        return self._process.poll() is not None

    @property
    def hit(self):
        return any("(INJECTED)" in line or "+++ killed by SIGKILL" in line for line in self._lines())

    def places(self):
        """Where the processes have been, in order; the same place of several threads is one."""
        counts = collections.Counter()
        places = {}
        for line in self._lines():
            if call := _CALL.match(line):
                counts[call[1], call[2]] += 1
                places[Place(call[2], counts[call[1], call[2]])] = None
        return list(places)


def killing(place):
    """What to tell strace for a SIGKILL there."""
    return f"trace={place.call}", f"inject={place.call}:signal=KILL:when={place.number}"


def failing(place, error):
    """What to tell strace for an error there; the call is not made."""
    return f"trace={place.call}", f"inject={place.call}:error={error}:when={place.number}"


def spread(items, count):
    """``count`` of the items, at equal distances, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[number * (len(items) - 1) // (count - 1)] for number in range(count)]
