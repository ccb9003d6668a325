"""showq: lists the queue.

Description
    Reads the queue files and the defer and bounce logs, and tells of each message where it is, who sent it, who is
    still to be served, and why they were not yet. A message with very many recipients comes in parts, which follow
    each other. Files that vanish meanwhile are passed over.

Protocol
    Serves io.pyfix.Showq on a socket that every user may connect to. List streams pages; it takes no input.

Security
    Runs as the mail system's user and opens files for reading only. It tells envelopes, sizes and reasons to every user
    of the machine, as Postfix does by default, and nothing of what is in a message. Memory is bounded by a page.

Standards
    None.

Diagnostics
    Files that cannot be understood are passed over: the queue manager reports them.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

from pyfix.service.dispatch import Call
from pyfix.service.interface import Nothing
from pyfix.service.listing import pages
from pyfix.service.queue_directory import open_queue
from pyfix.service.role import PER_UID_LIMIT, Role, run_role
from pyfix.service.showq import INTERFACE, Page


async def start(role: Role) -> None:
    """Opens the queue and serves."""
    spool = open_queue(role.conf)

    async def list_pages(_call: Call[Nothing]) -> AsyncIterator[Page]:
        for page in pages(spool):
            yield page
            # Between two pages others have their turn.
            await asyncio.sleep(0)

    role.implement(INTERFACE, {"List": list_pages}, per_uid_limit=PER_UID_LIMIT)


def main() -> NoReturn:
    """The role."""
    run_role("showq", start, __doc__)


if __name__ == "__main__":
    main()
