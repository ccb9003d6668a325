"""io.pyfix.Postdrop: local submission, open to every user of the machine.

The protocol is io.pyfix.Cleanup's: Open with the content's descriptor, write, close, Commit; or Store with the
descriptor of content that is whole. Who submits is known by SO_PEERCRED alone; nothing the caller says can change it.
"""

from typing import Literal

from msgspec import Struct

from pyfix.service.interface import Fd, Interface, Method, Nothing, ServiceError


class Open(Struct, frozen=True):
    """A submission's envelope."""

    # where to read the content from: lines ended by LF
    content: Fd
    # the envelope sender (sendmail -f); None: the submitting user's login name
    sender: str | None
    recipients: tuple[str, ...]
    # full name for a missing From header (sendmail -F); None: from the user database
    full_name: str | None = None
    # take recipients from the headers (sendmail -t)
    extract_recipients: bool = False
    # RFC 3461: ENVID (-V), RET (-R) and NOTIFY (-N, a sum of 1 never, 2 success, 4 failure, 8 delay)
    envid: str = ""
    ret: str = ""
    notify: int = 0
    # "8bit", "7bit" or empty (sendmail -B)
    encoding: str = ""
    smtputf8: bool = False
    # a report to the sender: of the delivery (sendmail -v), or of what it would do, in its place (sendmail -bv)
    trace: Literal["none", "record", "verify"] = "none"
    # the two characters of a variable envelope return path (sendmail -XV); empty for none
    verp_delimiters: str = ""


class Committed(Struct, frozen=True):
    """The message is in the maildrop queue and will survive a power cut."""

    queue_id: str


class RefusedParameters(Struct, frozen=True):
    """Why the submission was not stored."""

    # RFC 3463 status; class 4 is worth trying again
    status: str
    text: str


class Refused(ServiceError):
    """The submission was not stored; nothing of it is left."""

    name = "io.pyfix.Postdrop.Refused"
    Parameters = RefusedParameters
    parameters: RefusedParameters


INTERFACE = Interface(
    "io.pyfix.Postdrop",
    "Takes mail from the users of this machine",
    (
        Method("Open", Open, Nothing, "Opens the submission of this connection; one at a time"),
        Method("Commit", Nothing, Committed, "Ends it, once the content's other end is closed; answers when durable"),
        Method("Store", Open, Committed, "Opens and ends a submission whose content is whole; answers when durable"),
    ),
    (Refused,),
)
