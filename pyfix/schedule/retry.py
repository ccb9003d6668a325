"""When a deferred message is tried again, and when it is given up.

The older a message is, the longer it waits: the delay is its age, between ``minimal_backoff_time`` and
``maximal_backoff_time``, so that it doubles from one attempt to the next. It is given up after the first attempt at
which it is as old as ``maximal_queue_lifetime``; so 0 means one attempt. Mail from the null sender, notices for the
most part, has ``bounce_queue_lifetime`` in its place, which is no longer. Mail on hold is not tried, and so stays.

Source: Postfix's qmgr(8), postconf(5).
"""

from typing import NamedTuple


class RetrySchedule(NamedTuple):
    """The four parameters that rule retries, in seconds and named as in main.cf."""

    minimal_backoff_time: int
    maximal_backoff_time: int
    maximal_queue_lifetime: int
    bounce_queue_lifetime: int

    def next_attempt(self, arrival: int, now: int) -> int:
        """The time of the next attempt for a message that arrived at ``arrival``; seconds since the epoch."""
        return now + max(self.minimal_backoff_time, min(now - arrival, self.maximal_backoff_time))

    def expired(self, sender: str, arrival: int, now: int) -> bool:
        """Whether a message has been tried for long enough. Asked after an attempt, never before one."""
        lifetime = self.maximal_queue_lifetime
        if not sender:
            lifetime = min(lifetime, self.bounce_queue_lifetime)
        return now - arrival >= lifetime
