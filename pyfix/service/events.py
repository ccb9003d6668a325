"""pyfix-journal(7): what pyfix writes into the journal.

Description
    Every line of the log is Postfix's, and carries the same facts as journal fields, so that the journal can be asked
    instead of searched. This shows all that was written about a message, and what one kind of program wrote:

    ``journalctl PYFIX_QUEUE_ID=4dVBkT0Qz8z1``

    ``journalctl -t pyfix/smtp``

    ``pyfix trace`` (see pyfix(1pyfix)) follows a message to those that came of it. ``journalctl -x`` adds an
    explanation to lines that have a MESSAGE_ID.

Fields
    PYFIX_QUEUE_ID            the message that the line is about; NOQUEUE before it has an ID
    PYFIX_SENDER              the envelope sender, empty for notices
    PYFIX_RECIPIENT           the recipient, as it was delivered to
    PYFIX_ORIGINAL_RECIPIENT  the recipient before aliases, where that is another one
    PYFIX_RELAY               who took the message or refused it: mx.example.com[192.0.2.1]:25, local, none
    PYFIX_STATUS              sent, deferred, bounced, and so on
    PYFIX_DSN                 the status code of RFC 3463
    PYFIX_DELAY_USEC          from arrival to delivery, in microseconds
    PYFIX_CLIENT_NAME         the SMTP client's name, or unknown
    PYFIX_CLIENT_ADDRESS      its IP address
    PYFIX_UID                 the local user who submitted a message
    PYFIX_RELATED_ID          another message's ID: its notice, its name before or after, its ID at the next host
    PYFIX_REASON              what is wrong with configuration, machine or queue file
    PYFIX_LOST_LINES          how many lines the journal did not take
    SYSLOG_IDENTIFIER         $syslog_name/ROLE: pyfix/smtpd, pyfix/qmgr
    MESSAGE_ID                the kind of event, for the journal's catalog
"""

# Everything that other programs parse stands here and nowhere else. A line that no program parses may be written with
# Journal.info(), warning() and error().

import re
from collections.abc import Mapping
from functools import lru_cache

from pyfix.mail.address import quote_address
from pyfix.service.delivery import Deliver, Outcome, Recipient
from pyfix.system.journal import ERROR, INFO, WARNING, Event

# The kinds of event; the catalog, packaging/pyfix.catalog, explains each of them.
ACTIVE = "1d0c6a5b9e7f4c3a8b2d4e6f80912a3b"
BOUNCED = "9c3e5a7014f24be88d6b0f7a2c91e5d3"
BROKEN_OFF = "5e0d7c9ab3184f62a1f4c82e6d7b9035"
CANCELED = "b7a12f5c80d94e36a9c5e3f1074d8b62"
CONFIGURATION_KEPT = "0f6d2b8e74c14a95b3e8a7c05d19f246"
CONFIGURATION_REFUSED = "83c5f1a2d6b04e79a0d4c7e92b3f6851"
CONNECTED = "4b9e70c3a5d24f18968e1d7fb02c5a34"
CORRUPT = "e62a9d04b7f34c5c8f10a3d5c98e7b41"
DEFERRED = "f4a08d6be2c7493195d3b1c60e7f82a5"
DELIVERED = "6fb1a0d2c34e4b7d9a8a1c5d0e7f2b11"
DISCONNECTED = "c8f35e0a91d74b269e4ad5b7f6132c80"
EXPIRED = "370b9ed1c5fa4862b7d06e2c8f4a915d"
IDENTIFIED = "a91c4d7f3e5b4082ac6f9d0b2e71c538"
NO_SPACE = "1e84b6d0f9c24375a5c7e1f3b06d28a9"
NOTICE = "2b9f64c8d1e04a7fb5c3a6e8f7102d93"
PIPELINED = "da5b3c07e81f4692bd9e0c64f2a7185e"
PROBED = "5ad80e3f7c9b4d1286e1b0f4c7d2a396"
RECEIVED = "c05d9e81f2a74b36a4d7e8b1902c3f5a"
REJECTED = "e8b47f10a9c24d5c8f6e1b3a5d7092c4"
REMOVED = "a37e52b1c6d84f0f9b1e3c5a7d902f4e"
REQUEUED = "69d2f0b8c4e741a3895ce7b1d03f6a2c"
SUBMITTED = "b50e8c7d29f64a1fa3d6f2e4917c0b85"
UNUSABLE = "7dc16e9a05b84f23b8f7d3a2c6e0941b"

_OUTCOMES = {"sent": DELIVERED, "bounced": BOUNCED, "deliverable": PROBED, "undeliverable": PROBED}
# A message's ID in its next queue: in this system, or as the next host tells it.
_NEXT_ID = re.compile(r"(?:queued|forwarded) as ([0-9A-Za-z]{6,20})\b")
_DSN = re.compile(r"[0-9]{3} ([245]\.[0-9]{1,3}\.[0-9]{1,3}) ")


