"""bounce: keeps logs of what failed, and tells senders.

Description
    A message's failures are collected in bounce/, its delays in defer/. When the queue manager is done with a message
    that failed somewhere it asks for a notice: a new message to the sender, from the null sender, with the
    failures and the message, or its header. When the notice is in the queue the log is removed.

    No notice is sent about a message that came from the null sender, or for recipients whose failure the sender did not
    want to know (NOTIFY). One about a notice to postmaster would never end: it is dropped.

Protocol
    Serves io.pyfix.Bounce. A message without a log has been dealt with before: there is nothing to send.

Security
    What stands in logs and notices may come from remote hosts: control characters are replaced, lines are bounded. The
    message comes as a read-only descriptor. Runs as the mail system's user, sees bounce/ and defer/, may call cleanup.

Standards
    RFC 3461 (NOTIFY, RET, ENVID), RFC 3464 (delivery status notifications), RFC 6522, RFC 6533.

Diagnostics
    Each notice is logged with its queue ID. Trouble is logged, and the queue manager will ask again.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NoReturn

from pyfix.conf.config import Config
from pyfix.mail.date import format_date
from pyfix.report.notice import Failed, Notice, Reporter
from pyfix.service import bounce, cleanup, events
from pyfix.service.bounce import INTERFACE, Append, Notified, Notify, Trouble
from pyfix.service.calling import Unavailable
from pyfix.service.dispatch import Call
from pyfix.service.interface import Nothing
from pyfix.service.queue_directory import open_whole_queue
from pyfix.service.role import Role, run_role
from pyfix.spool import log
from pyfix.spool.content import read_content
from pyfix.spool.log import LogEntry
from pyfix.spool.queue_file import NOTIFY_NEVER
from pyfix.spool.queue_id import QueueIds
from pyfix.spool.record import CorruptFile
from pyfix.system.clock import now_usec, utc_offset, zone_name
from pyfix.system.pipe import open_pipe, write_pipe

_FSYNC_THREADS = 2


class Bounce:
    """The service."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._ids = QueueIds()
        self._cleanup = role.client(cleanup.INTERFACE, "cleanup")
        self._threads = ThreadPoolExecutor(_FSYNC_THREADS)
        self._place: tuple[str, tuple[str, ...], int] | None = None
        self._configure(role.conf)
        role.on_reload.append(self._configure)

    def _configure(self, conf: Config) -> None:
        self._reporter = Reporter(
            conf.text("myhostname"),
            conf.text("mail_name"),
            conf.integer("bounce_size_limit"),
            conf.text("header_from_format"),
        )
        self._double_bounce = f"{conf.text('double_bounce_sender')}@{conf.text('myhostname')}"
        place = (
            conf.text("queue_directory"),
            conf.words("hash_queue_names"),
            conf.integer("hash_queue_depth"),
        )
        if place != self._place:
            self._spool = open_whole_queue(conf, ("bounce", "defer"), hashed=True)
            self._place = place

    async def append(self, call: Call[Append]) -> Nothing:
        """Adds entries to a log."""
        request = call.parameters
        entries = [_log_entry(entry) for entry in request.entries]
        write = partial(log.append, self._spool, request.log, request.queue_id, entries)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, write)
        except (OSError, ValueError) as error:
            raise self._trouble(request.queue_id, f"{request.log} log: {error}") from None
        return Nothing()

    async def notify(self, call: Call[Notify]) -> Notified:
        """Sends a notice, if one is due, and removes the bounce log."""
        request = call.parameters
        message = call.take_fd(request.message)
        try:
            notice_id = await self._send(request, message)
            self._spool.remove("bounce", request.queue_id)
        except (OSError, ValueError, CorruptFile, Unavailable, cleanup.Refused) as error:
            raise self._trouble(request.queue_id, f"sender notification failed: {error}") from None
        finally:
            os.close(message)
        return Notified(notice_id)

    async def _send(self, request: Notify, message: int) -> str:
        """The notice's queue ID; empty if none was due."""
        if not request.sender:
            return ""
        if request.sender.lower() == self._double_bounce.lower():
            self._role.journal.warning("undeliverable postmaster notification discarded", request.queue_id)
            return ""
        now = now_usec()
        seconds = now // 1_000_000
        date = (seconds, utc_offset(seconds), zone_name(seconds))
        failed = Failed(
            request.queue_id,
            request.sender,
            request.arrival_usec,
            request.envid,
            request.ret,
            request.smtputf8,
            request.size,
        )
        notice = Notice(self._reporter, failed, partial(log.read, self._spool, "bounce", request.queue_id), date)
        if not notice.is_due():
            return ""
        notice_id = self._ids.new(now)
        opening = cleanup.Open(
            queue_id=notice_id,
            content=0,
            sender="",
            recipients=(cleanup.Recipient(request.sender, notify=NOTIFY_NEVER),),
            arrival_usec=now,
            trace=f"Received: by {self._reporter.myhostname} ({self._reporter.mail_name})\n"
            f"\tid {notice_id}; {format_date(*date)}",
            encoding=request.encoding,
            smtputf8=request.smtputf8,
            attributes={"rewrite_context": "local"},
        )
        await self._store(opening, notice, message, request.content_offset)
        self._role.journal.write(events.notice(request.queue_id, "sender non-delivery notification", notice_id))
        return notice_id

    async def _store(self, opening: cleanup.Open, notice: Notice, message: int, offset: int) -> None:
        """Puts a notice into the queue. Raises Refused, Unavailable, OSError, CorruptFile."""
        session = await self._cleanup.session()
        reading, writing = open_pipe()
        try:
            opened = session.send("Open", opening, (reading,))
            os.close(reading)
            reading = -1
            await opened
            # Nobody reads to the end of what is refused; Commit tells why.
            await write_pipe(writing, notice.content(read_content(message, offset)))
            os.close(writing)
            writing = -1
            await session.call("Commit", Nothing())
        except BaseException:
            session.close()
            raise
        finally:
            for fd in (reading, writing):
                if fd >= 0:
                    os.close(fd)
        session.release()

    def _trouble(self, queue_id: str, message: str) -> Trouble:
        self._role.journal.warning(message, queue_id)
        return Trouble()


def _log_entry(entry: bounce.Entry) -> LogEntry:
    return LogEntry(
        recipient=entry.recipient,
        offset=entry.offset,
        status=entry.status,
        reason=entry.reason,
        action=entry.action,
        original=entry.original,
        orcpt=entry.orcpt,
        notify=entry.notify,
        remote_mta=entry.remote_mta,
        diagnostic=entry.diagnostic,
    )


async def start(role: Role) -> None:
    """Wires the role."""
    service = Bounce(role)
    role.implement(INTERFACE, {"Append": service.append, "Notify": service.notify})


def main() -> NoReturn:
    """The role's main function."""
    run_role("bounce", start, __doc__)


if __name__ == "__main__":
    main()
