"""Phrases: the words before an address in a header, RFC 5322 section 3.2.5 and RFC 2047 section 5 (3)."""

import base64
import re
from typing import TypeVar

Piece = TypeVar("Piece", str, bytes)

_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: +[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_CONTROLS = dict.fromkeys((*range(32), 127), " ")
# RFC 2047 section 5 (3): all that may stand for itself in an encoded word that is part of a phrase.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
# RFC 2047 section 2: an encoded word has at most 75 characters, of which "=?utf-8?Q?" and "?=" take 12.
_WORD_LENGTH = 63


def format_phrase(text: str) -> str:
    """A name as a phrase: as it is, in quotes, or in encoded words on lines of their own; empty for no name.

    Control characters become spaces.
    """
    text = text.translate(_CONTROLS).strip(" ")
    if not text or _ATOMS.fullmatch(text):
        return text
    if text.isascii():
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return "\n\t".join(_encoded_words(text))


def _encoded_words(text: str) -> list[str]:
    """Q encoding if half of the text can be read so, else B; no character is cut in two (RFC 2047 section 5)."""
    characters = [character.encode("utf-8", "replace") for character in text]
    if 2 * sum(map(str.isascii, text)) >= sum(map(len, characters)):
        quoted = [_quote(character) for character in characters]
        return [f"=?utf-8?Q?{''.join(part)}?=" for part in _pack(quoted, _WORD_LENGTH)]
    return [
        f"=?utf-8?B?{base64.b64encode(b''.join(part)).decode('ascii')}?="
        for part in _pack(characters, _WORD_LENGTH // 4 * 3)
    ]


def _quote(character: bytes) -> str:
    return "".join(["_" if b == 32 else chr(b) if b in _PLAIN else f"={b:02X}" for b in character])


def _pack(pieces: list[Piece], size: int) -> list[list[Piece]]:
    """The pieces in groups whose lengths add up to at most ``size``."""
    groups: list[list[Piece]] = [[]]
    room = size
    for piece in pieces:
        if len(piece) > room:
            groups.append([])
            room = size
        groups[-1].append(piece)
        room -= len(piece)
    return groups


def mail_system(header_from_format: str) -> str:
    """The mail system as the author of what it writes: the body of a From header, by header_from_format."""
    name = "Mail Delivery System"
    return f"MAILER-DAEMON ({name})" if header_from_format == "obsolete" else f"{name} <MAILER-DAEMON>"
