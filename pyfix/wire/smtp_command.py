"""The commands that the SMTP server knows: what each asks for, or how it is answered at once.

A command is a function of the dialogue and of the line's words. It gives a Reply, or a question to the driver.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from pyfix.wire.command import printable
from pyfix.wire.envelope import BAD_RECIPIENT, BAD_SENDER, Transaction, parse_mail, parse_rcpt
from pyfix.wire.path import PathError, parse_path
from pyfix.wire.reply import OK, Reply
from pyfix.wire.smtp_dialogue import Begin, Hello, Question, Settings, Verify

BYE: Final = Reply(221, "2.0.0", "Bye")
GO_AHEAD: Final = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Error: too many recipients")
_NOT_IMPLEMENTED: Final = Reply(502, "5.5.1", "Error: command not implemented")
_NEED_MAIL: Final = Reply(503, "5.5.1", "Error: need MAIL command")

# Characters of a HELO name that would mislead a reader of the Received header.
_NEUTER: Final = str.maketrans(dict.fromkeys(' <>()\\";@', "?"))


class Dialogue:
    """The part of a session's state that commands read and change."""

    __slots__ = ("hello", "settings", "transaction")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.hello: Hello | None = None
        self.transaction: Transaction | None = None

    @property
    def protocol(self) -> Literal["SMTP", "ESMTP"]:
        """What the client speaks."""
        return "ESMTP" if self.hello and self.hello.verb == "EHLO" else "SMTP"

    def drop(self) -> None:
        """Ends the transaction, if there is one. Nothing of it is left."""
        self.transaction = None


class Forgiven(NamedTuple):
    """A refusal that does not count as the client's error."""

    reply: Reply


Outcome = Reply | Forgiven | Question


class Known(NamedTuple):
    """A command that the server knows."""

    name: str
    obey: Callable[[Dialogue, Sequence[bytes]], Outcome]
    # must be the last of what the client sends without waiting (RFC 2920, 3.1)
    last: bool = False
    # can be repeated without end and without sense: counted against junk_command_limit
    junk: bool = False


def is_bad_address(outcome: Outcome) -> bool:
    """Whether it is an address that the command was refused for."""
    return outcome is BAD_SENDER or outcome is BAD_RECIPIENT


