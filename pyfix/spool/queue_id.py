"""Queue IDs: the name of a message, of its queue file and of its logs.

Long IDs, the ones made here, are Postfix's (enable_long_queue_ids = yes)::

    4jXZ1m 485R z D2qY
    |      |    | unique part, base 51
    |      |    separator
    |      microseconds, base 52, exactly 4 characters
    seconds since the epoch, base 52, at least 6 characters

The digits of base 52 are the decimal digits and the letters without vowels; base 51 lacks the "z". Postfix's unique
part is an inode number; here it holds the process ID and a counter, because the name is given before the file exists.
IDs of one process sort by time.

Short IDs, read but never made here, are five hexadecimal digits of microseconds and an inode number.
"""

import os
import re

_DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_COUNTER_BITS = 6

_LONG = re.compile(r"[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,20}z[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-y]{1,12}")
_ANY = re.compile(rf"{_LONG.pattern}|[0-9A-F]{{6,21}}")


def _encode(value: int, base: int, width: int) -> str:
    digits = ""
    while value:
        value, digit = divmod(value, base)
        digits = _DIGITS[digit] + digits
    return digits.rjust(width, "0")


def _decode(digits: str, base: int) -> int:
    value = 0
    for digit in digits:
        value = value * base + _VALUES[digit]
    return value


class QueueIds:
    """The source of a process's queue IDs; no two processes of a machine give the same one."""

    __slots__ = ("_counter", "_last", "_second", "_unique")

    def __init__(self, pid: int | None = None) -> None:
        # A forked worker must make a source of its own: hence the process ID at construction.
        number = (os.getpid() if pid is None else pid) << _COUNTER_BITS
        self._unique = [_encode(number | counter, 51, 1) for counter in range(1 << _COUNTER_BITS)]
        self._counter = 0
        self._last = 0
        self._second = (-1, "")

    def new(self, now_usec: int) -> str:
        """The next ID, for the time ``now_usec`` (microseconds since the epoch), or a little later if that is used."""
        self._last = now_usec = max(now_usec, self._last + 1)
        self._counter = (self._counter + 1) % (1 << _COUNTER_BITS)
        seconds, microseconds = divmod(now_usec, 1_000_000)
        if seconds != self._second[0]:
            self._second = (seconds, _encode(seconds, 52, 6))
        return f"{self._second[1]}{_encode(microseconds, 52, 4)}z{self._unique[self._counter]}"


def is_queue_id(text: str) -> bool:
    """Whether ``text`` is a long or a short queue ID, and so safe as a file name: letters and digits only, bounded."""
    return _ANY.fullmatch(text) is not None


def is_long(queue_id: str) -> bool:
    """Whether a queue ID is of the long form."""
    return _LONG.fullmatch(queue_id) is not None


def with_inode(queue_id: str, inode: int) -> str:
    """The ID that Postfix gives to a message of the same time in a file of this inode number."""
    if is_long(queue_id):
        return f"{queue_id[: queue_id.rindex('z')]}z{_encode(inode, 51, 1)}"
    return f"{queue_id[:5]}{inode:X}"


def time_of(queue_id: str) -> int:
    """The time in a long ID, microseconds since the epoch. Raises ValueError for anything else."""
    if _LONG.fullmatch(queue_id) is None:
        raise ValueError(f"not a long queue ID: {queue_id[:80]!r}")
    time = queue_id[: queue_id.rindex("z")]
    return _decode(time[:-4], 52) * 1_000_000 + _decode(time[-4:], 52)


def hash_key(queue_id: str) -> str:
    """The characters that name the subdirectories of a hashed queue: five hexadecimal digits of microseconds."""
    if _LONG.fullmatch(queue_id) is None:
        return queue_id
    end = queue_id.rindex("z")
    return f"{_decode(queue_id[end - 4 : end], 52):05X}"
