"""Waiting with a deadline that a busy machine does not shorten."""

import time

_STEP = 0.02


def wait(condition, seconds):
    """Whether the condition came true within so many seconds; time in which this process may not look is no time."""
    for _ in range(int(seconds / _STEP)):
        if condition():
            return True
        time.sleep(_STEP)
    return bool(condition())
