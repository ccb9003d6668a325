"""io.pyfix.Bounce: per-message logs of what failed, and the notices made from them."""

from typing import Literal

from msgspec import Struct

from pyfix.service.interface import Fd, Interface, Method, Nothing, ServiceError

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded", "deliverable", "undeliverable"]
"""RFC 3464 Action; the last two are what sendmail -bv found out."""

NoticeKind = Literal["failure", "delay", "success", "verify"]


class Entry(Struct, frozen=True):
    """What happened to a recipient."""

    recipient: str
    # the recipient's record in the queue file
    offset: int
    # RFC 3463 status
    status: str
    reason: str
    action: Action
    original: str = ""
    orcpt: str = ""
    notify: int = 0
    remote_mta: str = ""
    diagnostic: str = ""


class Append(Struct, frozen=True):
    """Entries for one of a message's logs."""

    queue_id: str
    log: Literal["bounce", "defer", "trace"]
    entries: tuple[Entry, ...]


class Notify(Struct, frozen=True):
    """A request to tell the sender what is in a log."""

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
    # what is told, and from which log: failure from bounce, delay from defer, success and verify (sendmail -v, -bv)
    # from trace
    kind: NoticeKind = "failure"
    # the two characters of a variable envelope return path; empty for none
    verp_delimiters: str = ""


class Notified(Struct, frozen=True):
    """The notices are durable in the queue, or none is due; the log is gone, but for that of a delay."""

    # the first of them; empty when none was due
    notice_id: str = ""


class Trouble(ServiceError):
    """The log or the notice could not be stored now; try again later. The log says why."""

    name = "io.pyfix.Bounce.Trouble"


INTERFACE = Interface(
    "io.pyfix.Bounce",
    "Keeps bounce, defer and trace logs and sends notices from them",
    (
        Method("Append", Append, Nothing, "Adds entries to a log; answers when they are durable"),
        Method("Notify", Notify, Notified, "Sends the notices that are due and removes the log"),
    ),
    (Trouble,),
)
