"""Single keys from the terminal that is standard input."""

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

END_OF_INPUT = "\x04"
"""Ctrl-D, which the terminal does not interpret then."""


@contextmanager
def single_keys() -> Iterator[Callable[[float], str]]:
    """Within the context keys need no Enter and are not shown. Gives what waits for one, at most so many seconds.

    It returns the key, END_OF_INPUT also for that itself; empty when none was pressed.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def wait(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return (os.read(descriptor, 1).decode("latin-1") or END_OF_INPUT) if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield wait
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
