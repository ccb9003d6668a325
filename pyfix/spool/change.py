"""What the administrator does to messages (postsuper): delete, hold, release, requeue, expire.

The queue manager does it when it runs, postsuper itself when it does not; both call this. Each function changes one
message wherever it is among ``queues``, and returns whether it found it. Raises ValueError for what is no queue ID,
and OSError.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from pyfix.spool.directories import LOG_QUEUES, MESSAGE_QUEUES, Spool

DELETE_QUEUES = MESSAGE_QUEUES
# maildrop is not sanitised yet and must not mix with what is
HOLD_QUEUES = ("incoming", "active", "deferred")
RELEASE_QUEUES = ("hold",)
REQUEUE_QUEUES = ("hold", "incoming", "active", "deferred")
EXPIRE_QUEUES = REQUEUE_QUEUES

_TRIES = 2


def delete(spool: Spool, queue_id: str, queues: Sequence[str] = DELETE_QUEUES) -> bool:
    """Remove the message, then its logs: whatever a crash leaves of them names no message."""
    for _ in range(_TRIES):
        for queue in _among(queues, DELETE_QUEUES):
            if spool.find(queue, queue_id) and spool.remove(queue, queue_id):
                for log in LOG_QUEUES:
                    spool.remove(log, queue_id)
                return True
    return False


def hold(spool: Spool, queue_id: str, queues: Sequence[str] = HOLD_QUEUES) -> bool:
    """Put the message where no attempt is made to deliver it, until it is released."""
    return _move(spool, queue_id, _among(queues, HOLD_QUEUES), "hold")


def release(spool: Spool, queue_id: str, queues: Sequence[str] = RELEASE_QUEUES) -> bool:
    """Put a message on hold among the deferred ones; its time of the next attempt is what it was."""
    return _move(spool, queue_id, _among(queues, RELEASE_QUEUES), "deferred")


def requeue(spool: Spool, queue_id: str, queues: Sequence[str] = REQUEUE_QUEUES) -> bool:
    """Hand the message to pickup, which has cleanup store it anew, under a new ID, its addresses rewritten again.

    As in Postfix the logs stay: the queue manager may be about to read them.
    """
    if not _move(spool, queue_id, _among(queues, REQUEUE_QUEUES), "maildrop"):
        return False
    try:
        spool.set_retry_time("maildrop", queue_id, time.time())
    except FileNotFoundError:
        # pickup was faster
        return True
    return True


def expire(spool: Spool, queue_id: str, queues: Sequence[str] = EXPIRE_QUEUES) -> bool:
    """Give the message no more time: in place of the next attempt it is returned to the sender.

    The mark is the file's mode, as in Postfix. False too for a message that has it already.
    """
    for _ in range(_TRIES):
        for queue in _among(queues, EXPIRE_QUEUES):
            if spool.find(queue, queue_id):
                with contextlib.suppress(FileNotFoundError):
                    return spool.mark_expired(queue, queue_id)
    return False


ACTIONS: dict[str, tuple[Callable[[Spool, str, Sequence[str]], bool], Sequence[str]]] = {
    "delete": (delete, DELETE_QUEUES),
    "hold": (hold, HOLD_QUEUES),
    "release": (release, RELEASE_QUEUES),
    "requeue": (requeue, REQUEUE_QUEUES),
    "expire": (expire, EXPIRE_QUEUES),
}
"""io.pyfix.Control's actions: the function, and the queues that it concerns."""


def messages_of(spool: Spool, action: str, queues: Sequence[str] = ()) -> Iterator[str]:
    """The IDs of all messages in ``queues``, or else in every queue that the action concerns."""
    concerned = ACTIONS[action][1]
    for queue in _among(queues or concerned, concerned):
        # Collected first: moving files changes the directory that is being read.
        yield from [found.queue_id for found in spool.scan(queue) if found.ready]


def _among(queues: Sequence[str], concerned: Sequence[str]) -> list[str]:
    return [queue for queue in queues if queue in concerned]


def _move(spool: Spool, queue_id: str, queues: Sequence[str], target: str) -> bool:
    for _ in range(_TRIES):
        for queue in queues:
            if spool.find(queue, queue_id) is None:
                continue
            try:
                spool.move(queue_id, queue, target)
            except FileNotFoundError:
                # it moved on between the look and the move
                continue
            return True
    return False
