"""Long texts in lines of moderate length, as notices and reports to postmaster have them."""

import re
from collections.abc import Iterator

_INDENT = "    "
# RFC 5322 section 2.1.1 allows 998 octets in a line; a character of UTF-8 has up to four.
_LONGEST_WORD = 900
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]")


def wrap(text: str, width: int = 79) -> str:
    """A text in lines of at most ``width`` characters, all but the first indented; control characters become spaces.

    A word that is longer has a line of its own, or several if it is longer than a line of mail may be.
    """
    lines: list[str] = []
    line: list[str] = []
    length = -1  # a line's first word has no space before it
    for word in _words(text):
        if line and length + 1 + len(word) > width:
            lines.append(" ".join(line).rstrip(" "))
            line = []
            length = len(_INDENT) - 1
        if word or line:  # no line is made of spaces
            line.append(word)
            length += 1 + len(word)
    lines.append(" ".join(line))
    return f"\n{_INDENT}".join(lines)


def _words(text: str) -> Iterator[str]:
    longest = _LONGEST_WORD if text.isascii() else _LONGEST_WORD // 4
    for word in _CONTROL.sub(" ", text).strip(" ").split(" "):
        for start in range(0, max(len(word), 1), longest):
            yield word[start : start + longest]
