"""A request of the queue manager as the envelope that goes over the wire."""

from collections.abc import Callable, Iterator, Sequence

from pyfix.mail.address import quote_address
from pyfix.service.delivery import Deliver, Recipient
from pyfix.wire import smtp_client
from pyfix.wire.smtp_client import SmtpClient


def make_envelope(request: Deliver, recipients: Sequence[Recipient], machine: SmtpClient) -> smtp_client.Envelope:
    """The envelope for some of a request's recipients, at a host that offers what the machine knows."""
    dsn = "DSN" in machine.capabilities
    return smtp_client.Envelope(
        quote_address(request.sender),
        [
            smtp_client.Recipient(
                quote_address(recipient.address),
                _original_recipient(recipient, smtputf8=request.smtputf8) if dsn else "",
                recipient.notify,
            )
            for recipient in recipients
        ],
        request.size,
        request.encoding,
        request.smtputf8,
        request.envid,
        request.ret,
        request.verify,
    )


def _original_recipient(recipient: Recipient, *, smtputf8: bool) -> str:
    """ORCPT: the sender's own, else the address before aliasing, as Postfix (RFC 3461 section 5.2.1 allows it)."""
    if recipient.orcpt:
        return recipient.orcpt
    address = quote_address(recipient.original or recipient.address)
    return f"{'utf-8' if smtputf8 and not address.isascii() else 'rfc822'};{address}"


def needs_smtputf8(request: Deliver, content: Callable[[], Iterator[bytes]]) -> bool:
    """Whether a message can only be sent with SMTPUTF8: its sender asked for it, and it has UTF-8 where that matters.

    That is in an address of the envelope or in the message's header, not in its body (RFC 6531 section 3.1).
    """
    if not request.smtputf8:
        return False
    if not request.sender.isascii() or not all(recipient.address.isascii() for recipient in request.recipients):
        return True
    for chunk in content():
        header, end, _ = chunk.partition(b"\n\n")
        if not header.isascii() and not chunk.startswith(b"\n"):
            return True
        if end or chunk.startswith(b"\n"):
            break
    return False
