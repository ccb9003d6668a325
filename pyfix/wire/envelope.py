"""The envelope of an SMTP transaction, and the MAIL and RCPT commands that make it.

Source: RFC 5321, 4.1.1.2 and 4.1.1.3; RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 3461 (RET, ENVID,
NOTIFY, ORCPT), RFC 4954 (AUTH). The replies are Postfix's.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal

from pyfix.wire.command import printable
from pyfix.wire.path import PathError, parse_path
from pyfix.wire.reply import Reply
from pyfix.wire.smtp_dialogue import Mail, Rcpt
from pyfix.wire.xtext import decode_unitext, decode_xtext

_SIZE_LIMIT: Final = 2**63 - 1
_NOTIFY: Final = {b"NEVER": 1, b"SUCCESS": 2, b"FAILURE": 4, b"DELAY": 8}
_DIGITS = re.compile(rb"[0-9]+")
_TYPE = re.compile(rb"[A-Za-z0-9-]+")

BAD_SENDER: Final = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT: Final = Reply(501, "5.1.3", "Bad recipient address syntax")
_MAIL_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address>")
_RCPT_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: RCPT TO:<address>")
_BAD_SIZE: Final = Reply(501, "5.5.4", "Bad message size syntax")
_HUGE_SIZE: Final = Reply(552, "5.3.4", "Message size exceeds file system imposed limit")
_BAD_RET: Final = Reply(501, "5.5.4", "Bad RET parameter syntax")
_BAD_ENVID: Final = Reply(501, "5.5.4", "Bad ENVID parameter syntax")
_BAD_NOTIFY: Final = Reply(501, "5.5.4", "Error: Bad NOTIFY parameter syntax")
_BAD_ORCPT: Final = Reply(501, "5.5.4", "Error: Bad ORCPT parameter syntax")
_VERP_SENDER: Final = Reply(503, "5.5.4", "Error: XVERP requires non-null sender")
_NO_DSN: Final = Reply(501, "5.7.1", "DSN support is disabled")


class Transaction:
    """A message on its way in, from the 2xx to MAIL to the reply to the end of its content, or to RSET.

    ``queue_id`` and ``context`` belong to the driver: what it keeps there ends with the transaction.
    """

    __slots__ = ("context", "mail", "overshoot", "queue_id", "recipients")

    def __init__(self, mail: Mail) -> None:
        self.mail = mail
        self.recipients: list[Rcpt] = []
        self.overshoot = 0
        self.queue_id = ""
        self.context: object = None


def parse_mail(
    words: Sequence[bytes], *, strict: bool, smtputf8: bool, dsn: bool, verp: tuple[str, str] = ("", "")
) -> Mail | Reply:
    """MAIL's words, the verb first: what they mean, or why they are refused.

    ``smtputf8`` and ``dsn``: whether these extensions may be used. ``verp``: the delimiters that XVERP stands for,
    empty where it may not be used, and the characters that it may name.
    """
    if len(words) < 3 or words[1].upper() != b"FROM:":
        return _MAIL_SYNTAX
    international = len(words) > 3 and smtputf8 and any(word.upper() == b"SMTPUTF8" for word in words[3:])
    try:
        sender = parse_path(words[2], strict=strict, smtputf8=international)
    except PathError:
        return BAD_SENDER
    if len(words) == 3:
        return Mail(sender)
    given = _MailParameters(smtputf8=international, dsn=dsn, verp=verp)
    for word in words[3:]:
        if refusal := given.take(word):
            return refusal
    if given.delimiters and not sender:
        return _VERP_SENDER
    return Mail(sender, given.size, given.encoding, international, given.envid, given.ret, given.delimiters)


class _MailParameters:
    """MAIL's parameters as they are read, one word after the other."""

    def __init__(self, *, smtputf8: bool, dsn: bool, verp: tuple[str, str]) -> None:
        self._smtputf8 = smtputf8
        self._dsn = dsn
        self._verp = verp
        self.size = 0
        self.encoding: Literal["", "7bit", "8bit"] = ""
        self.envid = ""
        self.ret: Literal["", "FULL", "HDRS"] = ""
        self.delimiters = ""

    def take(self, word: bytes) -> Reply | None:
        """Notes a parameter, or gives the reply that refuses it."""
        keyword, equals, value = word.upper().partition(b"=")
        if keyword == b"XVERP" and self._verp[0]:
            self.delimiters = word.partition(b"=")[2].decode("utf-8", "replace") if equals else self._verp[0]
            allowed = self._verp[1]
            good = len(self.delimiters) == 2 and set(self.delimiters) <= set(allowed)
            return None if good else _bad_verp(allowed)
        if not equals:
            return None if keyword == b"SMTPUTF8" and self._smtputf8 else _unsupported(word)
        match keyword:
            case b"SIZE":
                return self._take_size(value)
            case b"BODY" if value in (b"7BIT", b"8BITMIME"):
                self.encoding = "7bit" if value == b"7BIT" else "8bit"
            case b"AUTH":
                # RFC 4954, 5: nobody is authenticated here, so that it counts as AUTH=<>.
                pass
            case b"RET" | b"ENVID":
                return self._take_dsn(keyword, word.partition(b"=")[2]) if self._dsn else _NO_DSN
            case _:
                return _unsupported(word)
        return None

    def _take_size(self, value: bytes) -> Reply | None:
        if not _DIGITS.fullmatch(value):
            return _BAD_SIZE
        # Twenty digits are more than any file system takes; int() is not asked to convert more.
        if len(value.lstrip(b"0")) > 19 or int(value) > _SIZE_LIMIT:
            return _HUGE_SIZE
        self.size = int(value)
        return None

    def _take_dsn(self, keyword: bytes, value: bytes) -> Reply | None:
        if keyword == b"ENVID":
            if self.envid or not (envid := _decode_envid(value)):
                return _BAD_ENVID
            self.envid = envid
            return None
        if self.ret or value.upper() not in (b"FULL", b"HDRS"):
            return _BAD_RET
        self.ret = "FULL" if value.upper() == b"FULL" else "HDRS"
        return None


