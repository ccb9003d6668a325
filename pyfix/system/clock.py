"""The clocks. Everything below roles gets the time as an argument; roles read it here."""

import time

monotonic = time.monotonic
"""Seconds on a clock that never jumps."""


def now_usec() -> int:
    """The wall clock, microseconds since the epoch."""
    return time.time_ns() // 1000


def utc_offset(seconds: float) -> int:
    """The local zone's offset from UTC at a moment, in seconds east."""
    return time.localtime(seconds).tm_gmtoff


def zone_name(seconds: float) -> str:
    """The local zone's abbreviation at a moment, ``CET``."""
    return time.localtime(seconds).tm_zone


def syslog_time(seconds: float) -> str:
    """The traditional log time stamp, ``Nov 22 15:57:04``, local time, in English whatever the locale."""
    t = time.localtime(seconds)
    return f"{_MONTHS[t.tm_mon - 1]} {t.tm_mday:2d} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


def syslog_seconds(stamp: str, now: float) -> float:
    """The moment of a traditional time stamp, which tells no year: the last such moment before ``now``.

    Raises ValueError. A day of grace is for clocks that differ.
    """
    month, day, clock = _MONTHS.index(stamp[:3]) + 1, int(stamp[4:6]), stamp[7:].split(":")
    hour, minute, second = map(int, clock)
    year = time.localtime(now).tm_year
    moment = time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
    if moment > now + 86400:
        moment = time.mktime((year - 1, month, day, hour, minute, second, 0, 0, -1))
    return moment


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
