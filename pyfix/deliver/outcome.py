"""A local delivery's result, as the queue manager and the log get it."""

from typing import NamedTuple

from pyfix.service.delivery import Outcome, Recipient

RELAY = "local"


class Result(NamedTuple):
    """An RFC 3463 status and the text that goes with it."""

    dsn: str
    reason: str


def outcome(recipient: Recipient, result: Result) -> Outcome:
    """The outcome for a recipient: the status's class says whether it was sent, deferred or bounced."""
    if result.dsn.startswith("2"):
        return Outcome(recipient.offset, "sent", result.dsn, result.reason, RELAY)
    if result.dsn.startswith("4"):
        return Outcome(recipient.offset, "deferred", result.dsn, result.reason, RELAY)
    return Outcome(recipient.offset, "bounced", result.dsn, result.reason, RELAY)
