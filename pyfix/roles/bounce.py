"""bounce: keeps logs of what became of mail, and tells senders.

Description
    A message's failures are collected in bounce/, its delays in defer/, and in trace/ the deliveries that somebody
    wants to know of (NOTIFY=SUCCESS, sendmail -v and -bv). The queue manager asks for notices made of them: when it is
    done with a message that failed somewhere, when a message has waited for delay_warning_time, when an attempt had
    deliveries to tell of. A notice is a new message to the sender, from the null sender, with the log's entries and
    the message, or its header. When it is in the queue the log is removed; that of a delay stays.

    notify_classes says what postmaster gets to know. Mail from the null sender is not returned to anybody but
    postmaster (class 2bounce), and mail from double_bounce_sender to nobody. Recipients are told of as NOTIFY wants.
    Mail with a variable envelope return path (VERP) is returned with a notice for each recipient.

    A notice that cleanup refuses for good, such as one that is larger than message_size_limit, is tried once more
    without the message's body, and given up then.

Protocol
    Serves io.pyfix.Bounce. A message without a log has been dealt with before: there is nothing to send.

Security
    What stands in logs and notices may come from remote hosts: control characters are replaced, lines are bounded. The
    message comes as a read-only descriptor. Runs as the mail system's user, sees bounce/, defer/ and trace/, may call
    cleanup.

Standards
    RFC 3461 (NOTIFY, RET, ENVID), RFC 3464 (delivery status notifications), RFC 6522, RFC 6533, RFC 3834.

Diagnostics
    Each notice is logged with its queue ID, before cleanup's lines about it. Trouble is logged, and the queue manager
    will ask again.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from pyfix.conf.config import Config
from pyfix.mail.header import find_message_id
from pyfix.mail.verp import verp_sender
from pyfix.report.copies import Copy, read_addressees
from pyfix.report.notice import Notice, Reporter, Subject
from pyfix.report.template import BUILT_IN, Template, TemplateError, expand_template, parse_templates
from pyfix.service import bounce, cleanup, events
from pyfix.service.bounce import INTERFACE, Append, NoticeKind, Notified, Notify, Trouble
from pyfix.service.calling import Unavailable
from pyfix.service.dispatch import Call
from pyfix.service.interface import Nothing
from pyfix.service.posting import Poster, date_of
from pyfix.service.queue_directory import open_whole_queue
from pyfix.service.role import Role, run_role
from pyfix.spool import log
from pyfix.spool.content import read_content
from pyfix.spool.log import LogEntry, LogName
from pyfix.spool.queue_id import QueueIds
from pyfix.spool.record import CorruptFile
from pyfix.system.clock import now_usec
from pyfix.system.flusher import Flusher

_LOGS: Mapping[NoticeKind, LogName] = {
    "failure": "bounce",
    "delay": "defer",
    "success": "trace",
    "verify": "trace",
}
# Of a message's header, bytes that are searched for its Message-Id.
_HEADER_LIMIT = 102_400
_TEMPLATE_LIMIT = 1_000_000


class Task(NamedTuple):
    """A request, the message, and the log's entries as often as they are asked for."""

    request: Notify
    message: int
    message_id: str
    entries: Callable[[], Iterable[LogEntry]]


