"""The clients that are connected to a role which speaks another protocol than Varlink.

One timer serves all of them: most come and go without needing one.
"""

import asyncio
from typing import Protocol

from pyfix.service.role import Role
from pyfix.system.clock import monotonic

# seconds between two looks at who is silent
_TICK = 1.0


class Connected(Protocol):
    """A client's connection."""

    def look_at_clock(self, now: float, timeout: float) -> None:
        """Ends, if the client has been silent for longer than ``timeout``. ``now`` is on the monotonic clock."""

    def stop(self) -> None:
        """Ends as soon as nothing is lost by that."""


class Audience:
    """Who is connected. ``timeout`` is in seconds."""

    def __init__(self, role: Role) -> None:
        self.timeout = float("inf")
        self.stopping = False
        self._role = role
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connected] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        # runs while somebody is connected
        self._clock: asyncio.TimerHandle

    def enter(self, connection: Connected) -> None:
        """A client has come."""
        if not self._connections:
            self._clock = self._loop.call_later(_TICK, self._look)
            self._empty.clear()
        self._connections.add(connection)
        self._role.begin_work()

    def leave(self, connection: Connected) -> None:
        """A client has gone."""
        self._connections.remove(connection)
        self._role.end_work()
        if not self._connections:
            self._clock.cancel()
            self._empty.set()

    def _look(self) -> None:
        self._clock = self._loop.call_later(_TICK, self._look)
        now = monotonic()
        for connection in list(self._connections):
            connection.look_at_clock(now, self.timeout)

    async def drain(self) -> None:
        """Lets all finish, and waits for that. Who comes meanwhile is to be stopped by who lets it in."""
        self.stopping = True
        for connection in list(self._connections):
            connection.stop()
        await self._empty.wait()
