"""Reports to postmaster of conversations that went wrong, as notify_classes wants them.

They are sent by double_bounce_sender, so that nothing comes back when they cannot be delivered, and they are not
important: when there is trouble with one, that is logged, and it is forgotten. What a peer has said stands in it behind
a space, so that it begins no line.

Source: Postfix's smtpd(8) and smtp(8).
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator

from pyfix.conf.config import Config
from pyfix.mail.date import format_date
from pyfix.mail.phrase import mail_system
from pyfix.mail.wrap import wrap
from pyfix.service import cleanup
from pyfix.service.calling import Unavailable
from pyfix.service.interface import ServiceError
from pyfix.service.posting import Poster, date_of
from pyfix.service.role import Role
from pyfix.spool.queue_id import QueueIds
from pyfix.system.clock import now_usec

_WIDTH = 78


class Postmaster:
    """Tells postmaster what happens to a role."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._poster = Poster(role.client(cleanup.INTERFACE, "cleanup"))
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids = QueueIds()

    def configure(self, conf: Config) -> None:
        """Takes a configuration, before the first report. Raises ConfigError."""
        self._classes = frozenset(conf.words("notify_classes"))
        self._recipients = (conf.text("error_notice_recipient"), conf.text("bounce_notice_recipient"))
        self._sender = f"{conf.text('double_bounce_sender')}@{conf.text('myhostname')}"
        self._mail_name = conf.text("mail_name")
        self._format = conf.text("header_from_format")
        self._poster.configure(conf)

    def tell(
        self, faults: Collection[str], subject: str, transcript: Iterable[str], *, intro: str = "", reason: str = ""
    ) -> None:
        """Sends a report if it is wanted for one of the faults. ``reason``: why the conversation was broken off."""
        wanted = self._classes.intersection(faults)
        if wanted:
            recipient = self._recipients["bounce" in wanted]
            task = asyncio.get_running_loop().create_task(
                self._send(recipient, subject, list(transcript), intro, reason)
            )
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._role.bug(error)

    async def _send(self, recipient: str, subject: str, transcript: list[str], intro: str, reason: str) -> None:
        now = now_usec()
        content = "".join(f"{line}\n" for line in self._compose(now, recipient, subject, transcript, intro, reason))
        try:
            await self._poster.post(
                self._ids.new(now),
                self._sender,
                cleanup.Recipient(recipient),
                [content.encode("utf-8", "replace")],
                now,
            )
        except (OSError, Unavailable, ServiceError) as error:
            self._role.journal.warning(f"postmaster notify: {error}")

    def _compose(
        self, now: int, recipient: str, subject: str, transcript: list[str], intro: str, reason: str
    ) -> Iterator[str]:
        yield f"Date: {format_date(*date_of(now))}"
        yield f"From: {mail_system(self._format)}"
        yield f"To: {recipient} (Postmaster)" if self._format == "obsolete" else f"To: Postmaster <{recipient}>"
        yield f"Subject: {self._mail_name} {subject}"
        yield ""
        if intro:
            yield from (intro, "")
        yield from ("Transcript of session follows.", "")
        for text in transcript:
            for line in wrap(text, _WIDTH).split("\n"):
                yield f" {line}"
        yield ""
        if reason:
            yield f"Session aborted, reason: {reason}"
        yield from ("", "The log of this system tells more.")
