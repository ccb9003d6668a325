"""showq: lists the queue.

Description
    Reads the queue files and the defer and bounce logs, and tells of each message where it is, who sent it, who is
    still to be served, and why they were not yet. A message with very many recipients comes in parts, which follow
    each other. Files that vanish meanwhile are passed over.

Protocol
    Serves io.pyfix.Showq on a socket that every user may connect to. List streams pages; it takes no input.

Security
    Runs as the mail system's user and opens files for reading only. It tells envelopes, sizes and reasons to root, the
    mail owner and those whom authorized_mailq_users has, known by SO_PEERCRED; by default that is every user of the
    machine. It tells nothing of what is in a message. Memory is bounded by a page.

Standards
    None.

Diagnostics
    Files that cannot be understood are passed over: the queue manager reports them. Who is turned away is told so.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

from pyfix.conf.config import Config
from pyfix.service.authorization import QueueUsers
from pyfix.service.dispatch import Call
from pyfix.service.interface import Nothing
from pyfix.service.listing import pages
from pyfix.service.queue_directory import open_queue
from pyfix.service.role import PER_UID_LIMIT, Role, run_role
from pyfix.service.showq import INTERFACE, Denied, Page


class Showq:
    """The service."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._spool = open_queue(role.conf)
        self._configure(role.conf)
        role.on_reload.append(self._configure)

    def _configure(self, conf: Config) -> None:
        self._users = QueueUsers(conf, "authorized_mailq_users", self._role.journal)

    async def list_pages(self, call: Call[Nothing]) -> AsyncIterator[Page]:
        """The queue, a page at a time."""
        if stranger := await self._users.check(call.peer):
            raise Denied(stranger)
        for page in pages(self._spool):
            yield page
            # Between two pages others have their turn.
            await asyncio.sleep(0)


async def start(role: Role) -> None:
    """Opens the queue and serves."""
    role.implement(INTERFACE, {"List": Showq(role).list_pages}, per_uid_limit=PER_UID_LIMIT)


def main() -> NoReturn:
    """The role."""
    run_role("showq", start, __doc__)


if __name__ == "__main__":
    main()
