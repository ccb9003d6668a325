"""The end of attempts: outcomes are recorded, the sender is told, and the message's file moves on."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from pyfix.conf.config import Config
from pyfix.service import events, recorder
from pyfix.service.bounce import NoticeKind
from pyfix.service.changes import Changes
from pyfix.service.cycle import Cycle
from pyfix.service.recorder import Pair, Recorder
from pyfix.service.removals import Removals
from pyfix.spool.active import ActiveFile, ActiveQueue
from pyfix.spool.record import CorruptFile
from pyfix.system.clock import now_usec
from pyfix.system.journal import Journal


class Verdict(Protocol):
    """How an attempt ends (pyfix.schedule.message)."""

    @property
    def action(self) -> str:
        """``remove``, ``defer`` or ``withdrawn``."""

    @property
    def time(self) -> int:
        """When the message is due again, seconds since the epoch."""


class Attempt(Protocol):
    """A message of the active set (pyfix.schedule.message.Message); ``load`` is its ActiveFile."""

    queue_id: str
    sender: str
    load: Any
    forced_expire: bool
    deferred: int
    expired: bool
    withdrawn: bool

    def judge(self, settled: Sequence[Pair], schedule: Any, now: int) -> Sequence[Pair]:
        """The outcomes as they are to be recorded."""

    def ends_with(self, settled: Sequence[Pair]) -> bool:
        """Whether nobody is left of the message when these are done."""

    def warning_due(self, now: int) -> bool:
        """Whether the sender is to be told that there is a delay."""

    def verdict(self, schedule: Any, now: int) -> Verdict:
        """How the attempt ends."""


M = TypeVar("M", bound=Attempt)


class Closing(Generic[M]):
    """Ends what the schedule began.

    ``recorded`` is told of outcomes that are on disk, ``left`` of a message whose file is out of active/, and when it
    is due again; 0: it is not. Nothing may be recorded before ``configure``.
    """

    def __init__(
        self,
        journal: Journal,
        active: ActiveQueue,
        writer: Recorder,
        cycle: Cycle,
        changes: Changes,
        recorded: Callable[[M, Sequence[Pair]], None],
        left: Callable[[M, int], None],
    ) -> None:
        self._journal = journal
        self._active = active
        self._recorder = writer
        self._cycle = cycle
        self._changes = changes
        self._recorded = recorded
        self._left = left
        self._removals: Removals[M] = Removals(active, cycle, self._removed)
        self._retries: Any = None

    def configure(self, conf: Config, retries: Any) -> None:
        """Takes a configuration, and the retry schedule of it. Raises ConfigError."""
        self._recorder.configure(conf)
        self._retries = retries

    def record(self, message: M, settled: Sequence[Pair], *, logged: bool) -> None:
        """Records outcomes; ``logged``: an agent has logged them."""
        file: ActiveFile = message.load
        # What has no time left was logged when it was deferred.
        if not (logged or file.gone or message.forced_expire):
            for line in recorder.lines(file, settled, now_usec()):
                self._journal.write(line)
        sent = all(outcome.status == "sent" for _, outcome in settled)
        if not sent:
            settled = message.judge(settled, self._retries, now_usec() // 1_000_000)
        if file.gone:
            self._recorded(message, settled)
        elif not sent or self._recorder.is_traced(file.envelope):
            self._cycle.spawn(self._log(message, settled))
        elif file.notice_due or not message.ends_with(settled):
            self._write_down(message, settled)
        else:
            # What most messages come to: nothing is left to be done or told.
            self._active.finish(file)
            self._recorded(message, settled)

    async def _log(self, message: M, settled: Sequence[Pair]) -> None:
        settled, troubles = await self._recorder.log(message.load, settled)
        for trouble in troubles:
            self._journal.warning(trouble, message.queue_id)
        self._write_down(message, settled)
        self._cycle.kick()

    def _write_down(self, message: M, settled: Sequence[Pair]) -> None:
        self._recorder.mark(message.load, settled)
        self._recorded(message, settled)

    def end(self, message: M) -> None:
        """All recipients have been tried: tells the sender what failed, and disposes of the message."""
        file: ActiveFile = message.load
        if message.expired and not file.gone:
            status = "force-expired" if message.forced_expire else "expired"
            self._journal.write(events.expired(message.queue_id, message.sender, status))
        due = [] if file.gone or message.withdrawn else self._notices_due(message, file)
        if due:
            self._cycle.spawn(self._notify(message, due))
        else:
            self._dispose(message)

    def _notices_due(self, message: M, file: ActiveFile) -> list[NoticeKind]:
        """What the sender may have to be told now."""
        due: list[NoticeKind] = []
        if file.notice_due and self._active.has_log(file, "bounce"):
            due.append("failure")
        if self._recorder.is_traced(file.envelope) and self._active.has_log(file, "trace"):
            due.append("verify" if file.envelope.trace_flags else "success")
        if message.warning_due(now_usec() // 1_000_000):
            due.append("delay")
        return due

    async def _notify(self, message: M, due: Sequence[NoticeKind]) -> None:
        file: ActiveFile = message.load
        for kind in due:
            trouble = await self._recorder.notify(file, kind)
            if trouble:
                self._journal.warning(trouble, message.queue_id)
                message.deferred += kind != "delay"
            elif kind == "delay":
                self._mark_warned(file)
        self._dispose(message)
        self._cycle.kick()

    def _mark_warned(self, file: ActiveFile) -> None:
        try:
            self._active.mark_warned(file)
        except CorruptFile as error:
            self._journal.warning(str(error), file.queue_id)

    def _dispose(self, message: M) -> None:
        """Moves the file on, and lets go of the message."""
        file: ActiveFile = message.load
        verdict = message.verdict(self._retries, now_usec() // 1_000_000)
        if verdict.action == "remove" and not file.gone:
            self._removals.add(file, message)
            return
        due = 0
        taken = message.withdrawn and self._changes.left(file.queue_id)
        if not (file.gone or taken):
            due = verdict.time
            self._active.defer(file, due)
        self._active.forget(file)
        self._left(message, due)

    def _removed(self, message: M) -> None:
        self._journal.write(events.removed(message.queue_id))
        self._changes.left(message.queue_id)
        self._left(message, 0)
