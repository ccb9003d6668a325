"""Envelope addresses: from the form that MAIL and RCPT carry to the internal, unquoted form (RFC 5321, 4.1.2).

What is taken beyond the standard is what Postfix takes when strict_rfc821_envelopes is off: a missing ``<>``, blanks,
comments, dots in any place, unquoted ``@`` in the local part. Two things that Postfix takes are refused here: control
characters, which have no place in a log line or a header, and group syntax.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final

# What nearly all paths are, and what needs no second look.
_SIMPLE = re.compile(
    rb"<([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]++@(?![0-9.]*+>)(?=.{1,255}>)"
    rb"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*+)>"
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_TOKEN = re.compile(
    r'"(?P<quoted>(?:[^"\\]|\\.)*+)"'
    r"|(?P<literal>\[(?:[^\[\]\\])*+\])"
    r'|(?P<atom>(?:[^\s"\\()<>@,;:\[\].]|\\.)++)'
    r"|(?P<dot>\.)|(?P<at>@)|(?P<bracket>[<>])|(?P<blank>[ \t]++)",
    re.DOTALL,
)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_WORDS: Final = ("atom", "quoted", "literal")


class PathError(ValueError):
    """Not an address."""


def parse_path(path: bytes, *, strict: bool, smtputf8: bool) -> str:
    """The address of a path, ``<"a b"@c.example>`` as ``a b@c.example``; empty for ``<>``. Raises PathError.

    Without ``smtputf8`` the domain must be ASCII; with ``strict`` nothing but the standard's form will do.
    """
    if simple := _SIMPLE.fullmatch(path):
        return simple[1].decode("ascii")
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        raise PathError("not UTF-8") from None
    if _CONTROL.search(text):
        raise PathError("control character")
    bracketed = text.startswith("<") and text.endswith(">") and len(text) > 1
    if text.startswith("<") and not bracketed:
        raise PathError("no closing bracket")
    text = text[1:-1] if bracketed else text
    # RFC 5321, appendix C: source routes are to be ignored.
    if text.startswith("@") and ":" in text:
        text = text.partition(":")[2]
    local, domain = _split(text)
    if strict and (not bracketed or "(" in text or local == ""):
        if bracketed and text == "":
            return ""
        raise PathError("not the standard's form")
    if domain is None:
        return local
    check_domain(domain, smtputf8=smtputf8)
    return f"{local}@{domain}"


def check_domain(domain: str, *, smtputf8: bool) -> None:
    """Raises PathError for what can be neither a host name nor an address literal."""
    if domain.startswith("["):
        _check_literal(domain[1:-1])
        return
    labels = domain.removesuffix(".").split(".")
    if len(domain) > 255 or not all(_is_label(label, smtputf8) for label in labels):
        raise PathError("no domain name")
    if labels[-1].isdigit() and all(label.isdigit() for label in labels):
        raise PathError("a number is no domain name")


def _is_label(label: str, smtputf8: bool) -> bool:
    if label.isascii():
        return _LABEL.fullmatch(label) is not None
    return smtputf8 and len(label) <= 63 and label.isprintable() and not re.search(r"[^\w-]|^-|-\Z", label)


def _check_literal(literal: str) -> None:
    try:
        if literal[:5].upper() == "IPV6:":
            IPv6Address(literal[5:])
        else:
            IPv4Address(literal)
    except ValueError:
        raise PathError("no address literal") from None


def _split(text: str) -> tuple[str, str | None]:
    """Local part and domain; None where there is no domain."""
    parts: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        if text[position] == "(":
            position = _skip_comment(text, position)
            continue
        token = _TOKEN.match(text, position)
        if token is None:
            raise PathError("a character out of place")
        position = token.end()
        kind = token.lastgroup or ""
        if kind in _WORDS and parts and parts[-1][0] in _WORDS:
            raise PathError("two words in a row")
        if kind not in ("blank", "bracket"):
            parts.append((kind, token[kind]))
    ats = [index for index, (kind, _) in enumerate(parts) if kind == "at"]
    if not ats:
        return _join(parts, local=True), None
    domain = parts[ats[-1] + 1 :]
    if not domain or (len(domain) > 1 and any(kind == "literal" for kind, _ in domain)):
        raise PathError("no domain")
    return _join(parts[: ats[-1]], local=True), _join(domain, local=False)


def _join(parts: list[tuple[str, str]], *, local: bool) -> str:
    if any(kind == ("literal" if local else "quoted") for kind, _ in parts):
        raise PathError("a word out of place")
    return "".join(_ESCAPE.sub(r"\1", text) if "\\" in text else text for _, text in parts)


def _skip_comment(text: str, position: int) -> int:
    depth = 0
    while position < len(text):
        character = text[position]
        position += 2 if character == "\\" else 1
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return position
    raise PathError("no end of a comment")
