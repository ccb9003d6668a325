"""Dates as mail writes them, RFC 5322 section 3.3, and Message-Ids."""

import time

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def format_date(seconds: int, utc_offset: int, zone: str = "") -> str:
    """``Sun, 22 Nov 2026 11:28:00 -0500 (EST)``, whatever the locale; a day of one digit has a space before it.

    ``seconds`` since the epoch; ``utc_offset`` of the local zone in seconds east; ``zone`` is its name, or empty.
    """
    t = time.gmtime(seconds + utc_offset)
    sign = "-" if utc_offset < 0 else "+"
    hours, minutes = divmod(abs(utc_offset) // 60, 60)
    comment = f" ({zone})" if zone else ""
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:2d} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} {sign}{hours:02d}{minutes:02d}{comment}"
    )


def format_message_id(seconds: int, queue_id: str, hostname: str) -> str:
    """The Message-Id of a message that came without one.

    A long queue ID never comes twice on a host; a short one does, so the time is put before it.
    """
    if "z" in queue_id:
        return f"<{queue_id}@{hostname}>"
    t = time.gmtime(seconds)
    stamp = f"{t.tm_year:04d}{t.tm_mon:02d}{t.tm_mday:02d}{t.tm_hour:02d}{t.tm_min:02d}{t.tm_sec:02d}"
    return f"<{stamp}.{queue_id}@{hostname}>"
