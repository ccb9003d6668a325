"""postdrop: takes mail from the users of this machine.

Description
    A submission is stored in the maildrop queue, where pickup finds it. It is durable when it is answered. The
    envelope is checked here: what pickup reads can be trusted to be a submission, whoever made it.

Protocol
    Serves io.pyfix.Postdrop on a socket that every user may connect to. The content comes through a pipe whose reading
    end is passed. A connection that closes before Commit leaves nothing.

Security
    Everything a caller says is hostile. Who submits is known by SO_PEERCRED and stands in the file; the time and the
    queue ID are this role's. A record holds no control character, so none can be forged. A caller's pipe is never
    read in a way that could wait for the caller. Each user may have UID_LIMIT submissions open at a time, all users
    together TOTAL_LIMIT; more wait their turn, so nobody can keep others out. A submission that makes no progress for
    ipc_timeout is dropped. A user's connections beyond PER_UID_LIMIT are closed at once. Runs as the mail system's
    user, writes into maildrop/ only.

Standards
    RFC 3461 (ENVID, RET, NOTIFY).

Diagnostics
    Refusals are told to the caller; trouble of this system is logged too.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from pyfix.conf.config import Config
from pyfix.mail.verp import check_delimiters
from pyfix.service.authorization import UserList
from pyfix.service.denied import Stranger
from pyfix.service.dispatch import Call
from pyfix.service.interface import Nothing, ServiceError
from pyfix.service.postdrop import INTERFACE, Committed, Open, Refused, RefusedParameters
from pyfix.service.queue_directory import open_queue
from pyfix.service.role import PER_UID_LIMIT, Role, run_role
from pyfix.service.turns import Turns
from pyfix.spool.envelope import TRACE_RECORD, TRACE_VERIFY
from pyfix.spool.maildrop import BadSubmission, MaildropWriter, NewSubmission, check
from pyfix.spool.queue_id import QueueIds
from pyfix.system import account
from pyfix.system.clock import now_usec
from pyfix.system.durable import NoSpace, WriteError
from pyfix.system.flusher import Flusher
from pyfix.system.pipe import NotAPipe, PipeReader
from pyfix.tables.table import TableError

UID_LIMIT = 40
TOTAL_LIMIT = 200
_TURN_TIMEOUT = 60.0
_TRACE_FLAGS = {"none": 0, "record": TRACE_RECORD, "verify": TRACE_VERIFY}


def refused(status: str, text: str) -> Refused:
    """A refusal."""
    return Refused(RefusedParameters(status, text))


class Submission:
    """A submission between Open and its end. ``on_close`` is called once, when it has ended one way or the other."""

    def __init__(
        self, queue_id: str, writer: MaildropWriter, limits: tuple[int, float], on_close: Callable[[], None]
    ) -> None:
        self.queue_id = queue_id
        self._writer = writer
        self._size_limit, self._idle_limit = limits
        self._on_close = on_close
        self._size = 0
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Refused | WriteError | None] = self._loop.create_future()
        self._reader: PipeReader | None = None
        self._timer = self._loop.call_later(self._idle_limit, self._idle)

    def read(self, fd: int) -> None:
        """Takes the content from a pipe. Raises NotAPipe; else the descriptor is taken."""
        self._reader = PipeReader(self._loop, fd, self._on_data, self._on_end)
        self._reader.start()

    async def whole(self) -> None:
        """Waits until all content is there. Raises Refused, WriteError."""
        error = await self._ended
        if error is not None:
            raise error
        self._writer.finish()

    async def commit(self, flusher: Flusher) -> None:
        """Makes it durable. Raises WriteError."""
        await flusher.commit(self._writer)

    def close(self) -> None:
        """Ends it. Unless it was committed, nothing of it stays."""
        self._end(None)
        self._writer.abort()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()

    def _end(self, error: Refused | WriteError | None) -> None:
        self._timer.cancel()
        if self._reader is not None:
            self._reader.close()
        if not self._ended.done():
            self._ended.set_result(error)

    def _on_data(self, data: bytes) -> None:
        self._size += len(data)
        if 0 < self._size_limit < self._size:
            self._end(refused("5.3.4", "message file too big"))
            return
        try:
            self._writer.write_content(data)
        except WriteError as error:
            self._end(error)
            return
        self._timer.cancel()
        self._timer = self._loop.call_later(self._idle_limit, self._idle)

    def _on_end(self, error: OSError | None) -> None:
        self._end(refused("4.3.0", "error reading the message") if error is not None else None)

    def _idle(self) -> None:
        self._end(refused("4.4.2", "timeout while reading the message"))


class _Caller:
    """What is kept for a connection."""

    __slots__ = ("closed", "refusal", "submission")

    def __init__(self) -> None:
        self.closed = False
        # why the last Open came to nothing: one without reply learns it at Commit
        self.refusal: ServiceError | None = None
        self.submission: Submission | None = None

    def close(self) -> None:
        self.closed = True
        if self.submission is not None:
            self.submission.close()


class Postdrop:
    """The service."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._ids = QueueIds()
        self._turns = Turns(UID_LIMIT, TOTAL_LIMIT)
        self._flusher = Flusher(asyncio.get_running_loop())
        self._root = ""
        self._configure(role.conf)
        role.on_reload.append(self._configure)
        role.on_stop.append(self._turns.all_back)

    def _configure(self, conf: Config) -> None:
        self._verp_filter = conf.text("verp_delimiter_filter")
        self._submitters = UserList(conf, "authorized_submit_users")
        self._limits = (conf.integer("message_size_limit"), float(conf.seconds("ipc_timeout")))
        if self._root != conf.text("queue_directory"):
            self._spool = open_queue(conf)
            self._root = self._spool.root

    async def open(self, call: Call[Open]) -> Nothing:
        """Opens a submission on the caller's connection."""
        connection = call.connection
        if connection.state is None:
            connection.state = _Caller()
            connection.on_close.append(connection.state.close)
        caller: _Caller = connection.state
        caller.refusal = None
        try:
            await self._open(call, caller)
        except ServiceError as refusal:
            caller.refusal = refusal
            raise
        return Nothing()

    async def _open(self, call: Call[Open], caller: _Caller) -> None:
        uid = call.peer.uid
        if caller.submission is not None:
            raise refused("5.5.1", "a submission is already open on this connection")
        submission = await self._checked(call.parameters, uid)
        try:
            async with asyncio.timeout(_TURN_TIMEOUT):
                await self._turns.take(uid)
        except TimeoutError:
            raise refused("4.3.2", "too many submissions at a time") from None
        self._role.begin_work()
        try:
            opened = self._create(submission, lambda: self._over(uid))
        except BaseException:
            self._over(uid)
            raise
        try:
            fd = call.take_fd(call.parameters.content)
            opened.read(fd)
        except NotAPipe:
            os.close(fd)
            opened.close()
            raise refused("5.5.4", "the content must come through a pipe") from None
        except ServiceError:
            opened.close()
            raise
        if caller.closed:
            opened.close()
        else:
            caller.submission = opened

    async def store(self, call: Call[Open]) -> Committed:
        """Opens a submission and ends it."""
        await self.open(call)
        return await self.commit(call)

    async def commit(self, call: Call[Nothing] | Call[Open]) -> Committed:
        """Ends the submission of the caller's connection."""
        caller: _Caller = call.connection.state or _Caller()
        submission = caller.submission
        if submission is None:
            raise caller.refusal or refused("5.5.1", "no submission is open on this connection")
        try:
            await submission.whole()
            # From here on a caller who goes away does not matter.
            caller.submission = None
            await submission.commit(self._flusher)
        except WriteError as error:
            self._role.journal.warning(f"uid={call.peer.uid}: {error.filename}: {error.strerror}")
            raise _write_trouble(error) from None
        finally:
            caller.submission = None
            submission.close()
        return Committed(submission.queue_id)

    async def _checked(self, request: Open, uid: int) -> NewSubmission:
        """The submission to store. Raises Refused."""
        stranger, user = await self._look_up(request, uid)
        if stranger is not None:
            raise refused("5.7.1", f"User {stranger.user}({uid}) is not allowed to submit mail")
        if request.verp_delimiters and not check_delimiters(request.verp_delimiters, self._verp_filter):
            raise refused("5.5.2", f"VERP takes two delimiters of {self._verp_filter}")
        if request.sender is None and user is None:
            raise refused("5.1.7", f"no login name found for user ID {uid}")
        submission = NewSubmission(
            sender=user.name if request.sender is None and user is not None else request.sender or "",
            recipients=request.recipients,
            arrival_usec=now_usec(),
            uid=uid,
            full_name=_clean(user.full_name if user else "") if request.full_name is None else request.full_name,
            envid=request.envid,
            ret=request.ret,
            notify=request.notify,
            encoding=request.encoding,
            smtputf8=request.smtputf8,
            extract_recipients=request.extract_recipients,
            trace_flags=_TRACE_FLAGS[request.trace],
            verp_delimiters=request.verp_delimiters,
        )
        try:
            check(submission)
        except BadSubmission as error:
            raise refused("5.5.2", str(error)) from None
        return submission

    async def _look_up(self, request: Open, uid: int) -> tuple[Stranger | None, account.Account | None]:
        """Who may not submit, or the account where it has to say something. Raises Refused."""
        needs_account = request.sender is None or request.full_name is None
        try:
            stranger = await self._submitters.check(uid)
            # The user database may be on the network: nobody else waits for it.
            return stranger, await asyncio.to_thread(account.by_uid, uid) if needs_account else None
        except TableError as error:
            self._role.journal.warning(str(error))
            raise refused("4.3.0", "table lookup error") from None
        except OSError as error:
            self._role.journal.warning(f"error looking up passwd info for uid {uid}: {error.strerror}")
            raise refused("4.3.0", "user lookup error") from None

    def _create(self, submission: NewSubmission, on_close: Callable[[], None]) -> Submission:
        try:
            while True:
                queue_id = self._ids.new(now_usec())
                with suppress(FileExistsError):
                    writer = MaildropWriter(self._spool.create(queue_id, "maildrop"))
                    break
            writer.begin(submission)
        except WriteError as error:
            self._role.journal.warning(f"uid={submission.uid}: {error.filename}: {error.strerror}")
            raise _write_trouble(error) from None
        return Submission(queue_id, writer, self._limits, on_close)

    def _over(self, uid: int) -> None:
        self._turns.give_back(uid)
        self._role.end_work()


def _clean(text: str) -> str:
    """A name from the user database without control characters: users choose their own."""
    return "".join(character for character in text if character.isprintable())


def _write_trouble(error: WriteError) -> Refused:
    full = isinstance(error, NoSpace)
    return refused("4.3.1", "insufficient system storage") if full else refused("4.3.0", "queue file write error")


async def start(role: Role) -> None:
    """Wires the role."""
    service = Postdrop(role)
    handlers = {"Open": service.open, "Commit": service.commit, "Store": service.store}
    role.implement(INTERFACE, handlers, per_uid_limit=PER_UID_LIMIT)


def main() -> NoReturn:
    """The role's main function."""
    run_role("postdrop", start, __doc__)


if __name__ == "__main__":
    main()
