"""io.pyfix.Showq: the queue as mailq shows it; open to every user of the machine."""

from typing import Literal

from msgspec import Struct

from pyfix.service import denied
from pyfix.service.interface import Interface, Method, Nothing


class Recipient(Struct, frozen=True):
    """A recipient who is still to be served."""

    address: str
    # before aliasing; empty if it is the same
    original: str = ""
    # why it was not delivered yet; empty if nothing is known
    reason: str = ""
    # where the reason comes from
    kind: Literal["delay", "bounce", "other"] = "delay"


class Message(Struct, frozen=True):
    """A message of the queue."""

    queue_name: str
    queue_id: str
    # seconds since the epoch
    arrival_time: int
    # bytes
    size: int
    forced_expire: bool
    # empty for the null sender
    sender: str
    recipients: tuple[Recipient, ...]


class Page(Struct, frozen=True):
    """Some messages of the queue."""

    messages: tuple[Message, ...] = ()


class Denied(denied.Denied):
    """The caller may not see the queue (authorized_mailq_users)."""

    name = "io.pyfix.Showq.Denied"


INTERFACE = Interface(
    "io.pyfix.Showq",
    "Lists the queue",
    (Method("List", Nothing, Page, "Streams the queue's messages (call with more); the last page is empty"),),
    (Denied,),
)
