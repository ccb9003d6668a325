"""bounce/ID and defer/ID: why recipients of a message failed, in Postfix's format.

An entry is an empty line, a line for people (``<address>: reason``), a line ``name=value`` for each fact, and an empty
line. Whatever a remote host said stands in it with control characters replaced, so that an entry has the lines that
were meant and no others.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from pyfix.mail.address import AddressError, parse_address, quote_address
from pyfix.spool.directories import Spool
from pyfix.system import durable

LogName = Literal["bounce", "defer", "trace"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]")
_LINE_LIMIT = 16_384
_TOKEN_LIMIT = 1000
_DEFAULTS = {"defer": ("4.0.0", "delayed"), "bounce": ("5.0.0", "failed"), "trace": ("2.0.0", "delivered")}


class LogEntry(Struct, frozen=True):
    """What happened to a recipient (io.pyfix.Bounce Entry has the same fields)."""

    recipient: str
    # where the recipient's record stands in the queue file; 0 unknown
    offset: int
    # RFC 3463
    status: str
    reason: str
    # RFC 3464
    action: str
    # the address before it was rewritten; empty if it is the same
    original: str = ""
    orcpt: str = ""
    notify: int = 0
    remote_mta: str = ""
    diagnostic: str = ""


def format_entry(entry: LogEntry) -> bytes:
    """An entry as it stands in the file."""
    address = quote_address(entry.recipient)
    lines = [f"<{address}>: {entry.reason}", f"recipient={address or '<>'}"]
    if entry.original and entry.original.lower() != entry.recipient.lower():
        lines.append(f"original_recipient={quote_address(entry.original)}")
    if entry.offset:
        lines.append(f"offset={entry.offset}")
    if entry.orcpt:
        lines.append(f"dsn_orig_rcpt={entry.orcpt}")
    if entry.notify:
        lines.append(f"notify_flags={entry.notify}")
    lines += [f"status={entry.status}", f"action={entry.action}"]
    if entry.diagnostic:
        lines += ["diag_type=smtp", f"diag_text={entry.diagnostic}"]
    if entry.remote_mta:
        lines += ["mta_type=dns", f"mta_name={entry.remote_mta}"]
    lines.append(f"reason={entry.reason}")
    text = "\n".join([_CONTROL.sub("?", line) for line in lines])
    return f"\n{text}\n\n".encode("utf-8", "replace")


def addition(spool: Spool, log: LogName, queue_id: str, entries: Iterable[LogEntry]) -> durable.Addition:
    """Add entries: what is to be committed. Raises WriteError and NoSpace, and then none was added.

    Waits until what was added to the same log before is committed.
    """
    data = b"".join([format_entry(entry) for entry in entries])
    return durable.Addition(spool.make_room(log, queue_id), data, spool.descriptor)


def read(spool: Spool, log: LogName, queue_id: str) -> Iterator[LogEntry]:
    """The entries of a log, none if there is no such log. What is malformed is passed over. Raises OSError."""
    try:
        descriptor = spool.open(log, queue_id)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as file:
        status, action = _DEFAULTS[log]
        facts: dict[str, str] = {}
        while line := file.readline(_LINE_LIMIT):
            if line == b"\n":
                if facts:
                    yield _entry(facts, status, action)
                facts = {}
            else:
                _add_fact(facts, line.decode("utf-8", "replace").removesuffix("\n"))
        if facts:
            yield _entry(facts, status, action)


_HUMAN = re.compile(r"<([^\n]*?)>: (.*)")


def _add_fact(facts: dict[str, str], line: str) -> None:
    human = _HUMAN.fullmatch(line)
    if human:
        # The whole entry, in logs of old; now a repetition.
        facts.setdefault("recipient", human[1])
        facts.setdefault("reason", human[2].lstrip(" "))
    else:
        name, equals, value = line.partition("=")
        if equals:
            facts[name.strip(" ")] = value.strip(" ")


def _unquote(address: str) -> str:
    if '"' not in address:
        return address
    try:
        return parse_address(address, _TOKEN_LIMIT)
    except AddressError:
        return address


def _number(digits: str) -> int:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else 0


def _entry(facts: dict[str, str], status: str, action: str) -> LogEntry:
    recipient = facts.get("recipient", "")
    return LogEntry(
        recipient=_unquote("" if recipient == "<>" else recipient),
        offset=_number(facts.get("offset", "")),
        status=facts.get("status") or status,
        reason=facts.get("reason") or "(description unavailable)",
        action=facts.get("action") or action,
        original=_unquote(facts.get("original_recipient", "")),
        orcpt=facts.get("dsn_orig_rcpt", ""),
        notify=_number(facts.get("notify_flags", "")),
        remote_mta=facts.get("mta_name", ""),
        diagnostic=facts.get("diag_text", ""),
    )
