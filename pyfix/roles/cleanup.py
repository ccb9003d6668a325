"""cleanup: turns messages into queue files.

Description
    The only creator of messages in incoming/. A message's content is made canonical as it streams (pyfix.intake), and
    written in place. When it is durable the queue manager is told and Commit is answered; before, nothing of it can
    be seen. While the queue manager says that mail comes in faster than it takes it, Commit waits for in_flow_delay.

Protocol
    Serves io.pyfix.Cleanup. A connection holds one transaction at a time. Closing it, or opening another transaction,
    aborts; nothing stays. The content's pipe is read as fast as the disk takes it. After a refusal the pipe
    is closed early, and Commit tells why. A queue ID that is taken is refused with 451: IDs are the opener's to give.

Security
    Content is hostile: it is bounded by message_size_limit, the header that is held in memory by header_size_limit.
    Records hold no control character, so none can be forged. The other ends of pipes are not trusted: reading never
    waits. Runs as the mail system's user, sees incoming/ only, opens no network connection.

Standards
    RFC 5322 (message format), RFC 2047 (names in From), RFC 3461 (ORCPT, NOTIFY, ENVID, RET), RFC 3463.

Diagnostics
    Message-Ids are logged, and transactions that came to nothing.
"""

import asyncio
import os
from collections.abc import Awaitable
from functools import partial
from typing import NoReturn

from pyfix.conf.config import Config
from pyfix.intake.message import Refusal
from pyfix.intake.opening import Opening, open_message
from pyfix.intake.settings import read_settings
from pyfix.mail.date import format_date
from pyfix.rewriting.standard import read_ruleset, standard_form
from pyfix.service import events, queue
from pyfix.service.announcing import Announcer
from pyfix.service.cleanup import INTERFACE, Committed, Open, Refused, RefusedParameters
from pyfix.service.dispatch import Call, Connection
from pyfix.service.interface import Nothing
from pyfix.service.queue_directory import open_whole_queue
from pyfix.service.role import Role, run_role
from pyfix.spool.directories import Space, Spool
from pyfix.spool.queue_file import QueueFileWriter
from pyfix.system.clock import monotonic, now_usec, utc_offset, zone_name
from pyfix.system.durable import NoSpace
from pyfix.system.flusher import Flusher
from pyfix.system.late_file import LateFile
from pyfix.system.pipe import PipeReader

_SPACE_AGE = 1.0


def refused(code: int, status: str, text: str) -> Refused:
    """A refusal, as the client of an SMTP server will see it."""
    return Refused(RefusedParameters(code, status, text))


WRITE_ERROR = (451, "4.3.0", "Error: queue file write error")
NO_SPACE = (452, "4.3.1", "Insufficient system storage")
NOT_OPEN = (451, "4.3.0", "Error: no transaction is open")


class Aborted(Exception):
    """The transaction was ended by its opener."""


