"""The logs of fast flush: how they are named, and what becomes of one that nobody asks for.

Source: Postfix flush(8).
"""

from typing import Literal

from pyfix.net.hostname import ascii_domain
from pyfix.spool.flush_log import LogStatus

Upkeep = Literal["keep", "remove", "refresh"]

_NAME_LIMIT = 255


def log_name(site: str) -> str:
    """The name of a destination's log; "" where it can have none.

    The name is harmless in every file system, and more than one destination may share it, which costs their mail an
    attempt too many.
    """
    name = "".join(c if c.isalnum() else "_" for c in ascii_domain(site).lower())
    return name if len(name) <= _NAME_LIMIT else ""


def upkeep(log: LogStatus, now: float, refresh_time: int, purge_time: int) -> Upkeep:
    """What is due for a log at a time, in seconds since the epoch.

    ``refresh``: its mail is to be tried, so that the log forgets what is not in the queue any more.
    """
    if log.size:
        return "refresh" if log.used + refresh_time < now else "keep"
    return "remove" if log.written + purge_time < now else "keep"
