"""The Received header that the SMTP server puts before a message (RFC 5321, 4.4)."""

from typing import NamedTuple

from pyfix.mail.address import quote_address
from pyfix.service.cleanup import Open, Recipient
from pyfix.wire.envelope import Transaction


class Client(NamedTuple):
    """Who is at the other end of an SMTP session. What is not known is "unknown"."""

    name: str
    # as the log writes it: 192.0.2.1, 2001:db8::1
    address: str
    port: int
    # the name before it was checked
    reverse_name: str = "unknown"

    @property
    def literal(self) -> str:
        """The address as headers write it (RFC 5321, 4.1.3)."""
        return f"IPv6:{self.address}" if ":" in self.address else self.address

    def __str__(self) -> str:
        """The client as log lines name it."""
        return f"{self.name}[{self.address}]"


class Hop(NamedTuple):
    """How a message came."""

    client: Client
    # HELO's name; empty if none was given
    hello: str
    # SMTP or ESMTP
    protocol: str
    smtputf8: bool = False


def received(hop: Hop, by: str, queue_id: str, recipients: list[str], date: str) -> str:
    """The header, lines joined by LF and TAB. ``by`` is ``host (product)``; one recipient alone is named."""
    client = hop.client
    first = f"Received: from {hop.hello or client.name} ({client.name} [{client.literal}])"
    # RFC 6531, 4.3
    second = f"by {by} with {'UTF8SMTP' if hop.smtputf8 else hop.protocol} id {queue_id}"
    if len(recipients) == 1:
        return f"{first}\n\t{second}\n\tfor <{quote_address(recipients[0])}>; {date}"
    return f"{first}\n\t{second};\n\t{date}"


def attributes(hop: Hop, context: str) -> dict[str, str]:
    """What the queue file notes of a message's origin, in Postfix's names and order.

    ``context`` is its rewrite_context.
    """
    client = hop.client
    hello = {"log_helo_name": hop.hello} if hop.hello else {}
    return {
        "rewrite_context": context,
        "log_client_name": client.name,
        "log_client_address": client.literal,
        "log_client_port": str(client.port),
        "log_message_origin": str(client),
        **hello,
        "log_protocol_name": hop.protocol,
        "client_name": client.name,
        "reverse_client_name": client.reverse_name,
        "client_address": client.address,
        "client_port": str(client.port),
        **({"helo_name": hop.hello} if hop.hello else {}),
        "protocol_name": hop.protocol,
        "client_address_type": "10" if ":" in client.address else "2",
    }


def opening(transaction: Transaction, trace: str, noted: dict[str, str], arrival_usec: int) -> Open:
    """What cleanup is told of a message: its envelope, its Received header and its origin. The content is fd 0."""
    mail = transaction.mail
    return Open(
        queue_id=transaction.queue_id,
        content=0,
        sender=mail.sender,
        recipients=tuple(Recipient(r.address, r.orcpt, r.notify) for r in transaction.recipients),
        arrival_usec=arrival_usec,
        trace=trace,
        encoding=mail.encoding,
        smtputf8=mail.smtputf8,
        envid=mail.envid,
        ret=mail.ret,
        verp_delimiters=mail.verp_delimiters,
        attributes={"log_ident": transaction.queue_id, **noted},
    )
