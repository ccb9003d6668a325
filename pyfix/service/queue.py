"""io.pyfix.Queue and io.pyfix.Control: what the queue manager is told, and what it is asked to do.

io.pyfix.Queue is for roles. io.pyfix.Control is for people's commands: anyone may connect, and the queue manager
decides by SO_PEERCRED who may change messages: root and the mail owner. Early attempts are asked for at io.pyfix.Flush.
"""

from typing import Literal

from msgspec import Struct

from pyfix.service.interface import Interface, Method, Nothing, ServiceError


class Announce(Struct, frozen=True):
    """A message that became visible in incoming/."""

    queue_id: str


class Announced(Struct, frozen=True, omit_defaults=True):
    """For who asks for an answer."""

    # more messages than a few have been announced and not been looked at
    crowded: bool = False


class Flush(Struct, frozen=True):
    """Mail to try now, though its time has not come."""

    # deferred messages; empty: all that is incoming or deferred
    queue_ids: tuple[str, ...] = ()
    # somebody asked for it: also what goes to destinations and by transports that are dead, or in defer_transports
    wanted: bool = True


QueueName = Literal["maildrop", "hold", "incoming", "active", "deferred"]


class Change(Struct, frozen=True):
    """A change to messages of the queue (postsuper)."""

    action: Literal["delete", "hold", "release", "requeue", "expire"]
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
    "Tells the queue manager of mail to look at",
    (
        Method("Announce", Announce, Announced, "A message is ready in incoming/; a hint: losing it only costs time"),
        Method("Flush", Flush, Nothing, "Tries mail now"),
    ),
)
CONTROL = Interface(
    "io.pyfix.Control",
    "Asks the queue manager to do something with the queue",
    (Method("Change", Change, Changed, "Deletes, holds, releases, requeues or expires messages"),),
    (Denied,),
)
