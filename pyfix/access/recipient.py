"""Refusals of recipients, in Postfix's words."""

from typing import Final

from msgspec import Struct

from pyfix.conf.config import Config
from pyfix.mail.status import split_status
from pyfix.service.rewrite import Resolved
from pyfix.wire.envelope import BAD_RECIPIENT
from pyfix.wire.reply import Reply

RESOLVER_TROUBLE: Final = "4.3.0"
_CLASSES: Final = {
    "local": "unknown_local_recipient_reject_code",
    "virtual_alias": "unknown_virtual_alias_reject_code",
    "virtual_mailbox": "unknown_virtual_mailbox_reject_code",
    "relay": "unknown_relay_recipient_reject_code",
}


class Codes(Struct, frozen=True):
    """The reply codes that main.cf gives."""

    # reject_code, defer_code, relay_domains_reject_code
    reject: int
    defer: int
    relay: int
    # for a recipient that is not listed, by address class
    unlisted: dict[str, int]

    @classmethod
    def read(cls, conf: Config) -> "Codes":
        """The codes of a configuration."""
        return cls(
            conf.integer("reject_code"),
            conf.integer("defer_code"),
            conf.integer("relay_domains_reject_code"),
            {address_class: conf.integer(parameter) for address_class, parameter in _CLASSES.items()},
        )

    @staticmethod
    def reply(code: int, status: str, text: str) -> Reply:
        """A reply whose status is of the code's class."""
        return Reply(code, f"{code // 100}{status[1:]}", text)

    @staticmethod
    def unresolved(recipient: str, reason: str) -> Reply:
        """The refusal of an address that has no destination at all, for a reason that begins with a status."""
        return trouble(recipient) if reason.startswith("4") else BAD_RECIPIENT


def trouble(recipient: str) -> Reply:
    """The refusal when it cannot be found out now where an address leads."""
    return Reply(451, "4.3.0", f"<{recipient}>: Temporary lookup failure")


def relay_denied(code: int, recipient: str) -> Reply:
    """The refusal of a stranger's mail for other strangers."""
    return Codes.reply(code, "5.7.1", f"<{recipient}>: Relay access denied")


def check_listed(recipient: str, resolved: Resolved, codes: Codes) -> Reply | None:
    """The refusal of a recipient who does not exist, or of whom a table in trouble cannot tell; None for the rest."""
    if resolved.transport == "error":
        status, text = split_status(resolved.nexthop, "5.1.1")
        return Codes.reply(550, status, f"<{recipient}>: Recipient address rejected: {text}")
    if resolved.transport == "retry":
        status, text = split_status(resolved.nexthop, "4.1.1")
        return Codes.reply(450, status, f"<{recipient}>: Recipient address rejected: {text}")
    if resolved.listed == "unknown" and resolved.table:
        return trouble(recipient)
    if resolved.listed != "no":
        return None
    where = f" in {resolved.table}" if resolved.table else ""
    code = codes.unlisted.get(resolved.address_class, 550)
    return Codes.reply(code, "5.1.1", f"<{recipient}>: Recipient address rejected: User unknown{where}")
