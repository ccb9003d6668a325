"""The log lines of an SMTP session, as Postfix writes them."""

from pyfix.access.received import Client
from pyfix.mail.address import quote_address
from pyfix.service import events
from pyfix.system.journal import WARNING, Event
from pyfix.wire.reply import Reply
from pyfix.wire.smtp_dialogue import Mail, Notice
from pyfix.wire.smtp_server import SmtpServer


def queue_id(machine: SmtpServer) -> str:
    """What names the message under way."""
    return (machine.transaction.queue_id if machine.transaction else "") or "NOQUEUE"


def rejected(
    machine: SmtpServer, client: Client, reply: Reply | str, recipient: str | None = None, mail: Mail | None = None
) -> Event:
    """Something was refused. ``recipient`` and ``mail`` are the ones in question, if not the transaction's."""
    text = reply if isinstance(reply, str) else str(machine.worded(reply))
    transaction = machine.transaction
    mail = mail or (transaction.mail if transaction else None)
    if recipient is None and transaction and len(transaction.recipients) == 1:
        recipient = transaction.recipients[0].address
    facts = {} if mail is None else {"from": quote_address(mail.sender)}
    if recipient is not None:
        facts["to"] = quote_address(recipient)
    facts["proto"] = machine.protocol
    if machine.hello:
        facts["helo"] = machine.hello.name
    return events.reject(queue_id(machine), machine.where, client.name, client.address, text, facts)


def noticed(machine: SmtpServer, client: Client, notice: Notice) -> Event:
    """Something that the machine noticed."""
    fields = {"PYFIX_CLIENT_NAME": client.name, "PYFIX_CLIENT_ADDRESS": client.address}
    match notice.kind:
        case "pipelining":
            return events.pipelined(notice.where, notice.text, client.name, client.address)
        case "bare_lf":
            return rejected(machine, client, notice.text)
        case "non_smtp":
            text = f"non-SMTP command from {client}: {notice.text}"
        case "too_long":
            text = f"{client}: request longer than {machine.settings.line_length_limit}: {notice.text}..."
        case "address":
            text = f"Illegal address syntax from {client} in {notice.where} command: {notice.text}"
        case "size":
            fields["PYFIX_QUEUE_ID"] = queue_id(machine)
            text = f"{queue_id(machine)}: {notice.text}"
    return Event(f"warning: {text}", fields, WARNING)


def broken_off(machine: SmtpServer, client: Client, reason: str) -> Event | None:
    """The session ended without QUIT: ``lost connection after DATA (5 bytes) from ...``; None if nobody cares."""
    if not reason or (reason == "lost connection" and machine.where == "END-OF-MESSAGE"):
        return None
    size = machine.content_size
    where = machine.where if size is None else f"DATA ({size} bytes)"
    return events.broken_off(queue_id(machine), reason, where, client.name, client.address)
