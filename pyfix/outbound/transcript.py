"""What postmaster is told of a host that finds fault with what we say.

Such replies mean that one of the two sides has the protocol wrong (RFC 5321 section 4.2.1, x0z), not that mail is
refused.

Source: Postfix's smtp(8), notify class protocol.
"""

from collections.abc import Iterable, Iterator

from pyfix.outbound.session import Session
from pyfix.service.postmaster import Postmaster
from pyfix.wire.response import Response
from pyfix.wire.smtp_client import Replied, Stage


def report(postmaster: Postmaster, session: Session) -> None:
    """Tells postmaster of the transaction at hand, if there is something to tell and it is wanted."""
    # Nearly always there is no fault, and then nobody asks what was meant.
    codes = {replied.response.code for replied in session.replies}
    if any(map(_is_fault, codes)) and any(_is_fault(replied.response.code) for replied in _meant(session)):
        subject = f"SMTP client: errors from {session.relay}"
        intro = f"Unexpected response from {session.relay}."
        postmaster.tell({"protocol"}, subject, _lines(session.machine.history), intro=intro)
        session.machine.history.clear()


def _lines(history: Iterable[str | Response]) -> Iterator[str]:
    for said in history:
        if isinstance(said, Response):
            yield from [f"In:  {line}" for line in said.text.split("\n")]
        else:
            yield f"Out: {said}"


def _meant(session: Session) -> Iterator[Replied]:
    """The replies but for those to commands that were sent ahead and then made no sense."""
    refused = False
    for replied in session.replies:
        after_rcpt = replied.stage in {Stage.DATA, Stage.END_OF_DATA}
        if not refused and (not after_rcpt or session.machine.accepted):
            yield replied
        refused = refused or (replied.stage is Stage.MAIL and replied.response.code // 100 != 2)


def _is_fault(code: int) -> bool:
    return not 200 <= code < 600 or 500 <= code < 510 or code == 555
