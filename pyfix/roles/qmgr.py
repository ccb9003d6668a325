"""qmgr: the queue manager. It moves messages through the queue and has them delivered.

Description
    New mail is announced, or found by a scan of incoming/; deferred mail is found when its time has come. A message
    is moved to active/, its recipients are resolved, and delivery agents get them, with the message as a descriptor
    that is open for reading only. What the agents answer is recorded: marks in the queue file, and logs.
    Then the message is removed, or deferred, and the sender is told what could not be delivered. At most
    qmgr_message_active_limit messages are active; who is served next is decided in pyfix.schedule.

Protocol
    Serves io.pyfix.Queue to roles and io.pyfix.Control to people. Calls io.pyfix.Rewrite, io.pyfix.Bounce, the
    io.pyfix.Delivery of each transport, and io.pyfix.Register for what is deferred.

Security
    Runs as the mail system's user; alone may it move and delete messages. Root, the mail owner and this process's user
    may change messages, known by SO_PEERCRED. Agents are believed what became of the recipients that they were given,
    and nothing else.

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
from pyfix.schedule.message import Message, Route, Trouble
from pyfix.schedule.parameters import Parameters
from pyfix.schedule.scheduler import Action, Deliver, Record, Refill, Scheduler
from pyfix.schedule.transport import Delivery
from pyfix.service import bounce, delivery, events, rewrite
from pyfix.service.agents import Agents, AgentTrouble
from pyfix.service.changes import Changes
from pyfix.service.closing import Closing
from pyfix.service.cycle import Cycle, giving_up
from pyfix.service.delivery import Delivered, Outcome, Recipient
from pyfix.service.dispatch import Call
from pyfix.service.flush import REGISTER
from pyfix.service.interface import Nothing
from pyfix.service.queue import CONTROL, QUEUE, Announce, Announced, Change, Changed, Denied, Flush
from pyfix.service.queue_directory import open_whole_queue
from pyfix.service.recorder import Recorder
from pyfix.service.register import PATIENCE, Register
from pyfix.service.resolving import Resolver
from pyfix.service.rewrite import Resolved
from pyfix.service.role import PER_UID_LIMIT, Role, run_role
from pyfix.spool.active import ActiveFile, ActiveQueue, AlreadyRunning
from pyfix.spool.directories import Spool
from pyfix.spool.envelope import QueuedRecipient
from pyfix.spool.log import LogEntry
from pyfix.spool.queue_id import is_queue_id
from pyfix.system import account
from pyfix.system.clock import monotonic, now_usec

_CALM, _CROWDED = Announced(), Announced(crowded=True)
_EXPIRED = "4.7.0 message is administratively expired"


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
        patience = role.conf.seconds("daemon_timeout")
        self._agents = Agents(active, self._cycle, lambda name: role.client(delivery.INTERFACE, name, patience))
        self._scheduler = Scheduler(self._parameters.limits, self._parameters.transport)
        self._feed = Feed(self._scan, self._parameters.limits.active_limit)
        self._agenda = Agenda(self._feed, self._scheduler)
        self._changes = Changes(spool, self._active_file, self._withdraw, role.journal.warning)
        register = Register(role.client(REGISTER, "register", PATIENCE))
        bounces = role.client(bounce.INTERFACE, "bounce", role.conf.seconds("ipc_timeout"))
        recorder = Recorder(active, bounces, register)
        self._closing = Closing(
            role.journal, active, recorder, self._cycle, self._changes, self._scheduler.recorded, self._left
        )
        self._closing.configure(role.conf, self._parameters.retries)
        self._alarm_times: tuple[float | None, float | None] = (None, None)
        self._working = False
        self._cycle.repeat(self._run_queue)

    def _read(self, conf: Config) -> None:
        self._parameters = Parameters(conf)
        if self._parameters.retries.bounce_queue_lifetime > self._parameters.retries.maximal_queue_lifetime:
            self._journal.warning(
                "bounce_queue_lifetime is larger than maximal_queue_lifetime - adjusting bounce_queue_lifetime"
            )
        owner = account.by_name(conf.text("mail_owner"))
        self._privileged = {0, os.geteuid(), *([owner.uid] if owner else [])}

    def reload(self, conf: Config) -> None:
        """Takes a new configuration. Raises ConfigError, and keeps the old one."""
        self._read(conf)
        self._closing.configure(conf, self._parameters.retries)
        self._scheduler.reload(self._parameters.limits, self._parameters.transport)

    async def stop(self) -> None:
        """Starts no delivery any more, and waits for those in flight."""
        self._scheduler.stop()
        await self._cycle.finish()

    # Calls

    def announce(self, call: Call[Announce]) -> Announced:
        """There is new mail."""
        if is_queue_id(call.parameters.queue_id):
            self._feed.announce(call.parameters.queue_id)
            self._cycle.kick()
        return _CROWDED if self._feed.crowded else _CALM

    def flush(self, call: Call[Flush]) -> Nothing:
        """Somebody wants attempts now."""
        request = call.parameters
        queue_ids = [name for name in request.queue_ids if is_queue_id(name)] if request.queue_ids else None
        self._agenda.flush(queue_ids, wanted=request.wanted)
        self._cycle.kick()
        return Nothing()

    async def change(self, call: Call[Change]) -> Changed:
        """The administrator changes messages."""
        if call.peer.uid not in self._privileged:
            raise Denied
        changed = await self._changes.carry_out(call.parameters)
        if call.parameters.action == "release":
            # What was released may be due.
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
        if (times := self._agenda.wake_times) != self._alarm_times:
            self._alarm_times = times
            self._cycle.set_alarm(self._agenda.wake_in(monotonic(), _wall_clock()))
        if self._working != self._agenda.working:
            self._working = not self._working
            (self._role.begin_work if self._working else self._role.end_work)()

    def _act(self, action: Action) -> None:
        if isinstance(action, Deliver):
            self._deliver(action.delivery)
        elif isinstance(action, Record):
            self._closing.record(action.message, action.settled, logged=action.logged)
        elif isinstance(action, Refill):
            self._route(action.message, self._active.more_recipients(action.message.load, action.limit))
        else:
            self._closing.end(action.message)

    # A message's way

    def _scan(self, queue_name: QueueName, everything: bool) -> Iterator[str]:
        until = float("inf") if everything else _wall_clock() + 1
        return self._active.due(queue_name, until, self._feed.appoint)

    def _activate(self, candidate: Candidate) -> None:
        queue_name, queue_id, wanted = candidate
        if (found := self._active.activate(queue_name, queue_id, now_usec(), self._scheduler.first_batch)) is None:
            return
        file, recipients = found
        envelope, sender = file.envelope, file.envelope.sender
        self._journal.write(events.queue_active(file.queue_id, sender, envelope.size, envelope.recipient_count))
        arrival = envelope.create_time or envelope.arrival_usec // 1_000_000
        message = Message(
            file.queue_id,
            sender,
            arrival,
            file,
            forced_expire=file.forced_expire,
            warn_time=envelope.warn_time,
            total=envelope.recipient_count,
            single=bool(envelope.verp_delimiters),
            wanted=wanted,
        )
        self._scheduler.admit(message, len(recipients))
        self._route(message, recipients)

    def _route(self, message: Message, queued: Sequence[QueuedRecipient]) -> None:
        recipients = [Recipient(r.offset, r.address, r.original, r.orcpt, r.notify) for r in queued]
        if message.forced_expire:
            self._give_up(message, recipients)
            return
        redirect = message.load.envelope.redirect
        addresses = [redirect or recipient.address for recipient in queued]
        self._resolver.resolve(message.sender, addresses, partial(self._submit, message, recipients))

    def _give_up(self, message: Message, recipients: Sequence[Recipient]) -> None:
        """Makes no attempt any more: what was the reason of a delay is the one of the failure."""
        file: ActiveFile = message.load
        settled = [(r, _delayed(file.delays[r.offset])) for r in recipients if r.offset in file.delays]
        routes = [Route(r, "retry", _EXPIRED, r.address) for r in recipients if r.offset not in file.delays]
        self._scheduler.submit(message, routes, settled, more=file.rest > 0)

    def _submit(
        self, message: Message, recipients: Sequence[Recipient], answers: Sequence[Resolved], trouble: str
    ) -> None:
        if trouble:
            self._journal.warning(trouble, message.queue_id)
        file: ActiveFile = message.load
        routes, settled = self._parameters.router.route(
            recipients, answers, file.envelope.content_filter, wanted=message.wanted
        )
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
            if self._parameters.feedback_debug:
                self._journal.info(str(flight.destination))

    def _left(self, message: Message, due: int) -> None:
        """The message is out of active/."""
        if due:
            self._feed.appoint(message.queue_id, due)
        self._scheduler.ended(message)


def _delayed(entry: LogEntry) -> Outcome:
    """What the defer log says of a recipient."""
    return Outcome(
        entry.offset,
        "deferred",
        entry.status,
        entry.reason,
        remote_mta=entry.remote_mta,
        diagnostic=entry.diagnostic,
    )


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
    role.implement(QUEUE, {"Announce": manager.announce, "Flush": manager.flush})
    role.implement(CONTROL, {"Change": manager.change}, per_uid_limit=PER_UID_LIMIT)
    role.on_reload.append(manager.reload)
    role.on_stop.append(manager.stop)


def main() -> NoReturn:
    """The role."""
    run_role("qmgr", start, __doc__)


if __name__ == "__main__":
    main()
