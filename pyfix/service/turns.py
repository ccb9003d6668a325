"""Turns: a public service's limits on what its callers have open at a time.

A user at the limit waits behind that user's own calls, not in front of others.
"""

import asyncio
from collections import Counter


class Turns:
    """Limits how many transactions are open: for each user, and for all together."""

    def __init__(self, per_uid: int, total: int) -> None:
        self._per_uid = per_uid
        self._total = asyncio.Semaphore(total)
        self._uids: dict[int, asyncio.Semaphore] = {}
        self._users: Counter[int] = Counter()
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def take(self, uid: int) -> None:
        """Waits for a turn, which ``give_back`` ends."""
        semaphore = self._uids.setdefault(uid, asyncio.Semaphore(self._per_uid))
        self._users[uid] += 1
        self._quiet.clear()
        try:
            await semaphore.acquire()
            try:
                await self._total.acquire()
            except BaseException:
                semaphore.release()
                raise
        except BaseException:
            self._forget(uid)
            raise

    def give_back(self, uid: int) -> None:
        """Ends a turn."""
        self._total.release()
        self._uids[uid].release()
        self._forget(uid)

    async def all_back(self) -> None:
        """Waits until no turn is taken."""
        await self._quiet.wait()

    def _forget(self, uid: int) -> None:
        self._users[uid] -= 1
        if not self._users[uid]:
            del self._users[uid], self._uids[uid]
        if not self._users:
            self._quiet.set()
