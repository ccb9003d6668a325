"""From the answers of the rewrite service to routes."""

from collections.abc import Collection, Sequence

from pyfix.mail.address import split_address
from pyfix.schedule.message import Route, Settled, Trouble
from pyfix.service.delivery import Outcome, Recipient
from pyfix.service.rewrite import Resolved

RESOLVER_FAILURE = Trouble("4.3.0", "address resolver failure")
"""Where the rewrite service does not answer, or not for every recipient."""

_WAIT = ("retry", "4.3.2 deferred transport")
"""The transport that logs a deferral, and what it logs."""

_DISCARDED = "undeliverable postmaster notification discarded"


class Router:
    """Decides what the parameters say about recipients once they are resolved."""

    def __init__(
        self, recipient_delimiter: str, double_bounce_sender: str, defer_transports: Collection[str] = ()
    ) -> None:
        self._delimiters = recipient_delimiter
        self._double_bounce_sender = double_bounce_sender.lower()
        self._defer_transports = frozenset(defer_transports)

    def route(
        self,
        recipients: Sequence[Recipient],
        answers: Sequence[Resolved],
        content_filter: str = "",
        *,
        wanted: bool = False,
    ) -> tuple[list[Route], list[Settled]]:
        """Routes, in the order of domains and addresses as in Postfix, and outcomes for recipients that need none.

        ``content_filter`` is ``transport:nexthop``; it takes all recipients, and an empty next hop is their domain.
        ``wanted``: somebody asked for the attempt, for which mail by transports of defer_transports waits.
        """
        if len(answers) != len(recipients):
            return [], defer_all(recipients, RESOLVER_FAILURE)
        routes: list[Route] = []
        settled: list[Settled] = []
        for recipient, answer in zip(recipients, answers, strict=True):
            address = answer.recipient or recipient.address
            local_part, domain = split_address(address)
            if answer.address_class == "local" and local_part.lower() == self._double_bounce_sender:
                settled.append((recipient, Outcome(recipient.offset, "sent", "2.0.0", _DISCARDED)))
                continue
            transport, nexthop = answer.transport, answer.nexthop
            if content_filter:
                transport, _, nexthop = content_filter.partition(":")
            if transport in self._defer_transports and not wanted:
                transport, nexthop = _WAIT
            target = recipient if address == recipient.address else _renamed(recipient, address)
            routes.append(Route(target, transport, nexthop or domain, self._mailbox(local_part, domain)))
        if len(routes) > 1:
            routes.sort(key=_order)
        return routes, settled

    def _mailbox(self, local_part: str, domain: str) -> str:
        """The address without its extension."""
        if not self._delimiters:
            return f"{local_part}@{domain}"
        for position, character in enumerate(local_part):
            if position and character in self._delimiters:
                local_part = local_part[:position]
                break
        return f"{local_part}@{domain}"


def defer_all(recipients: Sequence[Recipient], trouble: Trouble) -> list[Settled]:
    """A deferral for each of the recipients."""
    return [(r, Outcome(r.offset, "deferred", trouble.dsn, trouble.text)) for r in recipients]


def _order(route: Route) -> tuple[str, str]:
    address = route.recipient.address.lower()
    return address.rpartition("@")[2], address


def _renamed(recipient: Recipient, address: str) -> Recipient:
    original = recipient.original or recipient.address
    return Recipient(recipient.offset, address, original, recipient.orcpt, recipient.notify)
