"""pickup: moves local mail from the maildrop queue to cleanup.

Description
    Each whole file of maildrop/ is read, gets a queue ID and a Received header, and is handed to cleanup; when cleanup
    has answered that the message is durable the file is removed. So a crash between the two makes a duplicate, and
    none can lose mail. The role runs while there are files, and for max_idle after the last one.

    ===========================  =================================================================================
    cleanup says                 then
    ===========================  =================================================================================
    committed                    the file is removed
    refused for good (5xx)       the sender gets a notice (a null sender: none), and the file is removed
    refused for now, or nothing  the file stays and is tried again, after 1 s, 2 s ... 60 s; so it does with
                                 soft_bounce where the message is refused for good
    ===========================  =================================================================================

    A file that is not a submission is put into corrupt/. A file that is not whole yet is left alone.

Protocol
    None. A path unit starts the role when maildrop/ is not empty.

Security
    Files of maildrop/ are made by postdrop, on behalf of users nobody trusts: their records are checked again here, and
    files with more than one name or of another kind are not read. Opens no file for writing.

Diagnostics
    A line for each message, ``QUEUE_ID: uid=N from=<SENDER>``. Malformed files and refusals are warned of.
"""

import asyncio
import os
from collections.abc import Iterator
from itertools import chain
from typing import NoReturn

from pyfix.mail.date import format_date
from pyfix.service import bounce, cleanup, events
from pyfix.service.calling import Unavailable
from pyfix.service.interface import Nothing
from pyfix.service.queue_directory import open_queue
from pyfix.service.role import Role, run_role
from pyfix.spool.content import read_content
from pyfix.spool.maildrop import Submission, read_submission
from pyfix.spool.queue_id import QueueIds
from pyfix.spool.record import CorruptFile
from pyfix.system.clock import monotonic, now_usec, utc_offset, zone_name
from pyfix.system.pipe import open_pipe, write_pipe
from pyfix.system.watch import Watch, holds_files

_PARALLEL = 8
_BATCH = 1000
_FIRST_DELAY, _LAST_DELAY = 1.0, 60.0
_FUTURE_LIMIT = 2 * 3600 * 1_000_000
_DAY = 86_400 * 1_000_000


