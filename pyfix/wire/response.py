"""What an SMTP server said: a reply as a client sees it, made fit for logs.

Source: RFC 5321 section 4.2, RFC 2034 and 3463 (status codes).
"""

import re
from typing import NamedTuple

_STATUS = re.compile(r" *([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![^ ])")
_CLASS_WITH_STATUS = "245"


class Response(NamedTuple):
    """A server's reply."""

    code: int
    # as sent, codes included, lines joined by "\n"; unprintable characters are "?"
    text: str

    @property
    def status(self) -> str:
        """RFC 3463 status: what the last line says, if it fits the code; else X.0.0, and 5.5.0 for odd codes.

        A status of another class than the code is ignored, as in Postfix.
        """
        last = self.text.rpartition("\n")[2]
        kind = last[:1]
        if kind not in _CLASS_WITH_STATUS:
            return "5.5.0"
        found = _STATUS.match(last, 4)
        if found and found[1][0] == kind:
            return found[1]
        return f"{kind}.0.0"

    @property
    def line(self) -> str:
        """The reply in one line, for logs."""
        return self.text.replace("\n", " ")


def printable(line: bytes) -> str:
    """A line from a peer, fit for logs: what is not printable, or not UTF-8, is ``?``."""
    text = line.decode("utf-8", "replace")
    if text.isascii() and text.isprintable():
        return text
    return "".join([c if c.isprintable() and c != "\ufffd" else "?" for c in text])
