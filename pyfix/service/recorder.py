"""The record of what became of a message's recipients: marks in its file, bounce and defer logs, the notice."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pyfix.service import events
from pyfix.service.bounce import Append, Entry, Notify
from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.delivery import Outcome, Recipient
from pyfix.service.insist import insist
from pyfix.spool.active import ActiveFile, ActiveQueue
from pyfix.system.journal import Event

Pair = tuple[Recipient, Outcome]

# Entries in one call: a call has a size limit, and a reason may be long.
_BATCH = 200


class Recorder:
    """Keeps the record of active messages, with the help of the bounce service."""

    def __init__(self, active: ActiveQueue, bounce: Client) -> None:
        self._active = active
        self._bounce = bounce

    async def log(self, file: ActiveFile, outcomes: Sequence[Pair]) -> tuple[Sequence[Pair], list[str]]:
        """Puts bounces and deferrals into their logs, durably: the outcomes that hold now, and what went wrong.

        A bounce that cannot be logged becomes a deferral. A deferral holds without its log.
        """
        troubles = []
        bounced = [pair for pair in outcomes if pair[1].status == "bounced"]
        file.notice_due = file.notice_due or bool(bounced)
        try:
            await self._append(file.queue_id, "bounce", bounced)
        except Unavailable as error:
            troubles.append(f"bounce service failure: {error}")
            outcomes = [(r, _deferral(o)) if o.status == "bounced" else (r, o) for r, o in outcomes]
        deferred = [pair for pair in outcomes if pair[1].status == "deferred"]
        try:
            await self._append(file.queue_id, "defer", deferred)
        except Unavailable as error:
            troubles.append(f"defer service failure: {error}")
        return outcomes, troubles

    def mark(self, file: ActiveFile, outcomes: Sequence[Pair]) -> None:
        """Marks who needs no more attempts. Also the last of them: the file is not removed at once."""
        done = [recipient.offset for recipient, outcome in outcomes if outcome.status != "deferred"]
        if done and not file.gone:
            self._active.mark(file, done)

    async def notify(self, file: ActiveFile) -> str:
        """Has the sender told of what is in the bounce log; what went wrong, so that the notice is still due."""
        envelope = file.envelope
        parameters = Notify(
            file.queue_id,
            0,
            envelope.content_offset,
            envelope.size,
            envelope.sender,
            envelope.arrival_usec,
            envelope.encoding,
            envelope.smtputf8 != 0,
            envelope.envid,
            envelope.ret,
        )
        try:
            with self._active.opened(file) as descriptor:
                await insist(self._bounce, "Notify", parameters, (descriptor,))
        except FileNotFoundError:
            return ""
        except Unavailable as error:
            return f"bounce service failure: {error}"
        return ""

    async def _append(self, queue_id: str, log: Literal["bounce", "defer"], outcomes: Sequence[Pair]) -> None:
        for start in range(0, len(outcomes), _BATCH):
            entries = tuple(_entries(outcomes[start : start + _BATCH]))
            await insist(self._bounce, "Append", Append(queue_id, log, entries))


def lines(file: ActiveFile, outcomes: Iterable[Pair], now_usec: int) -> Iterator[Event]:
    """The log lines of outcomes that no agent has logged."""
    before = (file.active_usec - file.envelope.arrival_usec) / 1_000_000
    delays = (before, (now_usec - file.active_usec) / 1_000_000, 0.0, 0.0)
    for r, o in outcomes:
        yield events.delivery(
            file.queue_id,
            file.envelope.sender,
            r.address,
            r.original,
            o.relay,
            delays,
            o.dsn,
            o.status,
            o.reason,
        )


def _deferral(outcome: Outcome) -> Outcome:
    return Outcome(outcome.offset, "deferred", "4.3.0", "bounce or trace service failure")


def _entries(outcomes: Iterable[Pair]) -> Iterable[Entry]:
    for recipient, outcome in outcomes:
        yield Entry(
            recipient.address,
            recipient.offset,
            outcome.dsn,
            outcome.reason,
            "failed" if outcome.status == "bounced" else "delayed",
            recipient.original,
            recipient.orcpt,
            recipient.notify,
            outcome.remote_mta,
            outcome.diagnostic,
        )