class Transaction:
    """A message between Open and its end: content comes from the pipe, goes through the intake, into the file."""

    def __init__(self, queue_id: str, writer: QueueFileWriter, opening: Opening) -> None:
        self.queue_id = queue_id
        self.intake = opening.intake
        self._opening = opening
        self._writer = writer
        self._reader: PipeReader | None = None
        self._failed: Refusal | OSError | Aborted | None = None
        self._at_end = False
        self._waiting: asyncio.Future[None] | None = None

    def read(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        """Takes the content from a pipe. Raises NotAPipe; else the descriptor is taken."""
        self._reader = PipeReader(loop, fd, self._on_data, self._on_end)
        self._reader.start()

    def _on_data(self, data: bytes) -> None:
        try:
            self._writer.write_content(self.intake.feed(data))
        except (Refusal, OSError) as error:
            self._end(error)

    def _on_end(self, error: OSError | None) -> None:
        self._end(error)

    def _end(self, error: Refusal | OSError | Aborted | None) -> None:
        """No more content is read."""
        if self._reader is not None:
            self._reader.close()
        if not self._at_end:
            self._at_end = True
            self._failed = error
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def whole(self) -> None:
        """Waits until all content is there, and completes the file. Raises Refusal, OSError."""
        if not self._at_end:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if self._failed is not None:
            raise self._failed
        intake, writer = self.intake, self._writer
        if rest := intake.close():
            writer.write_content(rest)
        extracted = self._opening.extracted()
        attributes = {"message_id": intake.message_id} if intake.message_id else None
        writer.finish(extracted, attributes, self._opening.smtputf8(extracted))
        if writer.recipient_count == 0:
            raise Refusal(550, "5.1.0", "Error: no recipients specified")

    async def commit(self, flusher: Flusher) -> None:
        """Makes the message durable and visible. Raises WriteError."""
        await flusher.commit(self._writer)

    def abort(self) -> None:
        """Ends the transaction; nothing stays, unless it was committed."""
        self._end(Aborted())
        self._writer.abort()


class Cleanup:
    """The service."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._loop = asyncio.get_running_loop()
        self._flusher = Flusher(self._loop)
        # An answer that takes longer is not worth waiting for.
        self._announcer = Announcer(role.client(queue.QUEUE, "qmgr", timeout=10.0), self._loop)
        self._open: dict[Connection, Transaction] = {}
        self._idle = asyncio.Event()
        self._spool: Spool | None = None
        self._space = Space(0, 0)
        self._space_read = float("-inf")
        self._date = (-1, "")
        self._configure(role.conf)
        role.on_reload.append(self._configure)

    def _configure(self, conf: Config) -> None:
        self._settings = read_settings(conf)
        self._in_flow_delay = conf.seconds("in_flow_delay")
        self._local = partial(standard_form, ruleset=read_ruleset(conf, "local"))
        remote = read_ruleset(conf, "remote")
        self._remote = partial(standard_form, ruleset=remote) if remote.domain else None
        if self._spool is None or self._spool.root != conf.text("queue_directory"):
            self._spool = open_whole_queue(conf, ("hold", "incoming"))
            self._space_read = float("-inf")

    def open(self, call: Call[Open]) -> Nothing:
        """Opens the transaction of the caller's connection; aborts the one that was open."""
        connection, request = call.connection, call.parameters
        if not connection.on_close:
            connection.on_close.append(partial(self._abort, connection))
        self._abort(connection)
        connection.state = None
        try:
            self._check_space(request.queue_id)
            fd = call.take_fd(request.content)
            try:
                self._open[connection] = self._begin(request, fd)
            except (OSError, ValueError) as error:
                os.close(fd)
                raise self._reason(request.queue_id, error) from None
        except Refused as refusal:
            connection.state = refusal
            raise
        self._role.begin_work()
        return Nothing()

    def store(self, call: Call[Open]) -> Awaitable[Committed]:
        """Opens a transaction at once, and ends it later: so those that come together go to the disk together."""
        self.open(call)
        return self.commit(call)

    async def commit(self, call: Call[Nothing] | Call[Open]) -> Committed:
        """Ends the transaction of the caller's connection, or says again why there is none."""
        transaction = self._open.get(call.connection)
        if transaction is None:
            raise call.connection.state or refused(*NOT_OPEN)
        queue_id = transaction.queue_id
        if self._announcer.crowded:
            await asyncio.sleep(self._in_flow_delay)
        try:
            await transaction.whole()
            # From here on a caller who goes away does not matter.
            del self._open[call.connection]
            self._log_identifiers(transaction)
            await transaction.commit(self._flusher)
        except Aborted:
            raise refused(*NOT_OPEN) from None
        except (Refusal, OSError) as error:
            if self._open.pop(call.connection, None) is not None:
                self._log_identifiers(transaction)
            reason = self._reason(queue_id, error)
            self._drop(transaction)
            raise reason from None
        self._over()
        self._announcer.tell(queue_id)
        return Committed(queue_id)

    async def all_ended(self) -> None:
        """Waits until no transaction is open."""
        while self._open:
            self._idle.clear()
            await self._idle.wait()

    def _begin(self, request: Open, fd: int) -> Transaction:
        """A transaction that reads from ``fd``. Raises OSError and ValueError, and then nothing of it is left."""
        assert self._spool is not None
        date = self._format_date(request.arrival_usec // 1_000_000)
        opening = open_message(request, self._settings, self._local, self._remote, now_usec() // 1_000_000, date)
        path = self._spool.path("incoming", request.queue_id)
        writer = QueueFileWriter(LateFile(path, self._spool.descriptor))
        transaction = Transaction(request.queue_id, writer, opening)
        try:
            writer.begin(opening.message)
            transaction.read(self._loop, fd)
        except BaseException:
            writer.abort()
            raise
        return transaction

    def _format_date(self, seconds: int) -> str:
        if self._date[0] != seconds:
            self._date = (seconds, format_date(seconds, utc_offset(seconds), zone_name(seconds)))
        return self._date[1]

    def _check_space(self, queue_id: str) -> None:
        """Raises Refused where there is no room for another message."""
        assert self._spool is not None
        now = monotonic()
        if now - self._space_read > _SPACE_AGE:
            try:
                self._space = self._spool.free_space()
            except OSError as error:
                raise self._reason(queue_id, error) from None
            self._space_read = now
        needed = self._settings.space_needed
        if self._space.bytes < needed or self._space.inodes == 0:
            self._role.journal.write(events.no_space(f"{self._space.bytes} bytes < {needed}"))
            raise refused(*NO_SPACE)

    def _reason(self, queue_id: str, error: Exception) -> Refused:
        """What the caller is told of a failure; the log gets the details."""
        if isinstance(error, Refusal):
            if error.log:
                self._role.journal.warning(error.log, queue_id)
            return refused(error.code, error.status, error.text)
        self._role.journal.warning(str(error), queue_id)
        return refused(*(NO_SPACE if isinstance(error, NoSpace) else WRITE_ERROR))

    def _abort(self, connection: Connection) -> None:
        """Ends a connection's transaction, if there is one; nothing stays."""
        transaction = self._open.pop(connection, None)
        if transaction is not None:
            self._drop(transaction)

    def _drop(self, transaction: Transaction) -> None:
        transaction.abort()
        self._role.journal.write(events.canceled(transaction.queue_id))
        self._over()

    def _over(self) -> None:
        self._role.end_work()
        if not self._open:
            self._idle.set()

    def _log_identifiers(self, transaction: Transaction) -> None:
        for resent, value in transaction.intake.message_ids:
            self._role.journal.write(events.message_id(transaction.queue_id, value, resent=resent))


async def start(role: Role) -> None:
    """Wires the role."""
    service = Cleanup(role)
    role.on_stop.append(service.all_ended)
    role.implement(INTERFACE, {"Open": service.open, "Commit": service.commit, "Store": service.store})


def main() -> NoReturn:
    """The role's main function."""
    run_role("cleanup", start, __doc__)


if __name__ == "__main__":
    main()
