"""flush: has deferred mail tried early, and keeps a record of what is deferred for which destination.

Description
    All deferred mail, one message, or what waits for one destination is tried now when somebody asks for it: with
    ``postqueue -f``, ``-i`` and ``-s``, with ``sendmail -q``, or a client with SMTP's ETRN command. The queue manager
    tells this service of each message that it defers for a destination of fast_flush_domains, so that an attempt for
    the destination need not look at all of the queue.

    The record is a log for each destination in the queue's flush directory. It is emptied when mail for the destination
    is asked for, not when mail is delivered; so, now and then, a log that was not read for fast_flush_refresh_time is
    treated as if somebody had asked, and an empty one that was not written for fast_flush_purge_time is removed.

Protocol
    Serves io.pyfix.Flush on a socket that every user may connect to, and io.pyfix.Register to roles. Calls
    io.pyfix.Queue.

Security
    Users may ask for attempts where authorized_flush_users has them, known by SO_PEERCRED; root and the mail owner
    always may. Roles alone add to the record. A destination names a file: what is neither a letter nor a digit is
    replaced, and the length is bounded. Runs as the mail system's user, and sees the logs alone, no mail.

Standards
    RFC 1985 (ETRN).

Diagnostics
    Trouble is logged, and told to the caller. An attempt concerns all recipients of a message, not only those at the
    destination.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import NoReturn

from pyfix.conf.config import Config
from pyfix.schedule import fast_flush
from pyfix.service import queue
from pyfix.service.authorization import QueueUsers
from pyfix.service.calling import Unavailable
from pyfix.service.cycle import Cycle, giving_up
from pyfix.service.dispatch import Call, Handler
from pyfix.service.flush import FLUSH, REGISTER, Add, Denied, Done, Message, Site
from pyfix.service.interface import Nothing
from pyfix.service.queue_directory import open_whole_queue
from pyfix.service.register import FastFlush
from pyfix.service.role import PER_UID_LIMIT, Role, run_role
from pyfix.spool.flush_log import FlushLogs, LogStatus
from pyfix.spool.queue_id import is_queue_id
from pyfix.system.clock import now_usec
from pyfix.system.unix import Peer
from pyfix.tables.table import TableError

_UPKEEP_INTERVAL = 1000.0
"""Seconds; Postfix's."""

# Queue IDs in a call, and logs that are looked at before others have their turn.
_BATCH = 1000


class Flush:
    """The service."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._queue = role.client(queue.QUEUE, "qmgr")
        self._logs = FlushLogs(open_whole_queue(role.conf, ("flush",)))
        self._cycle = Cycle(lambda: None, giving_up(role))
        self._configure(role.conf)
        role.on_reload.append(self._configure)
        self._cycle.repeat(self._start_upkeep)

    def _configure(self, conf: Config) -> None:
        users = QueueUsers(conf, "authorized_flush_users", self._role.journal)
        self._fast_flush, self._users = FastFlush(conf), users
        self._refresh_time = conf.seconds("fast_flush_refresh_time")
        self._purge_time = conf.seconds("fast_flush_purge_time")

    # What people ask for

    async def flush_all(self, call: Call[Nothing]) -> Done:
        """All mail is to be tried."""
        await self._admit(call.peer)
        return await self._ask(queue.Flush())

    async def flush_message(self, call: Call[Message]) -> Done:
        """One message is to be tried."""
        await self._admit(call.peer)
        queue_id = call.parameters.queue_id
        return await self._ask(queue.Flush((queue_id,))) if is_queue_id(queue_id) else Done()

    async def flush_site(self, call: Call[Site]) -> Done:
        """What waits for a destination is to be tried."""
        await self._admit(call.peer)
        return await self.send(call)

    async def _admit(self, peer: Peer) -> None:
        """Raises Denied for a user who may not ask for attempts."""
        if stranger := await self._users.check(peer):
            raise Denied(stranger)

    # What roles ask for

    def add(self, call: Call[Add]) -> Done:
        """A message was deferred."""
        queue_id, sites = call.parameters.queue_id, call.parameters.sites
        if not is_queue_id(queue_id):
            return Done("bad")
        try:
            for site in sites:
                if self._fast_flush.has(site) and (name := fast_flush.log_name(site)):
                    self._logs.add(name, (queue_id,))
        except (TableError, OSError) as error:
            self._role.journal.warning(f"write fast flush logfile: {error}", queue_id)
            return Done("fail")
        return Done()

    async def send(self, call: Call[Site]) -> Done:
        """What waits for a destination is to be tried."""
        site = call.parameters.site
        name = fast_flush.log_name(site)
        try:
            if not name:
                return Done("bad")
            if not self._fast_flush.has(site):
                return Done("deny")
            return await self._send(name, wanted=True)
        except TableError as error:
            self._role.journal.warning(str(error))
            return Done("fail")

    async def _send(self, name: str, *, wanted: bool) -> Done:
        """Has tried what a log names. ``wanted``: somebody asked for it."""
        try:
            queue_ids, full = self._logs.take(name, now_usec() / 1_000_000)
        except OSError as error:
            self._role.journal.warning(f"read fast flush logfile {name}: {error.strerror}")
            return Done("fail")
        # More than a log holds is all mail, which is tried for those who ask.
        batches = [()] if full and wanted else [queue_ids[at : at + _BATCH] for at in range(0, len(queue_ids), _BATCH)]
        for number, batch in enumerate(batches):
            done = await self._ask(queue.Flush(tuple(batch), wanted))
            if done.status != "ok":
                self._put_back(name, queue_ids[number * _BATCH :])
                return done
        return Done()

    def _put_back(self, name: str, queue_ids: Sequence[str]) -> None:
        with contextlib.suppress(OSError):  # what has just been read could not be written: a hint is lost
            self._logs.add(name, queue_ids)

    async def _ask(self, request: queue.Flush) -> Done:
        """Asks the queue manager."""
        try:
            await self._queue.call("Flush", request)
        except Unavailable as error:
            self._role.journal.warning(f"queue service failure: {error}")
            return Done("fail")
        return Done()

    # Upkeep

    def _start_upkeep(self) -> float:
        self._cycle.spawn(self.look_after_logs())
        return _UPKEEP_INTERVAL

    async def look_after_logs(self) -> None:
        """Refreshes logs that nobody asked for, and removes those that stay empty."""
        with self._role.busy():
            try:
                for number, log in enumerate(self._logs.scan(), 1):
                    await self._look_after(log)
                    if number % _BATCH == 0:
                        await asyncio.sleep(0)
            except OSError as error:
                self._role.journal.warning(f"fast flush logfiles: {error}")

    async def _look_after(self, log: LogStatus) -> None:
        now = now_usec() / 1_000_000
        due = fast_flush.upkeep(log, now, self._refresh_time, self._purge_time)
        if due == "refresh":
            await self._send(log.name, wanted=False)
        elif due == "remove":
            self._logs.remove(log.name)


async def start(role: Role) -> None:
    """Wires the role."""
    service = Flush(role)
    handlers: dict[str, Handler] = {
        "FlushAll": service.flush_all,
        "FlushMessage": service.flush_message,
        "FlushSite": service.flush_site,
    }
    role.implement(FLUSH, handlers, per_uid_limit=PER_UID_LIMIT)
    role.implement(REGISTER, {"Add": service.add, "Send": service.send})


def main() -> NoReturn:
    """The role."""
    run_role("flush", start, __doc__)


if __name__ == "__main__":
    main()
