"""A limit on how many connections to a public socket are held: by each user, and by all together.

Root and the user that this process runs as are not counted: neither gains anything by keeping others out.
"""

import os
from collections import Counter

from pyfix.system.unix import DESCRIPTORS_IN_MESSAGE, descriptor_limit

# What a connection can hold: itself, and messages being served, waiting, and arriving.
_HELD = 1 + 3 * DESCRIPTORS_IN_MESSAGE


class Crowd:
    """Counts connections. All together may hold half of the descriptors that this process may have."""

    def __init__(self, per_uid: int) -> None:
        self._per_uid = per_uid
        self._total = max(descriptor_limit() // (2 * _HELD), 1)
        self._exempt = {0, os.geteuid()}
        self._inside: Counter[int] = Counter()
        self._inside_total = 0
        self._refused: Counter[int] = Counter()

    def enter(self, uid: int) -> bool:
        """Takes a connection; False: it is one too many."""
        if uid in self._exempt:
            return True
        if self._inside[uid] >= self._per_uid or self._inside_total >= self._total:
            self._refused[uid] += 1
            return False
        self._inside[uid] += 1
        self._inside_total += 1
        return True

    def leave(self, uid: int) -> None:
        """Ends a connection that was taken."""
        if uid not in self._exempt:
            self._inside_total -= 1
            self._inside[uid] -= 1
            if not self._inside[uid]:
                del self._inside[uid]

    def refused(self) -> dict[int, int]:
        """How many connections of which users were one too many, since this was last asked."""
        refused, self._refused = self._refused, Counter()
        return refused
