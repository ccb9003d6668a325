"""qmgr: the queue manager. It moves messages through the queue and has them delivered.

Description
    New mail is announced, or found by a scan of incoming/; deferred mail is found when its time has come. A message
    is moved to active/, its recipients are resolved, and delivery agents get them, with the message as a descriptor
    that is open for reading only. What the agents answer is recorded: marks in the queue file, defer and bounce logs.
    Then the message is removed, or deferred, and the sender is told what could not be delivered. At most
    qmgr_message_active_limit messages are active; who is served next is decided in pyfix.schedule.

Protocol
    Serves io.pyfix.Queue to roles and io.pyfix.Control to people. Calls io.pyfix.Rewrite, io.pyfix.Bounce and the
    io.pyfix.Delivery of each transport.

Security
    Runs as the mail system's user; alone may it move and delete messages. Anybody may ask for an early attempt; root,
    the mail owner and this process's user may change messages, known by SO_PEERCRED. Agents are believed what became
    of the recipients that they were given, and nothing else.

Standards
    RFC 3463 (status codes).

Diagnostics
    Postfix's qmgr(8) lines. A queue file that cannot be understood is put into corrupt/, with a warning. When the file
    system is in trouble, the process ends, and the mail stays.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import NoReturn

from pyfix.conf.config import Config
from pyfix.schedule.agenda import Agenda
from pyfix.schedule.feed import Candidate, Feed, QueueName
from pyfix.schedule.message import Message, Settled, Trouble
from pyfix.schedule.parameters import Parameters
from pyfix.schedule.scheduler import Action, Deliver, Record, Refill, Scheduler
from pyfix.schedule.transport import Delivery
from pyfix.service import bounce, delivery, events, recorder, rewrite
from pyfix.service.agents import Agents, AgentTrouble
from pyfix.service.changes import Changes
from pyfix.service.cycle import Cycle, giving_up
from pyfix.service.delivery import Delivered, Recipient
from pyfix.service.dispatch import Call
from pyfix.service.interface import Nothing
from pyfix.service.queue import CONTROL, QUEUE, Announce, Change, Changed, Denied, Flush
from pyfix.service.queue_directory import open_whole_queue
from pyfix.service.removals import Removals
from pyfix.service.resolving import Resolver
from pyfix.service.rewrite import Resolved
from pyfix.service.role import PER_UID_LIMIT, Role, run_role
from pyfix.spool.active import ActiveFile, ActiveQueue, AlreadyRunning
from pyfix.spool.directories import Spool
from pyfix.spool.queue_file import QueuedRecipient
from pyfix.spool.queue_id import is_queue_id
from pyfix.system import account
from pyfix.system.clock import monotonic, now_usec


def _wall_clock() -> float:
    return now_usec() / 1_000_000


class QueueManager:
    """Does what the agenda says, and tells it what has happened."""

    def __init__(self, role: Role, spool: Spool, active: ActiveQueue) -> None:
        self._role = role
        self._journal = role.journal
        self._active = active
        self._read(role.conf)
        self._cycle = Cycle(self._turn, giving_up(role))
        self._resolver = Resolver(role.client(rewrite.INTERFACE, "rewrite"), self._cycle)
        self._recorder = recorder.Recorder(active, role.client(bounce.INTERFACE, "bounce"))
        patience = role.conf.seconds("daemon_timeout")
        self._agents = Agents(active, self._cycle, lambda name: role.client(delivery.INTERFACE, name, patience))
        self._scheduler = Scheduler(self._parameters.limits, self._parameters.transport)
        self._feed = Feed(self._scan, self._parameters.limits.active_limit)
        self._agenda = Agenda(self._feed, self._scheduler)
        self._changes = Changes(spool, self._active_file, self._withdraw)
        self._removals = Removals(active, self._cycle, self._removed)
        self._alarm_times: tuple[float | None, float | None] = (None, None)
        self._working = False
        self._cycle.repeat(self._run_queue)

    def _read(self, conf: Config) -> None:
        self._parameters = Parameters(conf)
        owner = account.by_name(conf.text("mail_owner"))
        self._privileged = {0, os.geteuid(), *([owner.uid] if owner else [])}
        self._recipient_limit = self._parameters.limits.recipient_limit

    def reload(self, conf: Config) -> None:
        """Takes a new configuration. Raises ConfigError, and keeps the old one."""
        self._read(conf)
        self._scheduler.reload(self._parameters.limits, self._parameters.transport)

    async def stop(self) -> None:
        """Starts no delivery any more, and waits for those in flight."""
        self._scheduler.stop()
        await self._cycle.finish()

    # Calls

    def announce(self, call: Call[Announce]) -> Nothing:
        """There is new mail."""
        if is_queue_id(call.parameters.queue_id):
            self._feed.announce(call.parameters.queue_id)
            self._cycle.kick()
        return Nothing()

    def flush(self, call: Call[Flush]) -> Nothing:
        """Somebody wants an attempt now."""
        queue_id = call.parameters.queue_id
        if not queue_id or is_queue_id(queue_id):
            self._agenda.flush(queue_id)
            self._cycle.kick()
        return Nothing()

    async def change(self, call: Call[Change]) -> Changed:
        """The administrator changes messages."""
        if call.peer.uid not in self._privileged:
            raise Denied
        changed = await self._changes.carry_out(call.parameters)
        self._agenda.run_queue()
        self._cycle.kick()
        return changed

    def _active_file(self, queue_id: str) -> ActiveFile | None:
        return message.load if (message := self._scheduler.find(queue_id)) else None

    def _withdraw(self, queue_ids: Collection[str]) -> None:
        self._scheduler.withdraw(queue_ids)
        self._cycle.kick()

    # Turns

    def _run_queue(self) -> float:
        """Looks for mail that is due; says after how many seconds to look again."""
        self._agenda.run_queue()
        self._cycle.kick()
        return self._parameters.queue_run_delay

    def _turn(self) -> None:
        """Takes messages in, does what the schedule asks for, and sees to the next turn."""
        self._agenda.tick(monotonic(), _wall_clock())
        for candidate in self._agenda.candidates():
            self._activate(candidate)
        while actions := self._scheduler.actions():
            for action in actions:
                self._act(action)
        if self._agenda.hungry:
            self._cycle.kick()
        if self._alarm_times != self._agenda.wake_times:
            self._alarm_times = self._agenda.wake_times
            self._cycle.set_alarm(self._agenda.wake_in(monotonic(), _wall_clock()))
        if self._working != self._agenda.working:
            self._working = not self._working
            (self._role.begin_work if self._working else self._role.end_work)()

    def _act(self, action: Action) -> None:
        if isinstance(action, Deliver):
            self._deliver(action.delivery)
        elif isinstance(action, Record):
            self._record(action)
        elif isinstance(action, Refill):
            self._route(action.message, self._active.more_recipients(action.message.load, self._recipient_limit))
        else:
            self._end(action.message)

    # A message's way

    def _scan(self, queue_name: QueueName, everything: bool) -> Iterator[str]:
        until = float("inf") if everything else _wall_clock() + 1
        return self._active.due(queue_name, until, self._feed.appoint)

    def _activate(self, candidate: Candidate) -> None:
        if (found := self._active.activate(*candidate, now_usec(), self._recipient_limit)) is None:
            return
        file, recipients = found
        envelope, sender = file.envelope, file.envelope.sender
        self._journal.write(events.queue_active(file.queue_id, sender, envelope.size, envelope.recipient_count))
        arrival = envelope.create_time or envelope.arrival_usec // 1_000_000
        message = Message(file.queue_id, sender, arrival, file, forced_expire=file.forced_expire)
        self._scheduler.admit(message)
        self._route(message, recipients)

    def _route(self, message: Message, queued: Sequence[QueuedRecipient]) -> None:
        recipients = [Recipient(r.offset, r.address, r.original, r.orcpt, r.notify) for r in queued]
        redirect = message.load.envelope.redirect
        addresses = [redirect or recipient.address for recipient in queued]
        self._resolver.resolve(message.sender, addresses, partial(self._submit, message, recipients))

    def _submit(
        self, message: Message, recipients: Sequence[Recipient], answers: Sequence[Resolved], trouble: str
    ) -> None:
        if trouble:
            self._journal.warning(trouble, message.queue_id)
        file: ActiveFile = message.load
        routes, settled = self._parameters.router.route(recipients, answers, file.envelope.content_filter)
        self._scheduler.submit(message, routes, settled, more=file.rest > 0)

    def _deliver(self, flight: Delivery) -> None:
        entry, then = flight.entry, partial(self._delivered, flight)
        self._agents.deliver(flight.transport.name, entry.nexthop, entry.recipients, entry.message.load, then)

    def _delivered(self, flight: Delivery, reply: Delivered | AgentTrouble) -> None:
        if isinstance(reply, AgentTrouble):
            self._journal.warning(str(reply))
            self._scheduler.failed(flight, Trouble("4.3.0", reply.reason), monotonic())
        else:
            self._scheduler.answered(flight, reply, monotonic())

    def _record(self, action: Record) -> None:
        message = action.message
        file: ActiveFile = message.load
        if not action.logged and not file.gone:
            for line in recorder.lines(file, action.settled, now_usec()):
                self._journal.write(line)
        settled = message.judge(action.settled, self._parameters.retries, int(_wall_clock()))
        if file.gone or all(outcome.status == "sent" for _, outcome in settled):
            self._write_down(message, settled)
        else:
            self._cycle.spawn(self._record_failures(message, settled))

    async def _record_failures(self, message: Message, settled: Sequence[Settled]) -> None:
        settled, troubles = await self._recorder.log(message.load, settled)
        for trouble in troubles:
            self._journal.warning(trouble, message.queue_id)
        self._write_down(message, settled)
        self._cycle.kick()

    def _write_down(self, message: Message, settled: Sequence[Settled]) -> None:
        self._recorder.mark(message.load, settled)
        self._scheduler.recorded(message, settled)

    def _end(self, message: Message) -> None:
        file: ActiveFile = message.load
        if message.expired and not file.gone:
            status = "force-expired" if message.forced_expire else "expired"
            self._journal.write(events.expired(message.queue_id, message.sender, status))
        if file.notice_due and not (file.gone or message.withdrawn) and self._active.has_bounce_log(file):
            self._cycle.spawn(self._notify(message))
        else:
            self._dispose(message)

    async def _notify(self, message: Message) -> None:
        trouble = await self._recorder.notify(message.load)
        if trouble:
            self._journal.warning(trouble, message.queue_id)
            message.deferred += 1
        self._dispose(message)
        self._cycle.kick()

    def _dispose(self, message: Message) -> None:
        """Moves the file on, and lets go of the message."""
        file: ActiveFile = message.load
        verdict = message.verdict(self._parameters.retries, int(_wall_clock()))
        if verdict.action == "remove" and not file.gone:
            self._removals.add(file, message)
            return
        taken = message.withdrawn and self._changes.left(file.queue_id)
        if not (file.gone or taken):
            self._active.defer(file, verdict.time)
            self._feed.appoint(file.queue_id, verdict.time)
        self._active.forget(file)
        self._scheduler.ended(message)

    def _removed(self, message: Message) -> None:
        self._journal.write(events.removed(message.queue_id))
        self._changes.left(message.queue_id)
        self._scheduler.ended(message)


async def start(role: Role) -> None:
    """Puts the queue in order and serves."""
    spool = open_whole_queue(role.conf, hashed=True)
    try:
        active = ActiveQueue(
            spool,
            lambda *corrupt: role.journal.write(events.corrupt(*corrupt)),
            lambda path: role.journal.warning(f"bogus file in the queue: {path}"),
        )
    except AlreadyRunning:
        role.journal.fatal(f"another queue manager is at work in {spool.root}")
        raise SystemExit(os.EX_TEMPFAIL) from None
    active.repair(_wall_clock())
    manager = QueueManager(role, spool, active)
    role.implement(QUEUE, {"Announce": manager.announce})
    role.implement(CONTROL, {"Flush": manager.flush, "Change": manager.change}, per_uid_limit=PER_UID_LIMIT)
    role.on_reload.append(manager.reload)
    role.on_stop.append(manager.stop)


def main() -> NoReturn:
    """The role."""
    run_role("qmgr", start, __doc__)


if __name__ == "__main__":
    main()
