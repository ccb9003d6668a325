"""A destination's concurrency: how many deliveries to one next hop run side by side.

The window law:

=====================================  ====================================================================
event                                  effect
=====================================  ====================================================================
the first delivery                     the window is ``initial``
the next hop answered                  the window grows by the positive feedback, up to ``limit``, as long as
                                       it is no more than ``initial`` above what is in flight
the next hop could not be reached      the window shrinks by the negative feedback, not below 1, and the
                                       failed cohorts grow by 1/window
the next hop answered                  the failed cohorts are 0
failed cohorts >= failed_cohort_limit  the destination is dead for ``minimal_backoff_time``
=====================================  ====================================================================

Feedback of less than 1 adds up until it makes 1: the window moves in whole deliveries. Of such feedback the first
negative feedback takes effect at once, the first positive one only when it has added up.

Source: Postfix's SCHEDULER_README, "Concurrency scheduling".
"""

import re
from collections import deque
from typing import Literal

from msgspec import Struct

from pyfix.schedule.message import Entry, Trouble

# Ten times 0.1 is a little less than 1.
_ROUNDING = 1e-6


class Feedback(Struct, frozen=True):
    """How far one event moves the window: ``amount``, or ``amount`` over the window or over its root."""

    amount: float
    per: Literal["", "concurrency", "sqrt_concurrency"] = ""

    def of(self, window: int) -> float:
        """The feedback at that window."""
        if self.per == "concurrency":
            return self.amount / window
        if self.per == "sqrt_concurrency":
            return float(self.amount / window**0.5)
        return self.amount


_FEEDBACK = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?:\s*/\s*((?:sqrt_)?concurrency))?", re.ASCII)


def parse_feedback(text: str) -> Feedback:
    """The value of a ..._feedback parameter: ``1``, ``0.5``, ``1/concurrency``, ``1/sqrt_concurrency``.

    Raises ValueError with the reason. The amount is between 0 and 1.
    """
    match = _FEEDBACK.fullmatch(text)
    if match is None:
        message = f"bad concurrency feedback: {text[:100]!r}"
        raise ValueError(message)
    amount, per = float(match[1]), match[2] or ""
    if amount > 1:
        message = f"concurrency feedback is above 1: {text[:100]!r}"
        raise ValueError(message)
    return Feedback(amount, "concurrency" if per == "concurrency" else "sqrt_concurrency" if per else "")


class Concurrency(Struct, frozen=True):
    """The parameters of the window law for one transport; a limit of 0 is none."""

    initial: int = 5
    limit: int = 20
    positive: Feedback = Feedback(1)
    negative: Feedback = Feedback(1)
    failed_cohort_limit: float = 1


class Destination:
    """Deliveries that share a window: those to one next hop, or to one recipient where a delivery has only one."""

    __slots__ = (
        "_failure",
        "_law",
        "_success",
        "dead_until",
        "failed_cohorts",
        "in_flight",
        "name",
        "queued",
        "trouble",
        "waiting",
        "window",
    )

    def __init__(self, name: str, law: Concurrency) -> None:
        self.name = name
        self._law = law
        self.window = self._initial()
        self.in_flight = 0
        self.waiting: deque[Entry] = deque()
        self.failed_cohorts = 0.0
        # when it may be tried again, on the caller's clock; None while it is alive
        self.dead_until: float | None = None
        # why it is dead
        self.trouble: Trouble | None = None
        # it stands in its transport's rotation
        self.queued = False
        self._success = 0.0
        self._failure = 0.0

    @property
    def ready(self) -> bool:
        """It has a delivery to start and may start it."""
        return bool(self.waiting) and self.in_flight < self.window

    @property
    def idle(self) -> bool:
        """Nothing is waiting, in flight or remembered."""
        return not self.waiting and not self.in_flight and self.dead_until is None

    def answered(self) -> None:
        """A delivery ended, and the next hop was reached."""
        self.failed_cohorts = 0.0
        if self.dead_until is not None:
            self.revive()
            return
        law = self._law
        # A window far above what is in flight would make negative feedback come too late.
        if (law.limit and self.window >= law.limit) or self.window >= self.in_flight + law.initial:
            return
        self._success += law.positive.of(self.window)
        while self._success >= 1 - _ROUNDING:
            self.window += 1
            self._success -= 1
            self._failure = 0.0
        if law.limit:
            self.window = min(self.window, law.limit)

    def unreachable(self, trouble: Trouble, dead_until: float) -> bool:
        """A delivery ended without reaching the next hop; whether the destination is dead by that."""
        if self.dead_until is not None:
            return False
        law = self._law
        self.failed_cohorts += 1 / self.window
        if law.failed_cohort_limit and self.failed_cohorts >= law.failed_cohort_limit:
            self.dead_until = dead_until
            self.trouble = trouble
            return True
        self._failure -= law.negative.of(self.window)
        while self._failure < -_ROUNDING:
            self.window -= 1
            self._success = 0.0
            self._failure += 1
        self.window = max(self.window, 1)
        return False

    def revive(self) -> None:
        """Starts again with the initial window."""
        self.dead_until = self.trouble = None
        self.window = self._initial()
        self._success = self._failure = self.failed_cohorts = 0.0

    def _initial(self) -> int:
        law = self._law
        return max(1, min(law.initial, law.limit) if law.limit else law.initial)