class Pickup:
    """The role's work."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._journal = role.journal
        self._spool = open_queue(role.conf)
        self._ids = QueueIds()
        self._cleanup = role.client(cleanup.INTERFACE, "cleanup")
        self._bounce = role.client(bounce.INTERFACE, "bounce")
        self._turn = asyncio.Semaphore(_PARALLEL)
        # files that were tried in vain: when to try again, and how long was waited before that
        self._later: dict[str, tuple[float, float]] = {}
        # files that can be neither read nor put away
        self._hopeless: set[str] = set()
        self._woken = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """Begins with no more files; run() returns soon."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Works until there was nothing to do for max_idle."""
        maildrop = os.path.join(self._spool.root, "maildrop")
        # Other queues are not this role's to make, nor, in its sandbox, to see.
        os.makedirs(maildrop, 0o700, exist_ok=True)
        watch = Watch()
        loop = asyncio.get_running_loop()
        try:
            watch.add(maildrop)
            loop.add_reader(watch.fileno(), self._on_watch, watch)
            idle_since = monotonic()
            while not self._stopping:
                self._woken.clear()
                if await self._pass():
                    idle_since = monotonic()
                    continue
                idle = monotonic() - idle_since
                max_idle = self._role.conf.seconds("max_idle")
                # Were it to end while there are files, the path unit would start it again at once.
                if idle >= max_idle and not holds_files(maildrop):
                    return
                await self._sleep(max_idle - idle if idle < max_idle else max_idle)
        finally:
            loop.remove_reader(watch.fileno())
            watch.close()

    def _on_watch(self, watch: Watch) -> None:
        if watch.changed():
            self._woken.set()

    async def _sleep(self, longest: float) -> None:
        """Waits for a new file, or until a file is due again."""
        due = min((when for when, _ in self._later.values()), default=monotonic() + longest)
        try:
            async with asyncio.timeout(min(max(due - monotonic(), 0.01), longest)):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _pass(self) -> int:
        """Takes every file that is due; how many are gone."""
        now = monotonic()
        names: list[str] = []
        for found in self._spool.scan("maildrop"):
            if found.ready and found.queue_id not in self._hopeless and self._due(found.queue_id, now):
                names.append(found.queue_id)
                if len(names) >= _BATCH:
                    break
        self._later = {name: later for name, later in self._later.items() if later[0] > now or self._is_there(name)}
        return sum(await asyncio.gather(*(self._take(name) for name in sorted(names))))

    def _due(self, queue_id: str, now: float) -> bool:
        later = self._later.get(queue_id)
        return later is None or later[0] <= now

    def _is_there(self, queue_id: str) -> bool:
        return self._spool.find("maildrop", queue_id) is not None

    async def _take(self, name: str) -> bool:
        """Deals with one file; whether it is gone."""
        async with self._turn:
            if self._stopping:
                return False
            self._role.begin_work()
            try:
                return await self._move(name)
            except (Unavailable, cleanup.Refused) as error:
                self._again_later(name, str(error))
            except FileNotFoundError:
                return True
            except OSError as error:
                self._again_later(name, f"{error.strerror}")
            finally:
                self._role.end_work()
        return False

    def _again_later(self, name: str, reason: str) -> None:
        delay = min(self._later.get(name, (0.0, _FIRST_DELAY / 2))[1] * 2, _LAST_DELAY)
        self._later[name] = (monotonic() + delay, delay)
        self._journal.warning(f"maildrop/{name}: {reason}")

    async def _move(self, name: str) -> bool:
        fd = self._spool.open("maildrop", name)
        try:
            try:
                submission = _read(fd)
            except CorruptFile as error:
                return self._put_away(name, str(error))
            queue_id = self._ids.new(now_usec())
            self._log(name, queue_id, submission)
            try:
                await self._submit(fd, queue_id, submission)
            except cleanup.Refused as error:
                if error.parameters.code < 500 or self._role.conf.boolean("soft_bounce"):
                    raise
                await self._return(fd, queue_id, submission, error.parameters)
            except CorruptFile as error:
                return self._put_away(name, str(error))
        finally:
            os.close(fd)
        self._spool.remove("maildrop", name)
        self._later.pop(name, None)
        return True

    def _log(self, name: str, queue_id: str, submission: Submission) -> None:
        age = now_usec() - submission.arrival_usec
        if age < -_FUTURE_LIMIT:
            self._journal.warning(f"message maildrop/{name} dated {-age // 10**6} seconds into the future", queue_id)
        elif age > _DAY:
            self._journal.warning(f"message maildrop/{name} has been queued for {age // _DAY} days", queue_id)
        if submission.requeued:
            self._journal.write(events.requeued(queue_id, submission.uid, submission.sender, name))
        else:
            self._journal.write(events.pickup(queue_id, submission.uid, submission.sender))

    def _put_away(self, name: str, reason: str) -> bool:
        """Puts a file that is not a submission where it can be looked at; it may be somebody's mail."""
        try:
            self._spool.quarantine("maildrop", name)
        except OSError as error:
            self._hopeless.add(name)
            self._journal.error(f"maildrop/{name}: {reason}; it cannot be moved to corrupt/: {error.strerror}")
            return False
        self._journal.write(events.corrupt(name, "maildrop", reason))
        return True

    async def _submit(self, fd: int, queue_id: str, submission: Submission) -> None:
        """Hands a message to cleanup. Raises Refused, Unavailable, CorruptFile, OSError."""
        session = await self._cleanup.session()
        try:
            reading, writing = open_pipe()
            try:
                opened = session.send("Open", self._envelope(queue_id, submission), (reading,))
                os.close(reading)
                await write_pipe(writing, _content(fd, submission))
            finally:
                os.close(writing)
            await opened
            await session.call("Commit", Nothing())
        except BaseException:
            # What is not committed is thrown away.
            session.close()
            raise
        session.release()

    def _envelope(self, queue_id: str, submission: Submission) -> cleanup.Open:
        conf = self._role.conf
        arrival_usec = min(submission.arrival_usec, now_usec())
        seconds = arrival_usec // 1_000_000
        date = format_date(seconds, utc_offset(seconds), zone_name(seconds))
        by = f"{conf.text('myhostname')} ({conf.text('mail_name')}, from userid {submission.uid})"
        return cleanup.Open(
            queue_id=queue_id,
            content=0,
            sender=submission.sender,
            recipients=tuple(cleanup.Recipient(r.address, r.orcpt, r.notify) for r in submission.recipients),
            arrival_usec=arrival_usec,
            trace=f"Received: by {by}\n\tid {queue_id}; {date}",
            full_name=submission.full_name,
            extract_recipients=submission.extract_recipients,
            encoding=submission.encoding,
            smtputf8=submission.smtputf8,
            envid=submission.envid,
            ret=submission.ret,
            verp_delimiters=submission.verp_delimiters,
            attributes=dict(submission.attributes),
        )

    async def _return(self, fd: int, queue_id: str, submission: Submission, refusal: cleanup.RefusedParameters) -> None:
        """Tells the sender that cleanup will never take the message. Raises Unavailable."""
        self._journal.warning(f"{refusal.status} {refusal.text}", queue_id)
        if not submission.sender:
            return
        recipients = [(r.address, r.offset, r.orcpt, r.notify) for r in submission.recipients] or [
            ("unknown", 0, "", 0)
        ]
        entries = tuple(
            bounce.Entry(address, offset, refusal.status, refusal.text, "failed", orcpt=orcpt, notify=notify)
            for address, offset, orcpt, notify in recipients
        )
        await self._bounce.call("Append", bounce.Append(queue_id, "bounce", entries))
        notice = bounce.Notify(
            queue_id=queue_id,
            message=0,
            content_offset=submission.content_offset,
            size=os.fstat(fd).st_size,
            sender=submission.sender,
            arrival_usec=submission.arrival_usec,
            encoding=submission.encoding,
            smtputf8=submission.smtputf8,
            envid=submission.envid,
            ret=submission.ret,
        )
        await self._bounce.call("Notify", notice, (fd,))


def _read(fd: int) -> Submission:
    if os.fstat(fd).st_nlink != 1:
        raise CorruptFile(0, "the file has more than one name")
    return read_submission(fd)


def _content(fd: int, submission: Submission) -> Iterator[bytes]:
    """The content; begins with an empty line where it would continue the Received header."""
    chunks = read_content(fd, submission.content_offset)
    first = next(chunks, b"")
    return chain([b"\n" + first if first.startswith((b" ", b"\t")) else first], chunks)


async def start(role: Role) -> None:
    """Wires the role, which ends by itself."""
    pickup = Pickup(role)

    def on_done(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, OSError):
            role.fail(error)
        elif error is not None:
            role.bug(error)
        else:
            role.stop()

    work = asyncio.get_running_loop().create_task(pickup.run())
    work.add_done_callback(on_done)

    async def stop() -> None:
        # What is at work is finished: a file whose message is in the queue already would be taken twice.
        pickup.stop()
        await asyncio.wait({work})

    role.on_stop.append(stop)


def main() -> NoReturn:
    """The role's main function."""
    run_role("pickup", start, __doc__)


if __name__ == "__main__":
    main()
