"""The log lines, each as an event: Postfix's words in the message, the same facts as journal fields.

Everything that other programs parse stands here and nowhere else. A line that no program parses may be written with
Journal.info() and warning(). MESSAGE_IDs name the kinds of event for the journal's catalog.
"""

from collections.abc import Mapping

from pyfix.service.delivery import Deliver, Outcome, Recipient
from pyfix.system.journal import INFO, WARNING, Event

DELIVERY = "6fb1a0d2c34e4b7d9a8a1c5d0e7f2b11"
ACTIVE = "1d0c6a5b9e7f4c3a8b2d4e6f80912a3b"
REMOVED = "a37e52b1c6d84f0f9b1e3c5a7d902f4e"
RECEIVED = "c05d9e81f2a74b36a4d7e8b1902c3f5a"
REJECTED = "e8b47f10a9c24d5c8f6e1b3a5d7092c4"
NOTICE = "2b9f64c8d1e04a7fb5c3a6e8f7102d93"


def canceled(queue_id: str) -> Event:
    """cleanup has dropped what there was of a message that was not accepted."""
    return Event(f"{queue_id}: removed (canceled)", {"PYFIX_QUEUE_ID": queue_id})


def client(queue_id: str, name: str, address: str, extra: str = "") -> Event:
    """smtpd accepted the first recipient of a message. ``extra`` is ", sasl_method=..." or empty."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_CLIENT_NAME": name, "PYFIX_CLIENT_ADDRESS": address}
    return Event(f"{queue_id}: client={name}[{address}]{extra}", fields, INFO, RECEIVED)


def connection(verb: str, name: str, address: str, extra: str = "") -> Event:
    """``connect from``, ``disconnect from`` and their like; ``extra`` follows the client."""
    fields = {"PYFIX_CLIENT_NAME": name, "PYFIX_CLIENT_ADDRESS": address}
    return Event(f"{verb} {name}[{address}]{extra}", fields)


def corrupt(queue_id: str, where: str, why: str) -> Event:
    """A queue file that cannot be used was put aside."""
    fields = {"PYFIX_QUEUE_ID": queue_id}
    return Event(f"warning: {queue_id}: {where}: {why}: saved to corrupt", fields, WARNING)


def delivery(
    queue_id: str,
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
    total = sum(delays)
    orig_to = f" orig_to=<{original}>," if original and original != recipient else ""
    conn_use = f" conn_use={connection_use}," if connection_use > 1 else ""
    message = (
        f"{queue_id}: to=<{recipient}>,{orig_to} relay={relay},{conn_use} delay={format_delay(total)}, "
        f"delays={'/'.join(map(format_delay, delays))}, dsn={dsn}, status={status} ({reason})"
    )
    fields = {
        "PYFIX_QUEUE_ID": queue_id,
        "PYFIX_RECIPIENT": recipient,
        "PYFIX_RELAY": relay,
        "PYFIX_STATUS": status,
        "PYFIX_DSN": dsn,
        "PYFIX_DELAY_USEC": str(int(total * 1_000_000)),
    }
    return Event(message, fields, INFO, DELIVERY)


def expired(queue_id: str, sender: str, status: str = "expired") -> Event:
    """A message was in the queue for too long."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_SENDER": sender}
    return Event(f"{queue_id}: from=<{sender}>, status={status}, returned to sender", fields)


def message_id(queue_id: str, value: str, *, resent: bool = False) -> Event:
    """cleanup has seen the message's identifier."""
    return Event(f"{queue_id}: {'resent-' if resent else ''}message-id={value}", {"PYFIX_QUEUE_ID": queue_id})


def notice(queue_id: str, kind: str, notice_id: str) -> Event:
    """bounce has sent a notice. ``kind``: "sender non-delivery notification" and so on."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_NOTICE_ID": notice_id}
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
    began, ready, now = times
    delays = (
        max(request.active_usec - request.arrival_usec, 0) / 1_000_000,
        max(began - request.active_usec, 0) / 1_000_000,
        max(ready - began, 0) / 1_000_000,
        max(now - ready, 0) / 1_000_000,
    )
    return delivery(
        request.queue_id,
        recipient.address,
        recipient.original,
        result.relay,
        delays,
        result.dsn,
        status or result.status,
        result.reason,
        connection_use=connection_use,
    )


def pickup(queue_id: str, uid: int, sender: str) -> Event:
    """pickup has taken a message from the maildrop queue."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_SENDER": sender, "PYFIX_UID": str(uid)}
    return Event(f"{queue_id}: uid={uid} from=<{sender}>", fields, INFO, RECEIVED)


def queue_active(queue_id: str, sender: str, size: int, recipients: int) -> Event:
    """qmgr has begun to deliver a message."""
    fields = {"PYFIX_QUEUE_ID": queue_id, "PYFIX_SENDER": sender}
    return Event(f"{queue_id}: from=<{sender}>, size={size}, nrcpt={recipients} (queue active)", fields, INFO, ACTIVE)


def reject(queue_id: str, where: str, text: str, client_facts: Mapping[str, str]) -> Event:
    """smtpd has refused something: ``NOQUEUE: reject: RCPT from NAME[ADDR]: CODE X.Y.Z TEXT; from=<S> ...``.

    ``where`` is "reject: RCPT from NAME[ADDR]"; ``client_facts`` are from, to, proto, helo as they are known.
    """
    facts = " ".join(f"{k}=<{v}>" if k in {"from", "to", "helo"} else f"{k}={v}" for k, v in client_facts.items())
    fields = {"PYFIX_QUEUE_ID": queue_id}
    for key, field in (("from", "PYFIX_SENDER"), ("to", "PYFIX_RECIPIENT")):
        if key in client_facts:
            fields[field] = client_facts[key]
    return Event(f"{queue_id}: {where}: {text}; {facts}", fields, INFO, REJECTED)


def removed(queue_id: str) -> Event:
    """qmgr is done with a message."""
    return Event(f"{queue_id}: removed", {"PYFIX_QUEUE_ID": queue_id}, INFO, REMOVED)


def requeued(queue_id: str, uid: int, sender: str, original_id: str) -> Event:
    """pickup has taken a message that was in the queue before (postsuper -r)."""
    fields = {
        "PYFIX_QUEUE_ID": queue_id,
        "PYFIX_SENDER": sender,
        "PYFIX_UID": str(uid),
        "PYFIX_ORIGINAL_ID": original_id,
    }
    return Event(f"{queue_id}: uid={uid} from=<{sender}> orig_id={original_id}", fields, INFO, RECEIVED)


def format_delay(seconds: float) -> str:
    """Seconds with two significant digits and at most two decimals, as Postfix's delays: 0.05, 1.2, 13, 300."""
    if seconds < 0.005:
        return "0"
    if seconds >= 9.95:
        digits = 10 ** max(len(str(int(seconds))) - 2, 0)
        return str(int(round(seconds / digits) * digits))
    text = f"{seconds:.2f}" if seconds < 0.995 else f"{seconds:.1f}"
    return text.rstrip("0").rstrip(".")
