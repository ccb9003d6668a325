"""Whether a queue directory is as it should be: there, whole, and nobody else's."""

import os
import stat

from pyfix.spool.directories import ALL_DIRECTORIES, MESSAGE_QUEUES, Spool


def problems(root: str, owner: int | None) -> list[str]:
    """What is wrong with the directory, a sentence each. ``owner`` is who should own all of it, None: whoever owns it.

    Raises OSError for what this process may not look at.
    """
    try:
        top = os.stat(root)
    except FileNotFoundError:
        return [f"queue_directory {root} does not exist"]
    if not stat.S_ISDIR(top.st_mode):
        return [f"queue_directory {root} is not a directory"]
    owner = top.st_uid if owner is None else owner
    found = _wrong(root, top, owner)
    for name in ALL_DIRECTORIES:
        path = os.path.join(root, name)
        try:
            found += _wrong(path, os.lstat(path), owner)
        except FileNotFoundError:
            found.append(f"{path} does not exist")
    return found


def _wrong(path: str, status: os.stat_result, owner: int) -> list[str]:
    if not stat.S_ISDIR(status.st_mode):
        return [f"{path} is not a directory"]
    found = []
    if status.st_uid != owner:
        found.append(f"{path} belongs to user {status.st_uid}, not to {owner}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        found.append(f"{path} can be written to by others (mode {stat.S_IMODE(status.st_mode):04o})")
    return found


def counts(spool: Spool) -> dict[str, int]:
    """The number of messages in each queue; raises PermissionError."""
    return {queue: sum(1 for found in spool.scan(queue) if found.ready) for queue in MESSAGE_QUEUES}
