"""Enhanced mail system status codes, RFC 3463: ``X.Y.Z``."""

import re

_PREFIX = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|\Z)")


def split_status(text: str, default: str) -> tuple[str, str]:
    """The status that a text begins with, and the text behind it; without one ``default`` and the whole text."""
    found = _PREFIX.match(text)
    return (found[1], text[found.end() :]) if found else (default, text)


def with_class(status: str, digit: str) -> str:
    """The status with another class: ``with_class("5.1.1", "4")`` is ``4.1.1``."""
    return digit + status[1:]