def broken_off(queue_id: str, reason: str, where: str, name: str, address: str) -> Event:
    """A client has gone before QUIT: ``lost connection after DATA (5 bytes) from NAME[ADDR]``."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_CLIENT_NAME": name, "PYFIX_CLIENT_ADDRESS": address}
    return Event(f"{queue_id}: {reason} after {where} from {name}[{address}]", fields, INFO, BROKEN_OFF)


def canceled(queue_id: str) -> Event:
    """cleanup has dropped what there was of a message that was not accepted."""
    return Event(f"{queue_id}: removed (canceled)", {"PYFIX_QUEUE_ID": queue_id}, INFO, CANCELED)


def client(queue_id: str, name: str, address: str, extra: str = "") -> Event:
    """smtpd accepted the first recipient of a message. ``extra`` is ", sasl_method=..." or empty."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_CLIENT_NAME": name, "PYFIX_CLIENT_ADDRESS": address}
    return Event(f"{queue_id}: client={name}[{address}]{extra}", fields, INFO, RECEIVED)


def configuration_kept(reason: str) -> Event:
    """A role was to reload a configuration that cannot work."""
    fields = {"PYFIX_REASON": reason}
    return Event(f"error: {reason}: the configuration that was running stays", fields, ERROR, CONFIGURATION_KEPT)


def configuration_refused(reason: str) -> Event:
    """A role does not start with a configuration that cannot work."""
    return Event(f"fatal: {reason}", {"PYFIX_REASON": reason}, ERROR, CONFIGURATION_REFUSED)


def connected(name: str, address: str) -> Event:
    """A client's session begins."""
    fields = {"PYFIX_CLIENT_NAME": name, "PYFIX_CLIENT_ADDRESS": address}
    return Event(f"connect from {name}[{address}]", fields, INFO, CONNECTED)


def corrupt(queue_id: str, where: str, why: str) -> Event:
    """A queue file that cannot be used was put aside."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_REASON": f"{where}: {why}"}
    return Event(f"warning: {queue_id}: {where}: {why}: saved to corrupt", fields, WARNING, CORRUPT)


def delivery(
    queue_id: str,
    sender: str,
    recipient: str,
    original: str,
    relay: str,
    delays: tuple[float, float, float, float],
    dsn: str,
    status: str,
    reason: str,
    *,
    connection_use: int = 1,
) -> Event:
    """What became of a recipient.

    ``delays`` are seconds before the queue manager, in it, for the connection's set-up, and for transmission.
    """
    shown_delays, delay_usec = _format_delays(delays)
    orig_to = f" orig_to=<{quote_address(original)}>," if original and original != recipient else ""
    conn_use = f" conn_use={connection_use}," if connection_use > 1 else ""
    message = (
        f"{queue_id}: to=<{quote_address(recipient)}>,{orig_to} relay={relay},{conn_use} {shown_delays}, "
        f"dsn={dsn}, status={status} ({reason})"
    )
    fields = {
        "PYFIX_QUEUE_ID": queue_id,
        "PYFIX_SENDER": sender,
        "PYFIX_RECIPIENT": recipient,
        "PYFIX_RELAY": relay,
        "PYFIX_STATUS": status,
        "PYFIX_DSN": dsn,
        "PYFIX_DELAY_USEC": delay_usec,
    }
    if orig_to:
        fields["PYFIX_ORIGINAL_RECIPIENT"] = original
    if status == "sent" and (next_id := _next_id(reason)):
        fields["PYFIX_RELATED_ID"] = next_id
    return Event(message, fields, INFO, _OUTCOMES.get(status, DEFERRED))


def disconnected(name: str, address: str, accounting: str) -> Event:
    """A client's session has ended. ``accounting``: its commands, ``ehlo=1 mail=1 quit=1 commands=3``."""
    fields = {"PYFIX_CLIENT_NAME": name, "PYFIX_CLIENT_ADDRESS": address}
    return Event(f"disconnect from {name}[{address}] {accounting}", fields, INFO, DISCONNECTED)


def expired(queue_id: str, sender: str, status: str = "expired") -> Event:
    """A message was in the queue for too long."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_SENDER": sender, "PYFIX_STATUS": status}
    message = f"{queue_id}: from=<{quote_address(sender)}>, status={status}, returned to sender"
    return Event(message, fields, INFO, EXPIRED)


def message_id(queue_id: str, value: str, *, resent: bool = False) -> Event:
    """cleanup has seen the message's identifier."""
    fields = {"PYFIX_QUEUE_ID": queue_id}
    return Event(f"{queue_id}: {'resent-' if resent else ''}message-id={value}", fields, INFO, IDENTIFIED)


def no_space(detail: str) -> Event:
    """cleanup takes no mail because the queue's file system is full. ``detail``: ``5 bytes < 10``."""
    message = f"warning: not enough free space in mail queue: {detail}"
    return Event(message, {"PYFIX_REASON": detail}, WARNING, NO_SPACE)


