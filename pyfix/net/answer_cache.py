"""Answers remembered for as long as they are valid; bounded, the one that was not asked for longest goes first."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class AnswerCache(Generic[V]):
    """At most ``limit`` answers. Times are seconds on a clock that never jumps."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answers: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Hashable, now: float) -> V | None:
        """The answer, if it is known and still valid."""
        found = self._answers.get(key)
        if found is None:
            return None
        if found[0] <= now:
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return found[1]

    def put(self, key: Hashable, answer: V, expires: float) -> None:
        """Remembers an answer until a time."""
        self._answers[key] = (expires, answer)
        self._answers.move_to_end(key)
        if len(self._answers) > self._limit:
            self._answers.popitem(last=False)

    def clear(self) -> None:
        """Forgets everything."""
        self._answers.clear()
