"""error, retry: return or defer mail without trying to deliver it.

Description
    The next hop is the reason, perhaps after a status (RFC 3463): ``5.7.1 no mail to this domain``. The transport
    error returns each recipient to the sender, retry tries again later.

Protocol
    Serves io.pyfix.Delivery.

Security
    Reads nothing but the request.

Standards
    RFC 3463 (status codes).

Diagnostics
    One line for each recipient, with relay=none.
"""

from typing import Literal

from pyfix.mail.status import split_status, with_class
from pyfix.service import events
from pyfix.service.delivery import INTERFACE, Deliver, Delivered, Outcome
from pyfix.service.dispatch import Call
from pyfix.service.role import Role, run_role
from pyfix.system.clock import now_usec


async def start(role: Role) -> None:
    """Serves until the end."""

    def deliver(call: Call[Deliver]) -> Delivered:
        request = call.parameters
        begun = now_usec()
        status, digit = _VERDICTS["retry" if request.transport == "retry" else "error"]
        dsn, reason = split_status(request.nexthop, f"{digit}.0.0")
        outcomes = []
        for recipient in request.recipients:
            outcome = Outcome(recipient.offset, status, with_class(dsn, digit), reason or "no reason given")
            role.journal.write(events.outcome(request, recipient, outcome, (begun, begun, now_usec())))
            outcomes.append(outcome)
        return Delivered(tuple(outcomes))

    role.implement(INTERFACE, {"Deliver": deliver})


_VERDICTS: dict[str, tuple[Literal["deferred", "bounced"], str]] = {
    "retry": ("deferred", "4"),
    "error": ("bounced", "5"),
}


def main() -> None:
    """The executable."""
    run_role("error", start, description=__doc__ or "")


if __name__ == "__main__":
    main()
