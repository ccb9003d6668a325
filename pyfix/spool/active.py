"""The active queue: the messages that the queue manager works on, each with a descriptor while it is of use.

There may be more messages than descriptors. So a message keeps the descriptor that its envelope was read from as long
as few do so; else it is opened again for each delivery.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from msgspec.structs import replace

from pyfix.spool import log
from pyfix.spool.directories import EXPIRED, INVISIBLE, LOG_QUEUES, Spool
from pyfix.spool.envelope import Envelope, QueuedRecipient
from pyfix.spool.log import LogEntry, LogName
from pyfix.spool.queue_file import mark_done, mark_warned, read_envelope, read_recipients
from pyfix.spool.record import CorruptFile
from pyfix.system.durable import is_locked
from pyfix.system.lock import try_lock

_KEPT_LIMIT = 256
"""Descriptors that messages keep between deliveries: the usual limit of a process is 1,024."""
_SCAN_PATIENCE = 100
_BOGUS_LIMIT = 1000
_DELAYS_LIMIT = 20_000


class AlreadyRunning(Exception):
    """Another process works on this active queue."""


def in_use(spool: Spool) -> bool:
    """Whether a queue manager works on the active queue."""
    try:
        lock = os.open("active", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=spool.descriptor)
    except FileNotFoundError:
        return False
    try:
        return is_locked(lock)
    finally:
        os.close(lock)


class ActiveFile:
    """The file of an active message.

    ``envelope`` is kept without its recipients.
    """

    __slots__ = (
        "active_usec",
        "delays",
        "descriptor",
        "envelope",
        "forced_expire",
        "gone",
        "notice_due",
        "queue_id",
        "rest",
        "tried_before",
        "users",
    )

    def __init__(self, queue_id: str, descriptor: int, envelope: Envelope, active_usec: int) -> None:
        self.queue_id = queue_id
        self.envelope = envelope
        # when it became active, microseconds since the epoch
        self.active_usec = active_usec
        # where to read more recipients from; 0 when all are read
        self.rest = envelope.rest
        # postsuper -e has been at it: it has no time left
        self.forced_expire = False
        # and why its recipients were deferred before that, by offset
        self.delays: dict[int, LogEntry] = {}
        # there may be logs and marks of an earlier attempt
        self.tried_before = True
        # the sender may have to be told of recipients that bounced
        self.notice_due = False
        # somebody else has taken the file away: nothing is left to be done to it
        self.gone = False
        # its descriptor, -1: closed; and how many deliveries use it
        self.descriptor = descriptor
        self.users = 0


class ActiveQueue:
    """The queue manager's hold on active/. All methods raise OSError where the file system is in trouble.

    ``on_corrupt`` is told of each file that was put into corrupt/: queue ID, where it was, and why. ``on_bogus`` is
    told, once, of the path of what is no file, or none that can be worked on: it stays where it is.
    """

    def __init__(
        self, spool: Spool, on_corrupt: Callable[[str, str, str], None], on_bogus: Callable[[str], None]
    ) -> None:
        """Takes the queue for this process alone. Raises AlreadyRunning."""
        self._spool = spool
        self._on_corrupt = on_corrupt
        self._on_bogus = on_bogus
        self._bogus: set[str] = set()
        self._user = os.geteuid()
        self._kept = 0
        self._lock = os.open("active", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=spool.descriptor)
        if not try_lock(self._lock):
            os.close(self._lock)
            raise AlreadyRunning(spool.root)

    def close(self) -> None:
        """Gives the queue up."""
        os.close(self._lock)

    def repair(self, started: float) -> None:
        """Puts in order what a crash has left (Spool.repair)."""
        for path in self._spool.repair(started).bogus:
            self._pass_over(path)

    def due(self, queue: str, now: float, later: Callable[[str, float], None]) -> Iterator[str]:
        """Scans ``queue`` for messages that are due at ``now``, seconds since the epoch; "" between many others.

        ``later`` is told of deferred messages that are not due yet, and when they will be.
        """
        for number, found in enumerate(self._spool.scan(queue, self._pass_over)):
            if found.ready and found.mtime <= now:
                yield found.queue_id
                continue
            if found.ready and queue == "deferred":
                later(found.queue_id, found.mtime)
            if number % _SCAN_PATIENCE == 0:
                yield ""

    def _pass_over(self, path: str) -> None:
        if path not in self._bogus and len(self._bogus) < _BOGUS_LIMIT:
            self._bogus.add(path)
            self._on_bogus(path)

    def activate(
        self, queue: str, queue_id: str, now_usec: int, recipient_limit: int
    ) -> tuple[ActiveFile, tuple[QueuedRecipient, ...]] | None:
        """Moves a message from ``queue`` to active and reads it: the file, and recipients up to the limit.

        None: it is not there, or not complete, or corrupt, or somebody else's: then it stays where it is.
        """
        opened = self._open(queue, queue_id)
        if opened is None:
            return None
        descriptor, status = opened
        try:
            self._spool.move(queue_id, queue, "active")
            envelope = read_envelope(descriptor, recipient_limit, origin=False)
        except FileNotFoundError:
            os.close(descriptor)
            return None
        except CorruptFile as error:
            os.close(descriptor)
            self._put_aside(queue_id, queue, error)
            return None
        except OSError:
            os.close(descriptor)
            raise
        file = _active_file(queue_id, descriptor, status, envelope, now_usec)
        if file.forced_expire:
            past = islice(log.read(self._spool, "defer", queue_id), _DELAYS_LIMIT)
            file.delays = {entry.offset: entry for entry in past}
        if file.tried_before:
            # What it says of the recipients that are left is about to be found out again.
            self._spool.remove("defer", queue_id)
        self._kept += 1
        if self._kept > _KEPT_LIMIT:
            self._drop(file)
        return file, envelope.recipients

    def _open(self, queue: str, queue_id: str) -> tuple[int, os.stat_result] | None:
        """A descriptor of a message that can be worked on, and the file's status."""
        try:
            descriptor, status = self._spool.open_and_look(queue, queue_id)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            self._pass_over(f"{queue}/{queue_id}: {error.strerror}")
            return None
        owner = status.st_uid
        if self._user not in (owner, 0):
            # Its recipients could not be marked as done: they would be served again and again.
            self._pass_over(f"{queue}/{queue_id}: it belongs to user {owner}")
        elif not is_locked(descriptor):
            return descriptor, status
        # else its fsync is under way: should that fail, the client is told so, and nothing may be delivered.
        os.close(descriptor)
        return None

    def more_recipients(self, file: ActiveFile, limit: int) -> tuple[QueuedRecipient, ...]:
        """The next recipients, none if the file is gone or corrupt."""
        recipients: tuple[QueuedRecipient, ...] = ()
        rest = 0
        try:
            with self.opened(file) as descriptor:
                recipients, rest = read_recipients(descriptor, file.envelope, file.rest, limit)
        except FileNotFoundError:
            file.gone = True
        except CorruptFile as error:
            file.gone = True
            self._put_aside(file.queue_id, "active", error)
        file.rest = rest
        return recipients

    def _put_aside(self, queue_id: str, where: str, error: CorruptFile) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._spool.quarantine("active", queue_id)
        self._on_corrupt(queue_id, where, str(error))

    @contextlib.contextmanager
    def opened(self, file: ActiveFile) -> Iterator[int]:
        """The message's read-only descriptor, within the context. Raises FileNotFoundError, and then it is gone."""
        descriptor = self.hold(file)
        try:
            yield descriptor
        finally:
            self.let_go(file)

    def hold(self, file: ActiveFile) -> int:
        """The message's read-only descriptor, until ``let_go``. Raises FileNotFoundError, and then it is gone."""
        if file.descriptor < 0:
            try:
                file.descriptor = self._spool.open("active", file.queue_id)
            except FileNotFoundError:
                file.gone = True
                raise
            self._kept += 1
        file.users += 1
        return file.descriptor

    def let_go(self, file: ActiveFile) -> None:
        """The descriptor is not in use any more."""
        file.users -= 1
        if self._kept > _KEPT_LIMIT and not file.users:
            self._drop(file)

    def _drop(self, file: ActiveFile) -> None:
        if file.descriptor >= 0:
            os.close(file.descriptor)
            file.descriptor = -1
            self._kept -= 1

    def mark(self, file: ActiveFile, offsets: Iterable[int]) -> None:
        """Marks recipients as done."""
        try:
            descriptor = self._spool.open("active", file.queue_id, write=True)
        except FileNotFoundError:
            file.gone = True
            return
        try:
            mark_done(descriptor, *offsets)
        except CorruptFile as error:
            file.gone = True
            self._put_aside(file.queue_id, "active", error)
        finally:
            os.close(descriptor)

    def finish(self, file: ActiveFile) -> None:
        """Marks all recipients as done, in one step: the file is invisible from now on, and is to be removed."""
        try:
            descriptor = self.hold(file)
        except FileNotFoundError:
            return
        os.fchmod(descriptor, INVISIBLE)
        self.let_go(file)

    def mark_warned(self, file: ActiveFile) -> None:
        """Marks that the sender was told of the delay. Raises CorruptFile where the mark has no place."""
        try:
            descriptor = self._spool.open("active", file.queue_id, write=True)
        except FileNotFoundError:
            file.gone = True
            return
        try:
            mark_warned(descriptor, file.envelope)
        finally:
            os.close(descriptor)

    def has_log(self, file: ActiveFile, name: LogName) -> bool:
        """Whether a log says what the sender was not told of."""
        return self._spool.find(name, file.queue_id) is not None

    def defer(self, file: ActiveFile, when: int) -> None:
        """Moves the message to deferred; it is due at ``when``, seconds since the epoch."""
        try:
            self._spool.set_retry_time("active", file.queue_id, when)
            self._spool.move(file.queue_id, "active", "deferred")
        except FileNotFoundError:
            file.gone = True

    def remove(self, file: ActiveFile) -> None:
        """Removes the message: it was delivered or bounced to everybody. For any thread."""
        try:
            # Where this process has put it.
            os.unlink(self._spool.path("active", file.queue_id), dir_fd=self._spool.descriptor)
        except FileNotFoundError:
            file.gone = not self._spool.remove("active", file.queue_id)

    def forget(self, file: ActiveFile) -> None:
        """The message is not active any more."""
        self._drop(file)
        if file.gone:
            # What was logged since it was taken away.
            for name in LOG_QUEUES:
                self._spool.remove(name, file.queue_id)


def _active_file(
    queue_id: str, descriptor: int, status: os.stat_result, envelope: Envelope, now_usec: int
) -> ActiveFile:
    file = ActiveFile(queue_id, descriptor, replace(envelope, recipients=()), now_usec)
    file.forced_expire = bool(status.st_mode & EXPIRED)
    # A file that has its first mtime was not deferred, and nobody in it was marked, since it was accepted.
    first_mtime = status.st_mtime < envelope.create_time + 1
    file.tried_before = not first_mtime or len(envelope.recipients) < envelope.recipient_count
    file.notice_due = file.tried_before
    return file
