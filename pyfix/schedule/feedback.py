"""How deliveries move the concurrency of a destination, as main.cf says it."""

import re
from typing import Literal

from msgspec import Struct


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
