"""Why a delivery failed, in Postfix's words: replies, lost connections and local reasons turned into values."""

from enum import Enum
from typing import NamedTuple

from pyfix.wire.response import Response
from pyfix.wire.smtp_client import Stage


class Trouble(NamedTuple):
    """A failure, of one recipient or of a host."""

    # RFC 3463; class 4 may pass, class 5 is final
    dsn: str
    reason: str
    # RFC 3464: who said so, and what; empty if nobody did
    remote_mta: str = ""
    diagnostic: str = ""

    @property
    def soft(self) -> bool:
        """Whether trying again, here or elsewhere, may help."""
        return self.dsn.startswith("4")

    @property
    def loops(self) -> bool:
        """Whether mail would come back to this system."""
        return self.dsn[1:] == ".4.6"

    def softened(self, detail: str) -> "Trouble":
        """The same, as temporary: ``detail`` is the rest of the status, "3.5"."""
        return self._replace(dsn=f"4.{detail}")


class While(Enum):
    """What was going on, for stages that are not those of a reply."""

    MESSAGE_BODY = "sending message body"


_IN_REPLY_TO = {
    Stage.MAIL: "MAIL FROM command",
    Stage.RCPT: "RCPT TO command",
    Stage.DATA: "DATA command",
    Stage.END_OF_DATA: "end of DATA command",
    Stage.RSET: "final RSET command",
    Stage.QUIT: "QUIT command",
}
_WHILE: dict[Stage | While, str] = {
    Stage.GREETING: "receiving the initial server greeting",
    Stage.EHLO: "performing the EHLO handshake",
    Stage.HELO: "performing the HELO handshake",
    Stage.MAIL: "sending MAIL FROM",
    Stage.RCPT: "sending RCPT TO",
    Stage.DATA: "sending DATA command",
    While.MESSAGE_BODY: While.MESSAGE_BODY.value,
    Stage.END_OF_DATA: "sending end of data -- message may be sent more than once",
    Stage.RSET: "sending final RSET",
    Stage.QUIT: "sending QUIT",
}


def _remote(response: Response, host: str, reason: str) -> Trouble:
    """A failure that a host declared. A reply that is no failure is a protocol error where one was due."""
    status = response.status
    if status[0] not in "45":
        status, reason = "5.5.0", f"Protocol error: {reason}"
    return Trouble(status, reason, host, response.line)


def said(response: Response, stage: Stage, host: str, label: str) -> Trouble:
    """A host's refusal. ``host`` is its name, ``label`` is ``NAME[ADDRESS]``."""
    return _remote(response, host, f"host {label} said: {response.line} (in reply to {_IN_REPLY_TO[stage]})")


def refused_to_talk(response: Response, host: str, label: str, *, soften: bool) -> Trouble:
    """A greeting, EHLO or HELO refused. ``soften``: a permanent refusal counts as temporary (another host may talk)."""
    trouble = _remote(response, host, f"host {label} refused to talk to me: {response.line}")
    return trouble.softened(trouble.dsn[2:]) if soften and not trouble.soft else trouble


def lost_connection(stage: Stage | While, label: str) -> Trouble:
    """The connection ended."""
    return Trouble("4.4.2", f"lost connection with {label} while {_WHILE[stage]}")


def timed_out(stage: Stage | While, label: str) -> Trouble:
    """The host took too long."""
    return Trouble("4.4.2", f"conversation with {label} timed out while {_WHILE[stage]}")


def local_data_error(label: str) -> Trouble:
    """The message could not be read to its end."""
    return Trouble("4.3.0", f"local data error while talking to {label}")


def broken_protocol(label: str, how: str) -> Trouble:
    """The host broke the protocol beyond use."""
    return Trouble("4.5.0", f"Protocol error: host {label}: {how}")


def no_connection(label: str, port: int, error: str) -> Trouble:
    """connect() failed; ``error`` is the system's text for why."""
    return Trouble("4.4.1", f"connect to {label}:{port}: {error}")


def loops_back(destination: str, *, soft: bool = False) -> Trouble:
    """The host is this system."""
    return Trouble("4.4.6" if soft else "5.4.6", f"mail for {destination} loops back to myself")


def too_big(size: int, limit: int, label: str) -> Trouble:
    """The message is bigger than the host takes."""
    return Trouble("5.3.4", f"message size {size} exceeds size limit {limit} of server {label}")


def no_smtputf8(label: str) -> Trouble:
    """The message cannot be sent to a host without SMTPUTF8."""
    return Trouble("5.6.7", f"SMTPUTF8 is required, but was not offered by host {label}")


UNAVAILABLE = Trouble("4.3.0", "server unavailable or unable to receive mail")
"""When nothing more precise is known."""
