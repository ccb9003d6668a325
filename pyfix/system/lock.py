"""Locks between processes, which the kernel drops with the process that holds them. Source: flock(2)."""

import fcntl


def try_lock(descriptor: int) -> bool:
    """Locks an open file or directory for this process alone; whether it could be had."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
