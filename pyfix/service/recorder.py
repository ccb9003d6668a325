"""The record of what became of a message's recipients: marks in its file, its logs, and the notices made from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from pyfix.conf.config import Config
from pyfix.service import events
from pyfix.service.bounce import Action, Append, Entry, NoticeKind, Notify
from pyfix.service.calling import Unavailable
from pyfix.service.client import Client
from pyfix.service.delivery import Outcome, Recipient
from pyfix.service.insist import insist
from pyfix.service.register import Register
from pyfix.spool.active import ActiveFile, ActiveQueue
from pyfix.spool.envelope import NOTIFY_DELAY, NOTIFY_SUCCESS, TRACE_VERIFY, WARNED, Envelope
from pyfix.spool.log import LogName
from pyfix.system.journal import Event

Pair = tuple[Recipient, Outcome]

_SERVICES = {"failure": "bounce", "delay": "defer", "success": "trace", "verify": "trace"}
# Entries in one call: a call has a size limit, and a reason may be long.
_BATCH = 200


class Recorder:
    """Keeps the record of active messages, with the help of the bounce service."""

    def __init__(self, active: ActiveQueue, bounce: Client, register: Register) -> None:
        self._active = active
        self._bounce = bounce
        self._register = register
        self._confirm_delay_cleared = False

    def configure(self, conf: Config) -> None:
        """Takes a configuration. Raises ConfigError."""
        self._register.configure(conf)
        self._confirm_delay_cleared = conf.boolean("confirm_delay_cleared")

    def is_traced(self, envelope: Envelope) -> bool:
        """Whether the sender wants to know of some deliveries, too, so that these are logged."""
        # What qmgr_flags has of NOTIFY is all recipients' together, one bit up.
        return (
            envelope.qmgr_flags & (NOTIFY_SUCCESS << 1) != 0
            or envelope.trace_flags != 0
            or (self._confirm_delay_cleared and envelope.warn_time == WARNED)
        )

    async def log(self, file: ActiveFile, outcomes: Sequence[Pair]) -> tuple[Sequence[Pair], list[str]]:
        """Puts outcomes into their logs, durably: those that hold now, and what went wrong.

        A bounce that cannot be logged becomes a deferral. A deferral holds without its log; so does a delivery, since
        to deliver once more would be worse than a lost report.
        """
        if file.envelope.trace_flags & TRACE_VERIFY:
            return await self._log_findings(file, outcomes)
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
        try:
            await self._append(file.queue_id, "trace", _via(self._traced(file.envelope, outcomes)))
        except Unavailable as error:
            troubles.append(f"trace service failure: {error}")
        if trouble := await self._register.add(file.queue_id, [recipient.address for recipient, _ in deferred]):
            troubles.append(trouble)
        return outcomes, troubles

    async def _log_findings(self, file: ActiveFile, outcomes: Sequence[Pair]) -> tuple[Sequence[Pair], list[str]]:
        """As log(), where nothing was to be delivered (sendmail -bv): whatever was found out goes into the report."""
        try:
            await self._append(file.queue_id, "trace", _via(outcomes), _FINDINGS)
        except Unavailable as error:
            return [(r, _deferral(o)) for r, o in outcomes], [f"trace service failure: {error}"]
        return [(r, replace(o, status="sent")) for r, o in outcomes], []

    def _traced(self, envelope: Envelope, outcomes: Sequence[Pair]) -> list[Pair]:
        """The outcomes that the sender wants to know of: all of them (sendmail -v), or certain deliveries."""
        if envelope.trace_flags:
            return list(outcomes)
        warned = self._confirm_delay_cleared and envelope.warn_time == WARNED
        return [
            (recipient, outcome)
            for recipient, outcome in outcomes
            if outcome.status == "sent"
            and (
                (recipient.notify & NOTIFY_SUCCESS and not outcome.passed_on)
                or (warned and (not recipient.notify or recipient.notify & NOTIFY_DELAY))
            )
        ]

    def mark(self, file: ActiveFile, outcomes: Sequence[Pair]) -> None:
        """Marks who needs no more attempts. Also the last of them: a notice may be due before the file is removed."""
        done = [recipient.offset for recipient, outcome in outcomes if outcome.status != "deferred"]
        if done and not file.gone:
            self._active.mark(file, done)

    async def notify(self, file: ActiveFile, kind: NoticeKind) -> str:
        """Has the sender told of what is in a log; what went wrong, so that the notice is still due."""
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
            kind,
            envelope.verp_delimiters,
        )
        try:
            with self._active.opened(file) as descriptor:
                await insist(self._bounce, "Notify", parameters, (descriptor,))
        except FileNotFoundError:
            return ""
        except Unavailable as error:
            return f"{_SERVICES[kind]} service failure: {error}"
        return ""

    async def _append(
        self, queue_id: str, log: LogName, outcomes: Sequence[Pair], actions: Mapping[str, Action] | None = None
    ) -> None:
        for start in range(0, len(outcomes), _BATCH):
            entries = tuple(_entries(outcomes[start : start + _BATCH], actions or _ACTIONS))
            await insist(self._bounce, "Append", Append(queue_id, log, entries))


def lines(file: ActiveFile, outcomes: Iterable[Pair], now_usec: int) -> Iterator[Event]:
    """The log lines of outcomes that no agent has logged."""
    before = (file.active_usec - file.envelope.arrival_usec) / 1_000_000
    delays = (before, (now_usec - file.active_usec) / 1_000_000, 0.0, 0.0)
    verify = file.envelope.trace_flags & TRACE_VERIFY
    for r, o in outcomes:
        status = _FINDINGS[o.status] if verify else o.status
        yield events.delivery(
            file.queue_id,
            file.envelope.sender,
            r.address,
            r.original,
            o.relay,
            delays,
            o.dsn,
            status,
            o.reason,
        )


def _deferral(outcome: Outcome) -> Outcome:
    return Outcome(outcome.offset, "deferred", "4.3.0", "bounce or trace service failure")


def _via(outcomes: Sequence[Pair]) -> Sequence[Pair]:
    """The outcomes, with who took the message or refused it in their reasons."""
    return [
        (r, o if o.relay == "none" else replace(o, reason=f"delivery via {o.relay}: {o.reason}")) for r, o in outcomes
    ]


def _entries(outcomes: Iterable[Pair], actions: Mapping[str, Action]) -> Iterable[Entry]:
    for recipient, outcome in outcomes:
        yield Entry(
            recipient.address,
            recipient.offset,
            outcome.dsn,
            outcome.reason,
            actions.get(outcome.status) or outcome.action,
            recipient.original,
            recipient.orcpt,
            recipient.notify,
            outcome.remote_mta,
            outcome.diagnostic,
        )


# An outcome's status as an RFC 3464 Action; what is not here is the outcome's own to say.
_ACTIONS: Mapping[str, Action] = {"bounced": "failed", "deferred": "delayed"}
_FINDINGS: Mapping[str, Action] = {"sent": "deliverable", "bounced": "undeliverable", "deferred": "undeliverable"}
