"""io.pyfix.Delivery: what every delivery agent offers to the queue manager.

A request names recipients of one message that share transport and next hop. The message comes as a read-only
descriptor of its queue file. The agent answers with an outcome for each recipient, in any order, when all are known.
The agent logs the outcomes; the queue manager records them.
"""

from typing import Literal

from msgspec import Struct

from pyfix.service.interface import Fd, Interface, Method


class Recipient(Struct, frozen=True):
    """A recipient to deliver to."""

    # where the recipient's record stands in the queue file: its name in the outcome
    offset: int
    address: str
    # the address before aliasing; empty if it is the same
    original: str = ""
    orcpt: str = ""
    notify: int = 0


class Deliver(Struct, frozen=True):
    """A delivery."""

    queue_id: str
    # the whole queue file, opened read-only
    message: Fd
    # where its content starts, bytes
    content_offset: int
    # the content's size, bytes
    size: int
    # the transport's name, for example "smtp" or "relay"
    transport: str
    nexthop: str
    sender: str
    recipients: tuple[Recipient, ...]
    # arrival, and the moment it became active: microseconds since the epoch
    arrival_usec: int
    active_usec: int
    encoding: str = ""
    smtputf8: bool = False
    envid: str = ""
    ret: str = ""
    # nothing is to be delivered: only what would become of it is to be found out (sendmail -bv)
    verify: bool = False


class Outcome(Struct, frozen=True):
    """What became of one recipient."""

    # the recipient's offset
    offset: int
    status: Literal["sent", "deferred", "bounced"]
    # RFC 3463 status, "2.0.0"
    dsn: str
    # the text in the log line's last parentheses
    reason: str
    # the log line's relay=: "none", "local", "mail.example.com[192.0.2.1]:25"
    relay: str = "none"
    # RFC 3464 Remote-MTA and Diagnostic-Code, empty where no remote host spoke
    remote_mta: str = ""
    diagnostic: str = ""
    # RFC 3464 Action, where the message was sent
    action: Literal["delivered", "relayed", "expanded"] = "delivered"
    # the next host is to tell the sender of the success (RFC 3461 section 5.2.1)
    passed_on: bool = False


class Delivered(Struct, frozen=True):
    """All outcomes of a delivery."""

    outcomes: tuple[Outcome, ...]
    # not empty: the next hop as a whole is out of reach, so other mail to it should wait; with the reason
    unreachable_dsn: str = ""
    unreachable: str = ""


INTERFACE = Interface(
    "io.pyfix.Delivery",
    "Delivers messages",
    (Method("Deliver", Deliver, Delivered, "Delivers a message to some of its recipients"),),
)
