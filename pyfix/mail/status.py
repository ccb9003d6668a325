"""Enhanced mail system status codes, RFC 3463: ``X.Y.Z``."""

import re

_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_PREFIX = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|\Z)")


def is_status(text: str) -> bool:
    """Whether a text is a status and nothing else."""
    return _STATUS.fullmatch(text) is not None


def split_status(text: str, default: str) -> tuple[str, str]:
    """The status that a text begins with, and the text behind it; without one ``default`` and the whole text."""
    found = _PREFIX.match(text)
    return (found[1], text[found.end() :]) if found else (default, text)


def with_class(status: str, digit: str) -> str:
    """The status with another class: ``with_class("5.1.1", "4")`` is ``4.1.1``."""
    return digit + status[1:]


def status_of_reply(code: int, text: str) -> str:
    """The status of an SMTP reply: the one its text begins with if its class fits the code, else ``X.0.0``."""
    digit = str(code)[0]
    status, _ = split_status(text, "")
    return status if status.startswith(digit) else f"{digit}.0.0"
