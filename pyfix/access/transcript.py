"""What postmaster is told of an SMTP session: which kinds of trouble it had, and what was said.

Source: notify_classes in postconf(5); the kinds are Postfix's, told by the replies.
"""

from collections.abc import Collection, Iterable, Iterator

from pyfix.access.received import Client
from pyfix.service.postmaster import Postmaster
from pyfix.wire.command import printable
from pyfix.wire.reply import Reply

_PROTOCOL_CODES = frozenset({500, 501, 503, 555})
_PROTOCOL_STATUSES = frozenset({"5.5.0", "5.5.1", "5.5.2", "5.5.4"})


def report(postmaster: Postmaster, client: Client, history: Iterable[bytes | Reply], reason: str) -> None:
    """Tells postmaster of a session, if that is wanted. ``reason``: why it was broken off, if it was."""
    postmaster.tell(faults(history), f"SMTP server: errors from {client}", lines(history), reason=reason)


def faults(history: Iterable[bytes | Reply]) -> Collection[str]:
    """The notify_classes of a dialogue's refusals."""
    return {_fault(item) for item in history if isinstance(item, Reply) and item.code >= 400} - {""}


def _fault(reply: Reply) -> str:
    code, status, text = reply.code, reply.status, reply.text
    if code == 421:
        return ""
    if status.startswith("4.3.") and " address rejected: " not in text:
        if "lookup failure" in text:
            return "data"
        return "software" if status == "4.3.5" else "resource"
    if code in _PROTOCOL_CODES or status in _PROTOCOL_STATUSES:
        return "protocol"
    if status == "5.4.0" or (status == "5.3.4" and text.startswith("Error:")):
        return "bounce"
    return "policy"


def lines(history: Iterable[bytes | Reply]) -> Iterator[str]:
    """What was said, a line for each line."""
    for item in history:
        if isinstance(item, Reply):
            for line in item.encode().decode("utf-8", "replace").removesuffix("\r\n").split("\r\n"):
                yield f"Out: {printable(line)}"
        else:
            yield f"In:  {printable(item.decode('utf-8', 'replace'))}"
