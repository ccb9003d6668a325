"""What delivery agents say of their recipients: the log line of each, and what the queue manager is told.

With soft_bounce = yes nothing is returned to the sender: an outcome that would be is a deferral, logged as SOFTBOUNCE.
Every outcome passes here, whoever found it out, so this is the one place that knows of it.
"""

from msgspec.structs import replace

from pyfix.conf.config import Config
from pyfix.mail.status import with_class
from pyfix.service import events
from pyfix.service.delivery import Deliver, Outcome, Recipient
from pyfix.system.journal import Journal


def soften(outcome: Outcome) -> Outcome:
    """A bounce as the deferral that soft_bounce makes of it; any other outcome as it is."""
    if outcome.status != "bounced":
        return outcome
    return replace(outcome, status="deferred", dsn=with_class(outcome.dsn, "4"))


class OutcomeLog:
    """A delivery agent's log of outcomes. Raises ConfigError for a soft_bounce that is neither yes nor no."""

    def __init__(self, journal: Journal, conf: Config) -> None:
        self._journal = journal
        self.configure(conf)

    def configure(self, conf: Config) -> None:
        """Takes another configuration. Raises ConfigError, and keeps the old one."""
        self._soft_bounce = conf.boolean("soft_bounce")

    def settle(
        self,
        request: Deliver,
        recipient: Recipient,
        outcome: Outcome,
        times: tuple[int, int, int],
        *,
        connection_use: int = 1,
    ) -> Outcome:
        """Logs an outcome, and gives the one that the queue manager is to be told. ``times``: see events.outcome."""
        status = ""
        if request.verify:
            status = "deliverable" if outcome.status == "sent" else "undeliverable"
        elif self._soft_bounce and outcome.status == "bounced":
            outcome, status = soften(outcome), "SOFTBOUNCE"
        self._journal.write(
            events.outcome(request, recipient, outcome, times, connection_use=connection_use, status=status)
        )
        return outcome