class Bounce:
    """The service."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._ids = QueueIds()
        self._poster = Poster(role.client(cleanup.INTERFACE, "cleanup"))
        self._flusher = Flusher(asyncio.get_running_loop())
        # additions to logs that are not durable yet
        self._additions: dict[tuple[LogName, str], asyncio.Future[None]] = {}
        self._place: tuple[str, tuple[str, ...], int] | None = None
        self._configure(role.conf)
        role.on_reload.append(self._configure)

    def _configure(self, conf: Config) -> None:
        self._templates = self._read_templates(conf)
        self._addressees = read_addressees(conf)
        self._threaded = conf.boolean("enable_threaded_bounces")
        self._verp = not conf.boolean("disable_verp_bounces")
        self._reporter = Reporter(
            conf.text("myhostname"),
            conf.text("mail_name"),
            conf.integer("bounce_size_limit"),
            conf.seconds("maximal_queue_lifetime"),
            conf.text("header_from_format"),
        )
        self._poster.configure(conf)
        place = (
            conf.text("queue_directory"),
            conf.words("hash_queue_names"),
            conf.integer("hash_queue_depth"),
        )
        if place != self._place:
            self._spool = open_whole_queue(conf, ("bounce", "defer", "trace"), hashed=True)
            self._place = place

    def _read_templates(self, conf: Config) -> dict[NoticeKind, Template]:
        """The texts of notices. Raises ConfigError."""
        path = conf.text("bounce_template_file")
        templates, warnings = dict(BUILT_IN), list[str]()
        try:
            if path:
                with Path(path).open(encoding="utf-8", errors="surrogateescape") as file:
                    templates, warnings = parse_templates(file.read(_TEMPLATE_LIMIT))
            for kind, template in templates.items():
                templates[kind], more = expand_template(template, conf)
                warnings += more
        except OSError as error:
            raise conf.error("bounce_template_file", f"open {path}: {error.strerror}") from None
        except TemplateError as error:
            raise conf.error("bounce_template_file", f"{path}: {error}") from None
        for warning in warnings:
            self._role.journal.warning(f"{path or 'built-in templates'}: {warning}")
        return templates

    async def append(self, call: Call[Append]) -> Nothing:
        """Adds entries to a log."""
        request = call.parameters
        name = request.log, request.queue_id
        while (before := self._additions.get(name)) is not None:
            await asyncio.wait((before,))
        entries = [_log_entry(entry) for entry in request.entries]
        try:
            committed = self._flusher.commit(log.addition(self._spool, *name, entries))
            self._additions[name] = committed
            committed.add_done_callback(lambda _: self._additions.pop(name))
            await committed
        except (OSError, ValueError) as error:
            raise self._trouble(request.queue_id, f"{request.log} log: {error}") from None
        return Nothing()

    async def notify(self, call: Call[Notify]) -> Notified:
        """Sends the notices that are due, and removes the log, if it is not that of a delay."""
        request = call.parameters
        message = call.take_fd(request.message)
        name = _LOGS[request.kind]
        try:
            entries = partial(log.read, self._spool, name, request.queue_id)
            message_id = ""
            if self._threaded:
                message_id = find_message_id(self._original(request, message), _HEADER_LIMIT)
            notice_id = await self._tell(Task(request, message, message_id, entries))
            if request.kind != "delay":
                self._spool.remove(name, request.queue_id)
        except (OSError, ValueError, Unavailable, cleanup.Refused) as error:
            raise self._trouble(request.queue_id, f"sender notification failed: {error}") from None
        finally:
            os.close(message)
        return Notified(notice_id)

    async def _tell(self, task: Task) -> str:
        """Sends all notices; the first one's queue ID, empty if none was due."""
        request = task.request
        if not (request.verp_delimiters and request.sender and self._verp and request.kind == "failure"):
            return await self._tell_some(task)
        notice_ids = []
        told = set[tuple[int, str]]()
        for entry in task.entries():
            key = (entry.offset, entry.recipient)
            if key not in told:  # what a crash made the log say twice
                told.add(key)
                recipient = verp_sender(request.verp_delimiters, request.sender, entry.original or entry.recipient)
                notice_ids.append(await self._tell_some(task._replace(entries=partial(iter, [entry])), recipient))
        return next(filter(None, notice_ids), "")

    async def _tell_some(self, task: Task, recipient: str = "") -> str:
        """As _tell(), in one notice for each addressee; ``recipient`` is the sender's address with VERP."""
        request = task.request
        copies, instead = self._addressees.copies(request.kind, request.sender, request.ret, recipient)
        if instead:
            self._role.journal.warning(instead, request.queue_id)
        notice_id = ""
        for copy in copies:
            try:
                told = await self._send(task, copy)
            except (Unavailable, cleanup.Refused) as error:
                if copy.vital:
                    raise
                self._role.journal.warning(f"postmaster notice failed: {error}", request.queue_id)
            else:
                notice_id = notice_id or told
        return notice_id

    async def _send(self, task: Task, copy: Copy) -> str:
        """Sends a notice, if it has something to tell; its queue ID. Gives up what is refused for good."""
        try:
            return await self._post(task, copy, with_body=True)
        except cleanup.Refused as refused:
            if refused.parameters.code < 500:
                raise
        try:
            return await self._post(task, copy, with_body=False)
        except cleanup.Refused as refused:
            why = refused.parameters
            if why.code < 500:
                raise
            text = f"{copy.event} refused: {why.code} {why.status} {why.text}: giving up"
            self._role.journal.warning(text, task.request.queue_id)
            return ""

    async def _post(self, task: Task, copy: Copy, *, with_body: bool) -> str:
        request, now = task.request, now_usec()
        subject = Subject(
            request.queue_id,
            request.sender,
            request.arrival_usec,
            request.envid,
            request.smtputf8,
            request.size,
            task.message_id,
        )
        template = self._templates[request.kind]
        notice = Notice(
            self._reporter,
            request.kind,
            template,
            copy,
            subject,
            task.entries,
            date_of(now),
            with_body=with_body,
        )
        if not notice.is_due():
            return ""
        notice_id = self._ids.new(now)
        line = events.notice(request.queue_id, copy.event, notice_id)
        await self._poster.post(
            notice_id,
            copy.sender,
            cleanup.Recipient(copy.recipient, notify=copy.notify),
            notice.content(self._original(request, task.message)),
            now,
            encoding="8bit",
            smtputf8=request.smtputf8,
            on_whole=lambda: self._role.journal.write(line),
        )
        return notice_id

    def _original(self, request: Notify, message: int) -> Iterator[bytes]:
        """The message's content, as far as it can be read: what is left of it is worth more than no notice."""
        try:
            yield from read_content(message, request.content_offset)
        except CorruptFile as error:
            self._role.journal.warning(f"the returned message is cut: {error}", request.queue_id)

    def _trouble(self, queue_id: str, message: str) -> Trouble:
        self._role.journal.warning(message, queue_id)
        return Trouble()


def _log_entry(entry: bounce.Entry) -> LogEntry:
    return LogEntry(
        recipient=entry.recipient,
        offset=entry.offset,
        status=entry.status,
        reason=entry.reason,
        action=entry.action,
        original=entry.original,
        orcpt=entry.orcpt,
        notify=entry.notify,
        remote_mta=entry.remote_mta,
        diagnostic=entry.diagnostic,
    )


async def start(role: Role) -> None:
    """Wires the role."""
    service = Bounce(role)
    role.implement(INTERFACE, {"Append": service.append, "Notify": service.notify})


def main() -> NoReturn:
    """The role's main function."""
    run_role("bounce", start, __doc__)


if __name__ == "__main__":
    main()
