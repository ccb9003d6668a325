"""``sendmail -bs``: the SMTP server's session on standard input and output, with postdrop behind it.

Nobody is refused as a recipient: whoever may run the command may submit mail to anyone. postdrop knows who that is.
"""

import asyncio
import os
import stat
from collections.abc import Callable
from typing import cast

from pyfix.access.client_lists import Standing
from pyfix.access.received import Client as SmtpClient
from pyfix.access.received import Hop
from pyfix.access.restriction import Facts, RecipientPolicy
from pyfix.access.session import Session
from pyfix.access.session_settings import read_settings
from pyfix.conf.config import Config
from pyfix.service.calling import Unavailable, socket_path
from pyfix.service.client import Client
from pyfix.service.interface import ServiceError
from pyfix.service.postdrop import INTERFACE, Committed, Open, Refused
from pyfix.service.rewrite import Resolved
from pyfix.service.submission import WRITE_ERROR, Submission
from pyfix.spool.queue_id import QueueIds
from pyfix.system.clock import now_usec
from pyfix.system.journal import JOURNAL_SOCKET, Event, Journal
from pyfix.wire.envelope import Transaction
from pyfix.wire.reply import Reply

_READ_SIZE = 65536
_THIS_USER = Standing(trusted=True, lenient=False, counted=False, local=True)


class _Everyone:
    """A policy that refuses nobody."""

    def check(self, _facts: Facts) -> Reply | None:
        return None


class Surroundings:
    """What the session lives in."""

    def __init__(self, conf: Config) -> None:
        self.policy = cast("RecipientPolicy", _Everyone())
        self.stopping = False
        self.now_usec = now_usec
        self.new_queue_id = QueueIds().new
        self._loop = asyncio.get_running_loop()
        self._postdrop = Client(INTERFACE, socket_path("postdrop", INTERFACE.name))
        journal = Journal(f"{conf.text('syslog_name')}/smtpd") if os.path.exists(JOURNAL_SOCKET) else None
        self._journal = journal
        # answers that are still to come; ``on_quiet`` is called when there is none left
        self._owed = 0
        self.on_quiet: Callable[[], None] = _nothing

    def log(self, event: Event) -> None:
        """Logs where there is a journal; standard error is the caller's."""
        if self._journal is not None:
            self._journal.write(event)

    def look_up(self, _sender: str, recipient: str, then: Callable[[Resolved | None], None]) -> None:
        """Says of every recipient that mail for it may be submitted."""
        then(Resolved(recipient, "local", "", "local"))

    def store(self, transaction: Transaction, _hop: Hop, _standing: Standing, on_room: Callable[[], None]) -> "Message":
        """Begins to hand a message to postdrop."""
        mail = transaction.mail
        wishes = {recipient.notify for recipient in transaction.recipients}
        request = Open(
            content=0,
            sender=mail.sender,
            recipients=tuple(recipient.address for recipient in transaction.recipients),
            envid=mail.envid,
            ret=mail.ret,
            # A submission has one wish for all its recipients.
            notify=wishes.pop() if len(wishes) == 1 else 0,
            encoding=mail.encoding,
            smtputf8=mail.smtputf8,
        )
        return Message(Submission(self._loop, self._postdrop, request, on_room), self._owing)

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Calls after a while."""
        self._loop.call_later(seconds, self._owing(then))

    @property
    def quiet(self) -> bool:
        """Whether no answer is to come."""
        return self._owed == 0

    def _owing(self, then: Callable[..., None]) -> Callable[..., None]:
        """The same, with an answer owed until it is called."""
        self._owed += 1

        def answer(*arguments: Reply) -> None:
            then(*arguments)
            self._owed -= 1
            if self._owed == 0:
                self.on_quiet()

        return answer

    def close(self) -> None:
        """Ends the connection to postdrop."""
        self._postdrop.close()


def _nothing() -> None:
    """What there is to do when no answer is owed and input goes on."""


class Message:
    """A message on its way to postdrop, and the reply that comes of it."""

    def __init__(self, submission: Submission, owing: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
        self._submission = submission
        self._owing = owing
        self._then: Callable[[Reply], None] | None = None
        self.write = submission.content.write
        self.abort = submission.abort

    @property
    def held(self) -> int:
        """Bytes of content that postdrop did not take yet."""
        return self._submission.content.held

    def commit(self, then: Callable[[Reply], None]) -> None:
        """Has the message made durable."""
        self._then = self._owing(then)
        self._submission.commit(self._done)

    def _done(self, task: "asyncio.Task[Committed]") -> None:
        assert self._then is not None
        try:
            reply = Reply(250, "2.0.0", f"Ok: queued as {task.result().queue_id}")
        except Refused as refused:
            status, text = refused.parameters.status, refused.parameters.text
            reply = Reply(451 if status.startswith("4") else 554, status, f"Error: {text}")
        except (Unavailable, ServiceError, asyncio.CancelledError):
            reply = WRITE_ERROR
        self._then(reply)


class StandardLine:
    """Standard input and output as the session's line. ``gone`` is set when it is over.

    Their status flags are shared with the caller and stay as they are: input is read when there is some, and output
    is waited for, since this process has nobody else to serve.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.session: Session | None = None
        self.gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # select(2) and its like know no regular files: these are always ready.
        self._always_ready = stat.S_ISREG(os.fstat(0).st_mode)
        self._wanted = False
        self._ended = False

    def write(self, data: bytes) -> None:
        """Sends bytes."""
        try:
            while data:
                data = data[os.write(1, data) :]
        except BrokenPipeError:
            self._end_of_input()

    def close(self) -> None:
        """The session is over."""
        self._ended = True
        self.read(wanted=False)
        self.gone.set()

    def read(self, *, wanted: bool) -> None:
        """Goes on reading, or stops."""
        if wanted == self._wanted or (wanted and self._ended):
            return
        self._wanted = wanted
        if self._always_ready:
            self._loop.call_soon(self._readable)
        elif wanted:
            self._loop.add_reader(0, self._readable)
        else:
            self._loop.remove_reader(0)

    def _readable(self) -> None:
        if not self._wanted or self.session is None:
            return
        data = os.read(0, _READ_SIZE)
        if not data:
            self._end_of_input()
            return
        self.session.receive(data)
        if self._always_ready and self._wanted:
            self._loop.call_soon(self._readable)

    def _end_of_input(self) -> None:
        """What came before the end is dealt with first, as scripts do not wait for replies."""
        self._ended = True
        self.read(wanted=False)
        self._around.on_quiet = self._end_of_input
        if self._around.quiet and self.session is not None and not self.session.ended:
            self._loop.call_soon(self.session.lost)


async def serve(conf: Config) -> None:
    """Speaks SMTP until the session is over."""
    around = Surroundings(conf)
    line = StandardLine(around)
    client = SmtpClient("localhost", "127.0.0.1", 0, "localhost")
    line.session = Session(around, line, client, _THIS_USER, read_settings(conf, stand_alone=True))
    line.session.begin(b"")
    await line.gone.wait()
    around.close()


def run(conf: Config) -> None:
    """The command's work. Raises ConfigError."""
    asyncio.run(serve(conf))
