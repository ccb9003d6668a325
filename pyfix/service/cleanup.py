"""io.pyfix.Cleanup: a message on its way into the queue.

A caller opens a transaction with the envelope and a file descriptor to read the content from, writes the content,
closes its end, and then says Commit. The reply to Commit says that the message is durable. A connection that
closes before Commit, or that sends anything else, aborts: nothing of the message stays. Commit answers also with what
was wrong with Open, so that Open may be sent as a call without reply. Who has all content in the pipe and has closed it
says Store, which is both in one.

The content is lines ended by LF, without dot-stuffing and without the end mark. Its last line may lack the LF.
"""

from msgspec import Struct

from pyfix.service.interface import Fd, Interface, Method, Nothing, ServiceError


class Recipient(Struct, frozen=True):
    """A recipient as the caller was given it."""

    address: str
    # RFC 3461 ORCPT, decoded, "rfc822;user@example.com"; empty where the client gave none
    orcpt: str = ""
    # RFC 3461 NOTIFY: 0 not given, else a sum of 1 never, 2 success, 4 failure, 8 delay
    notify: int = 0


class Open(Struct, frozen=True):
    """A transaction's envelope."""

    # a long queue ID, given by the caller
    queue_id: str
    # where to read the content from
    content: Fd
    # empty for the null sender
    sender: str
    recipients: tuple[Recipient, ...]
    # time of arrival, microseconds since the epoch
    arrival_usec: int
    # the Received header to put first, lines joined by "\n\t", no line end; empty for none
    trace: str = ""
    # full name for a missing From header
    full_name: str = ""
    # take recipients from the message's To, Cc and Bcc headers (sendmail -t)
    extract_recipients: bool = False
    # "8bit" or "7bit", as BODY= said; empty if unknown
    encoding: str = ""
    smtputf8: bool = False
    # RFC 3461 ENVID, decoded, and RET: "", "FULL" or "HDRS"
    envid: str = ""
    ret: str = ""
    # the two characters of a variable envelope return path; empty for none
    verp_delimiters: str = ""
    # named attributes for the queue file, Postfix's names: log_client_name, client_address, rewrite_context ...
    attributes: dict[str, str] = {}


class Committed(Struct, frozen=True):
    """The message is in the queue and will survive a power cut."""

    queue_id: str


class RefusedParameters(Struct, frozen=True):
    """Why the message was not stored, ready for an SMTP reply."""

    # SMTP reply code, 4xx or 5xx
    code: int
    # RFC 3463 status, "4.3.1"
    status: str
    # text without code, for the client
    text: str


class Refused(ServiceError):
    """The message was not stored; nothing of it is left."""

    name = "io.pyfix.Cleanup.Refused"
    Parameters = RefusedParameters
    parameters: RefusedParameters


INTERFACE = Interface(
    "io.pyfix.Cleanup",
    "Turns a message into a queue file",
    (
        Method("Open", Open, Nothing, "Opens the transaction of this connection; one at a time"),
        Method("Commit", Nothing, Committed, "Ends it, once the content's other end is closed; answers when durable"),
        Method("Store", Open, Committed, "Opens and ends a transaction whose content is whole; answers when durable"),
    ),
    (Refused,),
)
