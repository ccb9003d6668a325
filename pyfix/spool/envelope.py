"""A message's envelope: what a queue file holds beside the content, as it is written and as it is read."""

from collections.abc import Mapping

from msgspec import Struct

NOTIFY_NEVER, NOTIFY_SUCCESS, NOTIFY_FAILURE, NOTIFY_DELAY = 1, 2, 4, 8
WARNED = -1
"""In place of the time of a delay warning: the sender has been told."""
TRACE_VERIFY, TRACE_RECORD = 1 << 9, 1 << 10
"""What sendmail asks for with -bv (a report in place of a delivery) and -v (a report of every delivery)."""
SMTPUTF8_REQUESTED, SMTPUTF8_HEADER, SMTPUTF8_SENDER, SMTPUTF8_RECIPIENT = 1, 2, 4, 8


class NewRecipient(Struct, frozen=True):
    """A recipient of a message to be stored."""

    address: str
    # the address before it was rewritten; empty if it is the same
    original: str = ""
    # RFC 3461 ORCPT, decoded, "rfc822;user@example.com"; Postfix stores one for every recipient
    orcpt: str = ""
    # RFC 3461 NOTIFY: 0, or a sum of 1 never, 2 success, 4 failure, 8 delay
    notify: int = 0


class NewMessage(Struct, frozen=True):
    """The envelope of a message to be stored."""

    # empty for the null sender
    sender: str
    # microseconds since the epoch
    arrival_usec: int
    # time of this file's making, seconds since the epoch: the message's age in the queue counts from here
    create_time: int
    recipients: tuple[NewRecipient, ...] = ()
    full_name: str = ""
    # "8bit", "7bit" or empty
    encoding: str = ""
    # a sum of SMTPUTF8_*
    smtputf8: int = 0
    # RFC 3461 ENVID, decoded, and RET: "", "FULL" or "HDRS"
    envid: str = ""
    ret: str = ""
    attributes: Mapping[str, str] = {}
    # when to warn the sender of a delay, seconds since the epoch; 0 never
    warn_time: int = 0
    # the two characters of a variable envelope return path; empty for none
    verp_delimiters: str = ""


class QueuedRecipient(Struct, frozen=True):
    """A recipient who is still to be served; ``offset`` is where the R record stands."""

    offset: int
    address: str
    original: str = ""
    orcpt: str = ""
    notify: int = 0


class Envelope(Struct, frozen=True):
    """All of a queue file but its content."""

    sender: str
    # microseconds since the epoch
    arrival_usec: int
    # seconds since the epoch; 0 if the file does not say
    create_time: int
    # those still to be served, at most as many as were asked for
    recipients: tuple[QueuedRecipient, ...]
    # where to read more recipients from; 0 when these are all
    rest: int
    # what C says: all recipients, served or not
    recipient_count: int
    # the content's size as records, bytes: the size that Postfix logs and shows
    size: int
    content_offset: int
    # the length of the content segment: the X record stands at content_offset + data_size
    data_size: int
    qmgr_flags: int = 0
    smtputf8: int = 0
    full_name: str = ""
    encoding: str = ""
    envid: str = ""
    ret: str = ""
    attributes: Mapping[str, str] = {}
    # when to warn of a delay, seconds since the epoch, and where that record stands; 0 none, WARNED: it was done
    warn_time: int = 0
    warn_offset: int = 0
    # "transport:nexthop" of a content filter
    content_filter: str = ""
    redirect: str = ""
    verp_delimiters: str = ""
    # a sum of TRACE_*
    trace_flags: int = 0
