"""DNS answers as values: their status, its words, and which status counts when several questions were asked."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Status = Literal["ok", "not_found", "no_data", "again", "fail"]

REASONS: dict[str, str] = {
    "ok": "",
    "not_found": "Host not found",
    "no_data": "Host found but no data record of requested type",
    "again": "Host not found, try again",
    "fail": "Non-recoverable error",
}
"""The words for each status: those of every resolver library since BIND 4, which logs and people know."""

# Which status speaks for several: any success, then what may change with time, then the rest.
_RANK = {"ok": 0, "again": 1, "fail": 2, "not_found": 3, "no_data": 3}


class Asked(NamedTuple):
    """A question, and how it ended."""

    name: str
    type: str
    status: Status
    # for a status other than ok
    reason: str = ""

    @property
    def found(self) -> bool:
        """Whether there were records."""
        return self.status == "ok"

    @property
    def absent(self) -> bool:
        """Whether DNS knows for sure that there is no such record."""
        return self.status in {"not_found", "no_data"}

    def text(self) -> str:
        """What went wrong, in Postfix's words."""
        reason = self.reason or REASONS[self.status]
        return f"Host or domain name not found. Name service error for name={self.name} type={self.type}: {reason}"


def decisive(asked: Sequence[Asked]) -> Asked:
    """The question whose end speaks for all; of equals, the last."""
    best = asked[0]
    for one in asked[1:]:
        if _RANK[one.status] <= _RANK[best.status]:
            best = one
    return best
