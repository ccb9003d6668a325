"""A role that delivers nothing, and what it says."""

import asyncio

from pyfix.conf.config import Config
from pyfix.service.delivery import Deliver, Recipient
from pyfix.service.dispatch import Call


class Journal:
    def __init__(self):
        self.lines = []

    def write(self, event):
        self.lines.append(event.message)


class Role:
    def __init__(self):
        self.journal = Journal()
        self.conf = Config("/etc/pyfix", [])
        self.on_reload = []

    def implement(self, _interface, handlers):
        self.deliver = handlers["Deliver"]


def outcomes(module, transport, nexthop):
    role = Role()
    asyncio.run(module.start(role))
    recipients = (Recipient(3, "a@example"), Recipient(9, "b@example", original="o@example"))
    request = Deliver("Q", 0, 0, 0, transport, nexthop, "s@example", recipients, 1_000_000, 1_000_000)
    delivered = role.deliver(Call(request, (), None))
    assert [outcome.offset for outcome in delivered.outcomes] == [3, 9]
    assert role.journal.lines[1].startswith("Q: to=<b@example>, orig_to=<o@example>, relay=none, delay=")
    outcome = delivered.outcomes[1]
    assert role.journal.lines[1].endswith(f"dsn={outcome.dsn}, status={outcome.status} ({outcome.reason})")
    return outcome.status, outcome.dsn, outcome.reason
