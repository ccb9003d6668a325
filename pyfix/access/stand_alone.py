"""The SMTP session of ``sendmail -bs``, whose client is the user who runs the command.

Nobody is refused as a recipient: whoever may run the command may submit mail to anyone. postdrop knows who that is.
"""

from collections.abc import Callable, Iterable
from typing import cast

from pyfix.access.client_lists import Standing
from pyfix.access.received import Client, Hop
from pyfix.access.restriction import Facts, RecipientPolicy
from pyfix.access.session import Line, Session, Storing
from pyfix.access.session_settings import read_settings
from pyfix.conf.config import Config
from pyfix.service.postdrop import Open
from pyfix.service.rewrite import Resolved
from pyfix.service.stand_alone import House
from pyfix.wire.envelope import Transaction
from pyfix.wire.reply import Reply

_THIS_USER = Standing(trusted=True, lenient=False, counted=False, local=True)


class _Everyone:
    """A policy that refuses nobody."""

    def check(self, _facts: Facts) -> Reply | None:
        return None


class Surroundings:
    """What the session lives in."""

    def __init__(self, house: House) -> None:
        self.policy = cast("RecipientPolicy", _Everyone())
        self.stopping = False
        self.log = house.log
        self.now_usec = house.now_usec
        self.new_queue_id = house.new_queue_id
        self.later = house.later
        self._submit = house.submit

    def look_up(self, _sender: str, recipient: str, then: Callable[[Resolved | None], None]) -> None:
        """Says of every recipient that mail for it may be submitted."""
        then(Resolved(recipient, "local", "", "local"))

    def report(self, _client: Client, _history: Iterable[bytes | Reply], _reason: str) -> None:
        """Says nothing: the user sees what is wrong."""

    def store(self, transaction: Transaction, _hop: Hop, _standing: Standing, on_room: Callable[[], None]) -> Storing:
        """Begins to hand a message to postdrop. Raises OSError."""
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
        return self._submit(request, on_room)


def begin(conf: Config, house: House, line: Line) -> Session:
    """Greets the user; the session. Raises ConfigError."""
    client = Client("localhost", "127.0.0.1", 0, "localhost")
    session = Session(Surroundings(house), line, client, _THIS_USER, read_settings(conf, stand_alone=True))
    session.begin(b"")
    return session
