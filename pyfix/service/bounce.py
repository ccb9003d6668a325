"""io.pyfix.Bounce: per-message logs of what failed, and the notices made from them."""

from typing import Literal

from msgspec import Struct

from pyfix.service.interface import Fd, Interface, Method, Nothing, ServiceError


class Entry(Struct, frozen=True):
    """What happened to a recipient."""

    recipient: str
    # the recipient's record in the queue file
    offset: int
    # RFC 3463 status
    status: str
    reason: str
    # RFC 3464 Action
    action: Literal["failed", "delayed", "delivered", "relayed", "expanded"]
    original: str = ""
    orcpt: str = ""
    notify: int = 0
    remote_mta: str = ""
    diagnostic: str = ""


class Append(Struct, frozen=True):
    """Entries for a message's bounce or defer log."""

    queue_id: str
    log: Literal["bounce", "defer"]
    entries: tuple[Entry, ...]


class Notify(Struct, frozen=True):
    """A request to tell the sender of the failures in the bounce log."""

    queue_id: str
    # the whole queue file, opened read-only
    message: Fd
    content_offset: int
    size: int
    sender: str
    arrival_usec: int
    encoding: str = ""
    smtputf8: bool = False
    envid: str = ""
    ret: str = ""


class Notified(Struct, frozen=True):
    """The notice is durable in the queue, or none is due; the bounce log is gone."""

    # empty when no notice was due
    notice_id: str = ""


class Trouble(ServiceError):
    """The log or the notice could not be stored now; try again later. The log says why."""

    name = "io.pyfix.Bounce.Trouble"


INTERFACE = Interface(
    "io.pyfix.Bounce",
    "Keeps bounce and defer logs and sends non-delivery notices",
    (
        Method("Append", Append, Nothing, "Adds entries to a log; answers when they are durable"),
        Method("Notify", Notify, Notified, "Sends the notice and removes the bounce log; nothing for a null sender"),
    ),
    (Trouble,),
)
