"""io.pyfix.Queue and io.pyfix.Control: what the queue manager is told, and what it is asked to do.

io.pyfix.Queue is for roles. io.pyfix.Control is for people's commands: anyone may connect, and the queue manager
decides by SO_PEERCRED who may do what (root and the mail owner: everything; others: flush).
"""

from typing import Literal

from msgspec import Struct

from pyfix.service.interface import Interface, Method, Nothing, ServiceError


class Announce(Struct, frozen=True):
    """A message that became visible in incoming/."""

    queue_id: str


class Flush(Struct, frozen=True):
    """Deferred mail to try now."""

    # empty: the whole deferred queue
    queue_id: str = ""


QueueName = Literal["maildrop", "hold", "incoming", "active", "deferred"]


class Change(Struct, frozen=True):
    """A change to messages of the queue (postsuper)."""

    action: Literal["delete", "hold", "release", "requeue"]
    # the messages; empty: all messages of the named queues
    queue_ids: tuple[str, ...] = ()
    # where to look; empty: in every queue that the action concerns
    queues: tuple[QueueName, ...] = ()


class Changed(Struct, frozen=True):
    """The messages that were changed."""

    queue_ids: tuple[str, ...]


class Denied(ServiceError):
    """The caller may not do this."""

    name = "io.pyfix.Control.Denied"


QUEUE = Interface(
    "io.pyfix.Queue",
    "Tells the queue manager of new mail",
    (Method("Announce", Announce, Nothing, "A message is ready in incoming/; a hint: losing it only costs time"),),
)
CONTROL = Interface(
    "io.pyfix.Control",
    "Asks the queue manager to do something with the queue",
    (
        Method("Flush", Flush, Nothing, "Tries deferred mail now"),
        Method("Change", Change, Changed, "Deletes, holds, releases or requeues messages"),
    ),
    (Denied,),
)