def notice(queue_id: str, kind: str, notice_id: str) -> Event:
    """bounce has sent a notice. ``kind``: "sender non-delivery notification" and so on."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_RELATED_ID": notice_id}
    return Event(f"{queue_id}: {kind}: {notice_id}", fields, INFO, NOTICE)


def outcome(
    request: Deliver,
    recipient: Recipient,
    result: Outcome,
    times: tuple[int, int, int],
    *,
    connection_use: int = 1,
    status: str = "",
) -> Event:
    """As delivery(), from what an agent was asked and answers.

    ``times`` are when the agent began, when it could begin to transmit, and now, in microseconds since the epoch.
    ``status`` is shown in place of the outcome's.
    """
    return delivery(
        request.queue_id,
        request.sender,
        recipient.address,
        recipient.original,
        result.relay,
        _delays(request.arrival_usec, request.active_usec, *times),
        result.dsn,
        status or result.status,
        result.reason,
        connection_use=connection_use,
    )


def pickup(queue_id: str, uid: int, sender: str) -> Event:
    """pickup has taken a message from the maildrop queue."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_SENDER": sender, "PYFIX_UID": str(uid)}
    return Event(f"{queue_id}: uid={uid} from=<{quote_address(sender)}>", fields, INFO, SUBMITTED)


def pipelined(where: str, text: str, name: str, address: str) -> Event:
    """A client did not wait for a reply that it had to wait for. ``text``: what it sent, shown as Postfix shows it."""
    message = f"improper command pipelining after {where} from {name}[{address}]: {text}"
    return Event(message, {"PYFIX_CLIENT_NAME": name, "PYFIX_CLIENT_ADDRESS": address}, INFO, PIPELINED)


def queue_active(queue_id: str, sender: str, size: int, recipients: int) -> Event:
    """qmgr has begun to deliver a message."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_SENDER": sender}
    message = f"{queue_id}: from=<{quote_address(sender)}>, size={size}, nrcpt={recipients} (queue active)"
    return Event(message, fields, INFO, ACTIVE)


def reject(queue_id: str, where: str, name: str, address: str, text: str, facts: Mapping[str, str]) -> Event:
    """smtpd has refused something: ``NOQUEUE: reject: RCPT from NAME[ADDR]: CODE X.Y.Z TEXT; from=<S> ...``.

    ``where`` is the command; ``facts`` are from, to, proto, helo as they are known.
    """
    known = " ".join(f"{k}=<{v}>" if k in {"from", "to", "helo"} else f"{k}={v}" for k, v in facts.items())
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_CLIENT_NAME": name, "PYFIX_CLIENT_ADDRESS": address}
    if dsn := _DSN.match(text):
        fields["PYFIX_DSN"] = dsn[1]
    for key, field in (("from", "PYFIX_SENDER"), ("to", "PYFIX_RECIPIENT")):
        if key in facts:
            fields[field] = facts[key]
    return Event(f"{queue_id}: reject: {where} from {name}[{address}]: {text}; {known}", fields, INFO, REJECTED)


def removed(queue_id: str) -> Event:
    """qmgr is done with a message."""
    return Event(f"{queue_id}: removed", {"PYFIX_QUEUE_ID": queue_id}, INFO, REMOVED)


def requeued(queue_id: str, uid: int, sender: str, original_id: str) -> Event:
    """pickup has taken a message that was in the queue before (postsuper -r)."""
    fields = {
        "PYFIX_QUEUE_ID": queue_id,
        "PYFIX_SENDER": sender,
        "PYFIX_UID": str(uid),
        "PYFIX_RELATED_ID": original_id,
    }
    message = f"{queue_id}: uid={uid} from=<{quote_address(sender)}> orig_id={original_id}"
    return Event(message, fields, INFO, REQUEUED)


def unusable(reason: str) -> Event:
    """A role cannot work on this machine as it is: a file, a directory or a permission is missing."""
    return Event(f"fatal: {reason}", {"PYFIX_REASON": reason}, ERROR, UNUSABLE)


# The recipients of one delivery, who come one after the other, have the same delays, and the next host's same answer.


@lru_cache(maxsize=1)
def _delays(arrival: int, active: int, began: int, ready: int, now: int) -> tuple[float, float, float, float]:
    return (
        max(active - arrival, 0) / 1_000_000,
        max(began - active, 0) / 1_000_000,
        max(ready - began, 0) / 1_000_000,
        max(now - ready, 0) / 1_000_000,
    )


@lru_cache(maxsize=1)
def _format_delays(delays: tuple[float, float, float, float]) -> tuple[str, str]:
    """The delays as the line shows them, and their sum in microseconds."""
    total = sum(delays)
    shown = f"delay={format_delay(total)}, delays={'/'.join(map(format_delay, delays))}"
    return shown, str(int(total * 1_000_000))


@lru_cache(maxsize=1)
def _next_id(reason: str) -> str:
    found = _NEXT_ID.search(reason)
    return found[1] if found else ""


def format_delay(seconds: float) -> str:
    """Seconds with two significant digits and at most two decimals, as Postfix's delays: 0.05, 1.2, 13, 300."""
    if seconds < 0.005:
        return "0"
    if seconds >= 9.95:
        digits = 10 ** max(len(str(int(seconds))) - 2, 0)
        return str(int(round(seconds / digits) * digits))
    text = f"{seconds:.2f}" if seconds < 0.995 else f"{seconds:.1f}"
    return text.rstrip("0").rstrip(".")
