"""discard: pretends to deliver mail, and drops it.

Description
    Every recipient is told to be sent; the next hop, perhaps after a status (RFC 3463), is the reason that is logged.

Protocol
    Serves io.pyfix.Delivery.

Security
    Reads nothing but the request.

Standards
    RFC 3463 (status codes).

Diagnostics
    One line for each recipient, with relay=none and status=sent.
"""

from pyfix.mail.status import split_status, with_class
from pyfix.service.delivery import INTERFACE, Deliver, Delivered, Outcome
from pyfix.service.dispatch import Call
from pyfix.service.outcomes import OutcomeLog
from pyfix.service.role import Role, run_role
from pyfix.system.clock import now_usec


async def start(role: Role) -> None:
    """Serves until the end."""
    log = OutcomeLog(role.journal, role.conf)

    def deliver(call: Call[Deliver]) -> Delivered:
        request = call.parameters
        begun = now_usec()
        dsn, reason = split_status(request.nexthop, "2.0.0")
        outcomes = []
        for recipient in request.recipients:
            outcome = Outcome(recipient.offset, "sent", with_class(dsn, "2"), reason or "discarded")
            outcomes.append(log.settle(request, recipient, outcome, (begun, begun, now_usec())))
        return Delivered(tuple(outcomes))

    role.implement(INTERFACE, {"Deliver": deliver})


def main() -> None:
    """The executable."""
    run_role("discard", start, description=__doc__ or "")


if __name__ == "__main__":
    main()
