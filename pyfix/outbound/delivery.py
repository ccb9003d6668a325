"""A delivery on its way from host to host: which recipients are still to be served, and what became of the others.

At each host a recipient is accepted, refused for good, or refused for now. Who is refused for now, by a host that is
not the last, is *kept* for the next one. A trouble of the host itself concerns all who are not yet served.
"""

from collections.abc import Sequence
from typing import Literal

from pyfix.outbound.hosts import Host
from pyfix.outbound.trouble import UNAVAILABLE, Trouble, said
from pyfix.service.delivery import Deliver, Delivered, Outcome, Recipient
from pyfix.wire.response import Response
from pyfix.wire.smtp_client import Replied, Stage


class Delivery:
    """The recipients of a request. ``soft_bounce``: other hosts are tried for whom a host has refused for good, too."""

    def __init__(self, request: Deliver, *, soft_bounce: bool) -> None:
        self.request = request
        # to be served by the present host, by offset
        self.pending: dict[int, Recipient] = {recipient.offset: recipient for recipient in request.recipients}
        # the host at hand is the last one
        self.final = False
        # what went wrong last, with which host, and whether that concerns other messages too
        self.trouble: Trouble | None = None
        self.relay = "none"
        self.host_is_down = False
        self.outcomes: list[Outcome] = []
        self._kept: dict[int, Recipient] = {}
        self._told = 0
        self._unreachable: Trouble | None = None
        self._soft_bounce = soft_bounce

    @property
    def done(self) -> bool:
        """Whether every recipient has an outcome."""
        return not self.pending and not self._kept

    def note(self, trouble: Trouble, relay: str = "none", *, host_is_down: bool = True) -> None:
        """Something went wrong; nobody's outcome follows from that yet."""
        self.trouble, self.relay, self.host_is_down = trouble, relay, host_is_down

    def sent(self, recipients: Sequence[Recipient], response: Response, host: str, relay: str, *, dsn: bool) -> None:
        """The host took the message for these. ``dsn``: it knows NOTIFY, and so tells the sender itself."""
        status, line = response.status, response.line
        for recipient in recipients:
            offset = recipient.offset
            del self.pending[offset]
            self.outcomes.append(Outcome(offset, "sent", status, line, relay, host, line, "relayed", dsn))

    def refused(self, recipient: Recipient, trouble: Trouble, relay: str) -> None:
        """The host did not take it for this recipient."""
        self.note(trouble, relay, host_is_down=False)
        del self.pending[recipient.offset]
        if self._passing(trouble) and not self.final:
            self._kept[recipient.offset] = recipient
        else:
            self._conclude(recipient, trouble, relay)

    def failed(self, trouble: Trouble, relay: str, *, host_is_down: bool) -> bool:
        """The host takes it for nobody who is pending. Whether they are kept for another host.

        ``host_is_down``: other messages would fare no better.
        """
        self.note(trouble, relay, host_is_down=host_is_down)
        soft = self._passing(trouble)
        if soft and not self.final:
            self._kept |= self.pending
            self.pending = {}
            return True
        for recipient in self.pending.values():
            self._conclude(recipient, trouble, relay)
        self.pending = {}
        if soft and host_is_down:
            self._unreachable = self._unreachable or trouble
        return False

    def next_host(self) -> None:
        """Goes on with those who were kept."""
        self.pending |= self._kept
        self._kept = {}

    def finish(self, trouble: Trouble | None = None) -> None:
        """No host is left: those who are not served share the last trouble, or the one given in its place."""
        self.next_host()
        if self.pending:
            self.final = True
            self.failed(trouble or self.trouble or UNAVAILABLE, self.relay, host_is_down=self.host_is_down)

    def new_outcomes(self) -> list[tuple[Recipient, Outcome]]:
        """The outcomes since the last call, each with its recipient."""
        new = self.outcomes[self._told :]
        self._told = len(self.outcomes)
        by_offset = {recipient.offset: recipient for recipient in self.request.recipients}
        return [(by_offset[outcome.offset], outcome) for outcome in new]

    def result(self, outcomes: Sequence[Outcome]) -> Delivered:
        """The answer to the queue manager; ``outcomes`` are those that were told, as they are to hold."""
        if self._unreachable is None:
            return Delivered(tuple(outcomes))
        return Delivered(tuple(outcomes), self._unreachable.dsn, self._unreachable.reason)

    def _passing(self, trouble: Trouble) -> bool:
        return trouble.soft or self._soft_bounce

    def _conclude(self, recipient: Recipient, trouble: Trouble, relay: str) -> None:
        dsn, reason, remote_mta, diagnostic = trouble
        status: Literal["deferred", "bounced"] = "deferred" if dsn[0] == "4" else "bounced"
        self.outcomes.append(Outcome(recipient.offset, status, dsn, reason, relay, remote_mta, diagnostic))


def take_replies(
    delivery: Delivery, recipients: Sequence[Recipient], replies: Sequence[Replied], host: Host, *, dsn: bool
) -> None:
    """Draws the conclusions from what a host said. ``recipients`` are those of the envelope, in its order.

    ``dsn``: the host offers the extension DSN.
    """
    relay = f"{host.label}:{host.port}"
    for stage, response, index in replies:
        kind = response.code // 100
        if stage is Stage.RCPT:
            if kind == 2 and not delivery.request.verify:
                continue
            recipient = recipients[index]
            if recipient.offset not in delivery.pending:
                continue
            if kind == 2:
                delivery.sent((recipient,), response, host.name, relay, dsn=dsn)
            else:
                delivery.refused(recipient, said(response, stage, host.name, host.label), relay)
        elif stage is Stage.END_OF_DATA and kind == 2:
            delivery.sent(list(delivery.pending.values()), response, host.name, relay, dsn=dsn)
        elif stage in _WHOLE_MESSAGE and kind != (3 if stage is Stage.DATA else 2) and delivery.pending:
            delivery.failed(said(response, stage, host.name, host.label), relay, host_is_down=False)


_WHOLE_MESSAGE = frozenset({Stage.MAIL, Stage.DATA, Stage.END_OF_DATA})


class Visits:
    """The hosts of one destination in turn, until enough have been tried.

    ``address_limit`` bounds the hosts that are tried, ``session_limit`` those that talked to us; 0: no bound.
    ``before``: how many sessions there were already.
    """

    def __init__(self, hosts: int, address_limit: int, session_limit: int, before: int = 0) -> None:
        self._left = hosts if address_limit == 0 else min(hosts, address_limit - before)
        self._sessions = session_limit - before if session_limit else hosts + 1

    def begin(self) -> bool:
        """Counts a host. Whether there is one to try."""
        if self._left <= 0 or self._sessions <= 0:
            return False
        self._left -= 1
        return True

    def count_session(self) -> None:
        """The host talked to us."""
        self._sessions -= 1

    @property
    def last(self) -> bool:
        """Whether no host will be tried after this one."""
        return self._left <= 0 or self._sessions <= 0
