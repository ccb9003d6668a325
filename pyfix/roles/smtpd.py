"""smtpd: the SMTP server.

Description
    Receives mail from the network. The dialogue is a machine of its own (pyfix.wire.smtp_server); who may send what to
    whom is decided in pyfix.access. Content is written into a pipe to cleanup while it arrives, and nothing of it is
    kept here; the client is told to wait when cleanup is slow. A message is accepted when cleanup has answered that it
    is durable.

Protocol
    SMTP with PIPELINING, SIZE, VRFY, ENHANCEDSTATUSCODES, 8BITMIME, DSN, SMTPUTF8, XVERP. Calls io.pyfix.Cleanup for
    messages, and to tell postmaster of sessions (notify_classes), io.pyfix.Rewrite for recipients, io.pyfix.Resolver
    for the client's name, io.pyfix.Anvil to count clients. Without rewrite or cleanup the client is asked to come again
    (451); without resolver it has no name; without anvil it is not counted.

Security
    Everything that comes in is hostile. Lines, errors, recipients and message sizes are limited; memory is bounded for
    each connection and does not grow with what it sends. The role sees no file but its configuration, opens no network
    connection, and runs as a user of its own.

Standards
    RFC 5321 (SMTP), RFC 1870 (SIZE), RFC 1985 (ETRN, refused), RFC 2034 (ENHANCEDSTATUSCODES), RFC 2920 (PIPELINING),
    RFC 3461 (DSN), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8).

Diagnostics
    Connections, the queue ID of each message with its client, and refusals are logged; so are clients that break the
    protocol, and trouble with the services behind.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NoReturn

from pyfix.access.client_lists import ClientLists, Standing
from pyfix.access.received import Client, Hop, attributes, opening, received
from pyfix.access.restriction import RecipientPolicy
from pyfix.access.session import Session
from pyfix.access.session_settings import settings_by_standing
from pyfix.access.transcript import report
from pyfix.conf.config import Config
from pyfix.mail.date import format_date
from pyfix.service import anvil, cleanup, resolver, rewrite
from pyfix.service.attendance import Attendance
from pyfix.service.audience import Audience
from pyfix.service.calling import Unavailable
from pyfix.service.client_names import ClientNames
from pyfix.service.interface import ServiceError
from pyfix.service.postmaster import Postmaster
from pyfix.service.recipient_cache import RecipientCache
from pyfix.service.resolver import ClientName
from pyfix.service.rewrite import Resolved
from pyfix.service.role import Role, run_role
from pyfix.service.submission import Message, Submission
from pyfix.spool.queue_id import QueueIds
from pyfix.system.clock import monotonic, now_usec, utc_offset, zone_name
from pyfix.system.configuration import own_addresses
from pyfix.system.transport import peer_of
from pyfix.tables.table import TableError
from pyfix.wire.envelope import Transaction

_READ_SIZE = 65536
# as anvil knows it, and Postfix's master.cf
_SERVICE = "smtp"
_STRANGER = Standing(trusted=False, lenient=False, counted=True, local=False)


class Smtpd:
    """What sessions live in: the configuration, and the services behind."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.loop = asyncio.get_running_loop()
        self.attendance = Attendance(role.client(anvil.INTERFACE, "anvil"), _SERVICE)
        self.audience = Audience(role)
        self.log = role.journal.write
        self.now_usec = now_usec
        self.new_queue_id = QueueIds().new
        self._cleanup = role.client(cleanup.INTERFACE, "cleanup")
        self._recipients = RecipientCache(role.client(rewrite.INTERFACE, "rewrite"))
        self.names = ClientNames(role.client(resolver.INTERFACE, "resolver"), role.journal.warning)
        self._tasks: set[asyncio.Task[None]] = set()
        self._postmaster = Postmaster(role)
        self.report = partial(report, self._postmaster)
        self._date = (-1, "")
        self.configure(role.conf)

    def configure(self, conf: Config) -> None:
        """Takes a configuration, for the sessions to come. Raises ConfigError."""
        settings = settings_by_standing(conf)
        policy = RecipientPolicy(conf)
        self.lists = ClientLists(conf, own_addresses(conf))
        self.settings, self.policy = settings, policy
        self._postmaster.configure(conf)
        self.audience.timeout = conf.seconds("smtpd_timeout")
        self._by = f"{conf.text('myhostname')} ({conf.text('mail_name')})"
        self.names.wanted = conf.boolean("smtpd_peername_lookup")

    @property
    def stopping(self) -> bool:
        """No transaction is to begin any more."""
        return self.audience.stopping

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine beside; what it raises is a bug."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.role.bug(error)

    def standing(self, client: Client) -> Standing:
        """How to treat a client; like a stranger when a table is in trouble."""
        try:
            return self.lists.standing(client.address, client.name)
        except TableError as error:
            self.role.journal.warning(f"{client}: {error}")
            return _STRANGER

    def look_up(self, sender: str, recipient: str, then: Callable[[Resolved | None], None]) -> None:
        """Asks rewrite where a recipient leads, unless that was asked a moment ago."""
        known = self._recipients.get(sender, recipient, monotonic())
        if known is not None:
            then(known)
        else:
            self.spawn(self._ask(sender, recipient, then))

    async def _ask(self, sender: str, recipient: str, then: Callable[[Resolved | None], None]) -> None:
        try:
            resolved = await self._recipients.ask(sender, recipient, monotonic())
        except (Unavailable, ServiceError) as error:
            self.role.journal.warning(f"resolving <{recipient}>: {error}")
            then(None)
        else:
            then(resolved)

    def store(self, transaction: Transaction, hop: Hop, standing: Standing, on_room: Callable[[], None]) -> "Message":
        """Begins to hand a message to cleanup."""
        arrival = transaction.context
        assert isinstance(arrival, int)
        names = [recipient.address for recipient in transaction.recipients]
        trace = received(hop, self._by, transaction.queue_id, names, self._format_date(arrival))
        noted = attributes(hop, "local" if standing.local else "remote")
        try:
            submission = Submission(self.loop, self._cleanup, opening(transaction, trace, noted, arrival), on_room)
        except OSError as error:
            self.role.journal.warning(f"pipe to cleanup: {error.strerror}", transaction.queue_id)
            raise
        return Message("cleanup", submission, partial(self.role.journal.warning, queue_id=transaction.queue_id))

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Calls after a while."""
        self.loop.call_later(seconds, then)

    def _format_date(self, usec: int) -> str:
        seconds = usec // 1_000_000
        if self._date[0] != seconds:
            self._date = (seconds, format_date(seconds, utc_offset(seconds), zone_name(seconds)))
        return self._date[1]

    async def drain(self) -> None:
        """Lets transactions finish; other clients are told to come again."""
        await self.audience.drain()
        self.attendance.close()


class Connection(asyncio.Protocol):
    """A client's TCP connection."""

    __slots__ = ("_active", "_address", "_early", "_reading", "_session", "_smtpd", "_standing", "_transport")

    def __init__(self, smtpd: Smtpd) -> None:
        self._smtpd = smtpd
        self._session: Session | None = None
        self._standing = _STRANGER
        self._early = b""
        self._reading = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # streams only
        """A client has come."""
        self._transport = transport
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_SIZE  # asyncio's own size has each read make a buffer of 256 KiB
        smtpd = self._smtpd
        smtpd.audience.enter(self)
        self._active = monotonic()
        self._address, port = peer_of(transport)
        known = smtpd.names.known(self._address)
        if known is None:
            smtpd.spawn(self._look_up(port))
        else:  # two turns of the loop, in which what the client sent too early comes to light
            smtpd.loop.call_soon(smtpd.loop.call_soon, self._greet, port, known)

    async def _look_up(self, port: int) -> None:
        await asyncio.sleep(0)  # as above
        self._greet(port, await self._smtpd.names.look_up(self._address))

    def _greet(self, port: int, found: ClientName) -> None:
        if self._transport.is_closing():
            return
        smtpd = self._smtpd
        client = Client(found.name, self._address, port, found.reverse_name)
        self._standing = smtpd.standing(client)
        if self._standing.counted:
            smtpd.attendance.connect(self._address)
        self._session = Session(
            smtpd, self, client, self._standing, smtpd.settings[self._standing.lenient, self._standing.verp]
        )
        early, self._early = self._early, b""
        self._session.begin(early)
        if smtpd.stopping:
            self._session.stop()

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        self._active = monotonic()
        if self._session is None:
            self._early += data
            self.read(wanted=False)
        else:
            self._session.receive(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client has gone."""
        smtpd = self._smtpd
        session, self._session = self._session, None  # they hold each other
        if session is not None:
            session.lost()
            if self._standing.counted:
                smtpd.attendance.disconnect(self._address)
        smtpd.audience.leave(self)

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        if self._session is not None:
            self._session.block(blocked=True)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._active = monotonic()
        if self._session is not None:
            self._session.block(blocked=False)

    def stop(self) -> None:
        """Ends the connection as soon as no transaction is under way."""
        if self._session is not None:
            self._session.stop()

    def write(self, data: bytes) -> None:
        """Sends to the client."""
        self._active = monotonic()
        if data:
            self._transport.write(data)

    def close(self) -> None:
        """Closes when all is sent."""
        self._transport.close()

    def read(self, *, wanted: bool) -> None:
        """Goes on reading, or stops."""
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def look_at_clock(self, now: float, timeout: float) -> None:
        """Ends a connection whose client has been silent for too long, unless it is this side that is slow."""
        if now - self._active < timeout:
            return
        self._active = now
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        elif self._session is not None:
            self._session.too_slow()


async def start(role: Role) -> None:
    """Serves."""
    smtpd = Smtpd(role)
    role.on_reload.append(smtpd.configure)
    role.on_stop.append(smtpd.drain)
    await role.accept_streams(lambda: Connection(smtpd))


def main() -> NoReturn:
    """The program."""
    run_role("smtpd", start, __doc__ or "")


if __name__ == "__main__":
    main()
