"""Who is told: the notices that come of a message's log, for its sender and for postmaster.

A notice to the sender has the null sender, so that nobody answers it with another one. What cannot be returned goes to
postmaster, as a double bounce: its sender is an address of this system, and what comes back to that is dropped. So a
bounce of a bounce never leaves.

Source: Postfix's bounce(8), notify_classes in postconf(5).
"""

from typing import Literal

from msgspec import Struct

from pyfix.conf.config import Config
from pyfix.service.bounce import NoticeKind
from pyfix.spool.envelope import NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_NEVER

EVERY = 15
"""All entries of the log are told of, whatever NOTIFY says of them."""


class Copy(Struct, frozen=True):
    """A notice that is due, unless no entry of the log is wanted."""

    # "sender non-delivery notification", as it is logged
    event: str
    sender: str
    recipient: str
    # a sum of NOTIFY_*: which recipients of the message it tells of
    wanted: int
    ret: Literal["FULL", "HDRS"]
    # for postmaster: without the text that is for senders
    postmaster: bool = False
    # when it cannot be sent it is asked for again later
    vital: bool = True

    @property
    def notify(self) -> int:
        """NOTIFY of the notice itself (RFC 3461 section 6.1)."""
        return 0 if self.sender else NOTIFY_NEVER


class Addressees(Struct, frozen=True):
    """Who is told of what goes wrong."""

    # user@host
    double_bounce: str
    classes: frozenset[str]
    # for mail that was returned, that could not be returned, and that is late
    bounce: str
    twice: str
    delay: str

    def copies(self, kind: NoticeKind, sender: str, ret: str, recipient: str = "") -> tuple[list[Copy], str]:
        """The notices that are due about mail from ``sender``, and what is to be logged if there is none.

        ``ret`` is RFC 3461's RET. ``recipient`` is whom to tell in place of the sender (VERP).
        """
        if sender.lower() == self.double_bounce.lower():
            return [], "undeliverable postmaster notification discarded"
        if kind == "failure":
            return self._failure(sender, ret, recipient or sender), ""
        if kind == "delay":
            return self._delay(sender), ""
        return self._success(sender)

    def _failure(self, sender: str, ret: str, recipient: str) -> list[Copy]:
        event = "postmaster non-delivery notification"
        if not sender:
            if not self.classes & {"bounce", "2bounce"}:
                return []
            return [Copy(event, self.double_bounce, self.twice, EVERY, "FULL", postmaster=True)]
        copies = [
            Copy("sender non-delivery notification", "", recipient, NOTIFY_FAILURE, "HDRS" if ret == "HDRS" else "FULL")
        ]
        if "bounce" in self.classes:
            copies.append(Copy(event, self.double_bounce, self.bounce, EVERY, "HDRS", postmaster=True, vital=False))
        return copies

    def _delay(self, sender: str) -> list[Copy]:
        copies = [Copy("sender delay notification", "", sender, NOTIFY_DELAY, "HDRS")] if sender else []
        if "delay" in self.classes:
            copies.append(
                Copy(
                    "postmaster delay notification",
                    self.double_bounce,
                    self.delay,
                    EVERY,
                    "HDRS" if sender else "FULL",
                    postmaster=True,
                    vital=not sender,
                )
            )
        return copies

    def _success(self, sender: str) -> tuple[list[Copy], str]:
        event = "sender delivery status notification"
        if sender:
            return [Copy(event, "", sender, EVERY, "HDRS")], ""
        if "2bounce" in self.classes:
            return [Copy(event, self.double_bounce, self.twice, EVERY, "HDRS")], ""
        return [], "not sending trace/success notification for single-bounce message"


def read_addressees(conf: Config) -> Addressees:
    """The addressees of main.cf. Raises ConfigError."""
    return Addressees(
        f"{conf.text('double_bounce_sender')}@{conf.text('myhostname')}",
        frozenset(conf.words("notify_classes")),
        conf.text("bounce_notice_recipient"),
        conf.text("2bounce_notice_recipient"),
        conf.text("delay_notice_recipient"),
    )
