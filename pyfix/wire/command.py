"""SMTP command lines, split into words as Postfix splits them."""

import re

# A word ends at a blank or behind a colon; brackets and quotes keep both inside. What is not closed goes to the end.
_QUOTED = rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_WORD = re.compile(
    rb"(?:[^\s:<\[\"\\]++"
    rb"|<(?:[^>\"\\]++|\\.|" + _QUOTED + rb")*+(?:>|\\?\Z)"
    rb"|\[(?:[^\]\\]|\\.)*+(?:\]|\\?\Z)"
    rb"|" + _QUOTED + rb"|\\.|\\\Z)++:?|:",
    re.DOTALL,
)
_NONPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPES = {ord("\r"): "\\r", ord("\n"): "\\n", ord("\t"): "\\t", ord("\\"): "\\\\"}


def split_command(line: bytes) -> list[bytes]:
    """The words of a line: ``MAIL FROM:<a@b> SIZE=3`` gives ``MAIL``, ``FROM:``, ``<a@b>``, ``SIZE=3``."""
    return _WORD.findall(line)


def printable(text: str) -> str:
    """The text with a question mark for each character that has no place in a log line or a reply."""
    return _NONPRINTABLE.sub("?", text)


def escape(data: bytes) -> str:
    """Bytes as C writes them, for the log."""
    return "".join(_ESCAPES.get(b) or (chr(b) if 0x20 <= b < 0x7F else f"\\{b:03o}") for b in data)
