"""Connections kept open between messages, and whether there is demand for them.

Postfix's queue manager tells its SMTP client when a destination has much mail. Here the agent sees for itself: there is
demand where another delivery to the same destination is under way, or ended no longer ago than connections are kept.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


class ConnectionCache(Generic[S]):
    """Idle sessions, each found under several keys; at most ``limit`` of them, the oldest goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: dict[S, tuple[Hashable, ...]] = {}
        self._sessions: dict[Hashable, dict[S, None]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, session: S, keys: tuple[Hashable, ...]) -> S | None:
        """Keeps a session. Returns one that had to make room, for the caller to end."""
        self._keys[session] = keys
        for key in keys:
            self._sessions.setdefault(key, {})[session] = None
        if len(self._keys) <= self._limit:
            return None
        oldest = next(iter(self._keys))
        self.drop(oldest)
        return oldest

    def take(self, key: Hashable) -> S | None:
        """The session of that key that was used last."""
        sessions = self._sessions.get(key)
        if not sessions:
            return None
        session = next(reversed(sessions))
        self.drop(session)
        return session

    def drop(self, session: S) -> None:
        """Forgets a session; nothing if it is not kept."""
        for key in self._keys.pop(session, ()):
            sessions = self._sessions[key]
            del sessions[session]
            if not sessions:
                del self._sessions[key]

    def clear(self) -> list[S]:
        """Forgets all sessions and returns them."""
        sessions = list(self._keys)
        self._keys.clear()
        self._sessions.clear()
        return sessions


class Demand:
    """Deliveries under way by destination. ``window``: seconds that one counts after its end."""

    _CROWD = 1000

    def __init__(self, window: float) -> None:
        self._window = window
        self._active: dict[str, int] = {}
        self._ended: dict[str, float] = {}

    def begin(self, destination: str) -> None:
        """A delivery begins."""
        self._active[destination] = self._active.get(destination, 0) + 1

    def end(self, destination: str, now: float) -> None:
        """A delivery ends."""
        left = self._active[destination] - 1
        if left:
            self._active[destination] = left
        else:
            del self._active[destination]
        self._ended[destination] = now
        if len(self._ended) > self._CROWD:
            self._ended = {name: when for name, when in self._ended.items() if now - when < self._window}

    def felt(self, destination: str, now: float) -> bool:
        """Whether a delivery that is under way is not the only one of late."""
        if self._active.get(destination, 0) > 1:
            return True
        ended = self._ended.get(destination)
        return ended is not None and now - ended < self._window