def _decode_envid(value: bytes) -> str:
    """The identifier; empty if it is none (RFC 3461, 4.4: printable ASCII)."""
    try:
        envid = decode_xtext(value).decode("ascii")
    except ValueError:
        return ""
    return envid if envid.isprintable() else ""


def parse_rcpt(words: Sequence[bytes], *, strict: bool, smtputf8: bool, dsn: bool) -> Rcpt | Reply:
    """RCPT's words, the verb first: what they mean, or why they are refused.

    ``smtputf8``: whether the transaction is an international one (RFC 6531).
    """
    if len(words) < 3 or words[1].upper() != b"TO:":
        return _RCPT_SYNTAX
    try:
        address = parse_path(words[2], strict=strict, smtputf8=smtputf8)
    except PathError:
        return BAD_RECIPIENT
    if not address:
        return BAD_RECIPIENT
    notify, orcpt = 0, ""
    for word in words[3:]:
        keyword, equals, value = word.partition(b"=")
        keyword = keyword.upper()
        if not equals or keyword not in (b"NOTIFY", b"ORCPT"):
            return _unsupported(word)
        if not dsn:
            return _NO_DSN
        if keyword == b"NOTIFY":
            if notify or not (notify := _parse_notify(value)):
                return _BAD_NOTIFY
        elif orcpt or not (orcpt := _decode_orcpt(value)):
            return _BAD_ORCPT
    return Rcpt(address, orcpt, notify)


def _parse_notify(value: bytes) -> int:
    """The sum of the words; 0 if they make no sense (RFC 3461, 4.1: NEVER stands alone)."""
    bits = [_NOTIFY.get(word, 0) for word in value.upper().split(b",")]
    notify = 0
    for bit in bits:
        notify |= bit
    return 0 if 0 in bits or (notify & 1 and notify != 1) else notify


def _decode_orcpt(value: bytes) -> str:
    """Type and address, joined by ";"; empty if they are none (RFC 3461, 4.2: printable characters)."""
    kind, semicolon, coded = value.partition(b";")
    if not semicolon or not _TYPE.fullmatch(kind):
        return ""
    try:
        address = decode_xtext(coded).decode("utf-8")
        if kind.lower() == b"utf-8":
            address = decode_unitext(address)
    except ValueError:
        return ""
    return f"{kind.decode('ascii')};{address}" if address.isprintable() else ""


def _bad_verp(allowed: str) -> Reply:
    return Reply(501, "5.5.4", f"Error: XVERP needs two characters from {allowed}")


def _unsupported(word: bytes) -> Reply:
    return Reply(555, "5.5.4", "Unsupported option: " + printable(word.decode("utf-8", "replace")))
