"""When a deferred message is tried again, and when it is given up.

The older a message is, the longer it waits: the delay is its age, between ``minimal_backoff_time`` and
``maximal_backoff_time``, so that it doubles from one attempt to the next.
"""

from msgspec import Struct


class RetrySchedule(Struct, frozen=True):
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
        lifetime = self.maximal_queue_lifetime if sender else self.bounce_queue_lifetime
        return now - arrival >= lifetime
