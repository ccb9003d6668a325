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

from pyfix.mail.status import split_status
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
        status, digit = _VERDICTS["retry" if request.transport == "retry" else "error"]
        dsn, reason = split_status(request.nexthop, f"{digit}.0.0")
        if not dsn.startswith(digit):
            dsn = f"{digit}.0.0"
        outcomes = []
        for recipient in request.recipients:
            outcome = Outcome(recipient.offset, status, dsn, reason or "no reason given")
            outcomes.append(log.settle(request, recipient, outcome, (begun, begun, now_usec())))
        return Delivered(tuple(outcomes))

    role.on_reload.append(log.configure)
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
