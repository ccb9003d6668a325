"""xtext and its Unicode form, as ENVID and ORCPT carry text (RFC 3461, 4; RFC 6533, 3)."""

import re

_HEXCHAR = re.compile(rb"\+([0-9A-Fa-f]{2})")
_PLAIN = re.compile(rb"[\x21-\x2a\x2c-\x3c\x3e-\x7e]*")
_UNICODE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def decode_xtext(text: bytes) -> bytes:
    """The bytes that the xtext stands for. A plus that no two hexadecimal digits follow raises ValueError.

    Characters that should have been encoded are taken as they are, as Postfix does.
    """
    if b"+" not in text:
        return text
    if text.count(b"+") != len(_HEXCHAR.findall(text)):
        raise ValueError("a plus without two hexadecimal digits")
    return _HEXCHAR.sub(lambda found: bytes((int(found[1], 16),)), text)


def encode_xtext(text: bytes) -> bytes:
    """The xtext for these bytes."""
    if _PLAIN.fullmatch(text):
        return text
    return b"".join(bytes((byte,)) if 0x21 <= byte <= 0x7E and byte not in b"+=" else b"+%02X" % byte for byte in text)


def decode_unitext(text: str) -> str:
    r"""Text with its \x{...} sequences turned into characters; ValueError for what is no character."""

    def character(found: re.Match[str]) -> str:
        code = int(found[1], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise ValueError("no Unicode character")
        return chr(code)

    return _UNICODE.sub(character, text)