@lru_cache
def ehlo_reply(settings: Settings) -> Reply:
    """The reply to EHLO, with what the server offers, in Postfix's order."""
    size = f"SIZE {settings.message_size_limit}" if settings.message_size_limit else "SIZE"
    offers = ["PIPELINING", size, "VRFY", "XVERP", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8"]
    hidden = set(settings.discard_ehlo_keywords)
    if settings.disable_vrfy_command:
        hidden.add("VRFY")
    if not settings.smtputf8_enable:
        hidden.add("SMTPUTF8")
    if not settings.verp_delimiters:
        hidden.add("XVERP")
    return Reply(250, "", "\n".join([settings.hostname, *(o for o in offers if o.split(" ")[0] not in hidden)]))


def helo_reply(settings: Settings) -> Reply:
    """The reply to HELO."""
    return Reply(250, "", settings.hostname)


def _helo(_: Dialogue, words: Sequence[bytes]) -> Outcome:
    return _hello("HELO", words)


def _ehlo(_: Dialogue, words: Sequence[bytes]) -> Outcome:
    return _hello("EHLO", words)


def _hello(verb: Literal["HELO", "EHLO"], words: Sequence[bytes]) -> Outcome:
    if len(words) < 2:
        return Reply(501, "", f"Syntax: {verb} hostname")
    name = b" ".join(words[1:]).decode("utf-8", "replace")
    return Hello(verb, printable(name).translate(_NEUTER))


def _mail(dialogue: Dialogue, words: Sequence[bytes]) -> Outcome:
    settings = dialogue.settings
    if settings.helo_required and dialogue.hello is None:
        return Reply(503, "5.5.1", "Error: send HELO/EHLO first")
    if dialogue.transaction is not None:
        return Reply(503, "5.5.1", "Error: nested MAIL command")
    return parse_mail(
        words,
        strict=settings.strict_rfc821_envelopes,
        smtputf8=settings.smtputf8_enable,
        dsn=_offers_dsn(dialogue),
        verp=(settings.verp_delimiters, settings.verp_delimiter_filter),
    )


def _rcpt(dialogue: Dialogue, words: Sequence[bytes]) -> Outcome:
    settings, transaction = dialogue.settings, dialogue.transaction
    if transaction is None:
        return _NEED_MAIL
    recipient = parse_rcpt(
        words,
        strict=settings.strict_rfc821_envelopes,
        smtputf8=transaction.mail.smtputf8,
        dsn=_offers_dsn(dialogue),
    )
    if type(recipient) is Reply or len(transaction.recipients) < settings.recipient_limit:
        return recipient
    transaction.overshoot += 1
    if transaction.overshoot <= settings.recipient_overshoot_limit:
        return Forgiven(TOO_MANY_RECIPIENTS)
    return TOO_MANY_RECIPIENTS


def _offers_dsn(dialogue: Dialogue) -> bool:
    return "DSN" not in dialogue.settings.discard_ehlo_keywords


def _data(dialogue: Dialogue, words: Sequence[bytes]) -> Outcome:
    transaction = dialogue.transaction
    if transaction is None:
        return Reply(503, "5.5.1", "Error: need RCPT command")
    if not transaction.recipients:
        return Reply(554, "5.5.1", "Error: no valid recipients")
    return Begin() if len(words) == 1 else Reply(501, "5.5.4", "Syntax: DATA")


def _rset(dialogue: Dialogue, words: Sequence[bytes]) -> Outcome:
    if len(words) != 1:
        return Reply(501, "5.5.4", "Syntax: RSET")
    dialogue.drop()
    return OK


def _noop(_: Dialogue, __: Sequence[bytes]) -> Outcome:
    return OK


def _vrfy(dialogue: Dialogue, words: Sequence[bytes]) -> Outcome:
    settings = dialogue.settings
    if settings.disable_vrfy_command:
        return Reply(502, "5.5.1", "VRFY command is disabled")
    if len(words) < 2:
        return Reply(501, "5.5.4", "Syntax: VRFY address" + (" [SMTPUTF8]" if settings.smtputf8_enable else ""))
    smtputf8 = settings.smtputf8_enable and len(words) > 2 and words[-1].upper() == b"SMTPUTF8"
    text = b" ".join(words[1:-1] if smtputf8 else words[1:])
    try:
        address = parse_path(text, strict=False, smtputf8=smtputf8)
    except PathError:
        return BAD_RECIPIENT
    return Verify(address, printable(text.decode("utf-8", "replace"))) if address else BAD_RECIPIENT


def _etrn(dialogue: Dialogue, words: Sequence[bytes]) -> Outcome:
    if dialogue.settings.helo_required and dialogue.hello is None:
        return Reply(503, "", "Error: send HELO/EHLO first")
    if dialogue.transaction is not None:
        return Reply(503, "", "Error: MAIL transaction in progress")
    return _NOT_IMPLEMENTED if len(words) == 2 else Reply(500, "", "Syntax: ETRN domain")


def _quit(_: Dialogue, __: Sequence[bytes]) -> Outcome:
    return BYE


def _starttls(_: Dialogue, __: Sequence[bytes]) -> Outcome:
    return _NOT_IMPLEMENTED


def _auth(_: Dialogue, __: Sequence[bytes]) -> Outcome:
    return Reply(503, "5.5.1", "Error: authentication not enabled")


def _extension(dialogue: Dialogue, words: Sequence[bytes]) -> Outcome:
    """XCLIENT or XFORWARD, which nobody is authorized for."""
    if dialogue.transaction is not None:
        return Reply(503, "5.5.1", "Error: MAIL transaction in progress")
    if len(words) < 2:
        return Reply(501, "5.5.4", f"Syntax: {words[0].upper().decode('ascii')} attribute=value...")
    return Reply(550, "5.7.0", "Error: insufficient authorization")


def _help(_: Dialogue, __: Sequence[bytes]) -> Outcome:
    return Reply(214, "2.0.0", "Commands: DATA EHLO HELO HELP MAIL NOOP QUIT RCPT RSET VRFY")


# In the order that the log's accounting has.
KNOWN: Final = {
    known.name.upper().encode("ascii"): known
    for known in (
        Known("helo", _helo, last=True, junk=True),
        Known("ehlo", _ehlo, last=True, junk=True),
        Known("starttls", _starttls),
        Known("auth", _auth),
        Known("mail", _mail),
        Known("rcpt", _rcpt),
        Known("data", _data, last=True),
        Known("rset", _rset, junk=True),
        Known("noop", _noop, last=True, junk=True),
        Known("vrfy", _vrfy, last=True, junk=True),
        Known("etrn", _etrn, junk=True),
        Known("quit", _quit),
        Known("xclient", _extension, junk=True),
        Known("xforward", _extension, junk=True),
        Known("help", _help),
    )
}
UNKNOWN: Final = Known("unknown", _noop)
