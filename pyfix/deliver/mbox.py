"""The mbox form of a message: ``From sender  date``, lines that begin with ``From `` escaped, a blank line at the end.

Source: Postfix's local(8), MAILBOX DELIVERY; RFC 4155 appendix A.
"""

from collections.abc import Iterable, Iterator

from pyfix.mail.address import quote_address

_MARK = b"\nFrom "
_ESCAPED = b"\n>From "
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def from_line(sender: str, local_time: tuple[int, int, int, int, int, int, int]) -> bytes:
    """The line that begins a message. ``local_time``: year, month, day, hour, minute, second, weekday (Monday is 0)."""
    year, month, day, hour, minute, second, weekday = local_time
    date = f"{_WEEKDAYS[weekday]} {_MONTHS[month - 1]} {day:2d} {hour:02d}:{minute:02d}:{second:02d} {year}"
    return f"From {quote_address(sender) or 'MAILER-DAEMON'}  {date}\n".encode("utf-8", "surrogateescape")


def escape(content: Iterable[bytes]) -> Iterator[bytes]:
    """Content with ``>`` before every ``From `` at the beginning of a line, ended by a whole line and a blank one.

    The chunks may end anywhere.
    """
    # What may be the beginning of the mark is held back. The content begins at the beginning of a line.
    held = b"\n"
    first = True
    for chunk in content:
        text = (held + chunk).replace(_MARK, _ESCAPED)
        keep = next((n for n in range(len(_MARK) - 1, 0, -1) if text.endswith(_MARK[:n])), 0)
        cut = len(text) - keep
        ready, held = text[:cut], text[cut:]
        if first and ready:
            ready, first = ready[1:], False
        if ready:
            yield ready
    rest = held[1:] if first else held
    ends_line = held.endswith(b"\n")
    yield rest + (b"\n" if ends_line else b"\n\n")
