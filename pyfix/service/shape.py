"""The queue's shape: how many recipients, or messages, each domain has in the queue, and how old they are.

The ages are told by buckets; each is twice as wide as the one before it, or as wide. The picture is that of Postfix's
qshape(1).
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

TOTAL = b"TOTAL"

NAME_WIDTH = 18
"""What a domain's name gets at least, however narrow the terminal."""


class Ages(NamedTuple):
    """How ages are told apart."""

    # how many buckets; the last has no end
    buckets: int = 10
    # the end of the first, in minutes
    minutes: float = 5
    # all are as wide as the first
    linear: bool = False

    def bucket(self, seconds: float) -> int:
        """Which bucket an age belongs to, from 1 on; what comes from the future belongs to the first."""
        relative = seconds / (60 * self.minutes)
        if relative < 1:
            return 1
        number = int(relative + 1) if self.linear else 2 + int(math.log(relative) / math.log(2))
        return min(number, self.buckets)

    def heads(self) -> list[bytes]:
        """The buckets' ends in minutes: ``5``, ``10``, ``20``, ``20+``."""
        end: float = 0
        heads = []
        for _ in range(self.buckets - 1):
            end += end if end and not self.linear else self.minutes
            heads.append(_number(end))
        return [*heads, _number(end) + b"+"]


class Row(NamedTuple):
    """A domain's line."""

    domain: bytes
    # the sum of all buckets, then the buckets
    counts: list[int]


class Shape:
    """Counts for each domain; with ``parents`` also for those above it, ``.example.com``, but for the highest.

    Memory grows with the number of domains, not with that of messages.
    """

    __slots__ = ("_ages", "_children", "_parents", "_rows")

    def __init__(self, ages: Ages, *, parents: bool = False) -> None:
        self._ages = ages
        self._parents = parents
        self._rows: dict[bytes, list[int]] = {TOTAL: [0] * (ages.buckets + 1)}
        self._children: dict[bytes, int] = {}

    def add(self, domains: Iterable[tuple[bytes, int]], age: float) -> None:
        """Counts a message of that age in seconds: its domains, and how many recipients are in each."""
        bucket = self._ages.bucket(age)
        total = self._rows[TOTAL]
        for domain, number in domains:
            total[0] += number
            total[bucket] += number
            known = self._count(domain, bucket, number)
            if self._parents:
                self._count_parents(domain, bucket, number, known=known)

    def _count(self, domain: bytes, bucket: int, number: int) -> bool:
        """Whether the domain was known before."""
        row = self._rows.get(domain)
        known = row is not None
        if row is None:
            row = self._rows[domain] = [0] * (self._ages.buckets + 1)
        row[0] += number
        row[bucket] += number
        return known

    def _count_parents(self, domain: bytes, bucket: int, number: int, *, known: bool) -> None:
        while parent := _parent(domain):
            if not known:
                self._children[parent] = self._children.get(parent, 0) + 1
            known = self._count(parent, bucket, number)
            domain = parent

    def rows(self, min_children: int = 5) -> Iterator[Row]:
        """The lines, those with the greatest sums first; parents with fewer children are left out."""
        order = sorted(self._rows.items(), key=lambda row: (-row[1][0], len(row[0]), row[0] != TOTAL, row[0]))
        for domain, counts in order:
            if not domain.startswith(b".") or self._children.get(domain, 0) >= min_children:
                yield Row(domain, counts)

    def lines(self, width: int = 80, min_children: int = 5, limit: int = 0) -> Iterator[bytes]:
        """The picture as Postfix's qshape draws it, without line ends; at most ``limit`` rows, 0: all.

        It is wider than ``width`` where the counts leave too little to the names.
        """
        heads = [b"T", *self._ages.heads()]
        total = self._rows[TOTAL]
        widths = [_cell_width(head, number) for head, number in zip(heads, total, strict=True)]
        name_width = max(width - sum(widths), NAME_WIDTH)
        yield _line(b"", heads, name_width, widths)
        for shown, (domain, counts) in enumerate(self.rows(min_children)):
            if limit and shown == limit:
                return
            yield _line(domain, [b"%d" % number for number in counts], name_width, widths)


def _parent(domain: bytes) -> bytes:
    """The domain above, with a leading dot; empty where that is one without a dot in it."""
    label, _, above = domain.removeprefix(b".").partition(b".")
    return b"." + above if label and b"." in above else b""


def _number(value: float) -> bytes:
    if isinstance(value, int) and value < 1 << 64:
        return b"%d" % value
    return b"%.15g" % value


def _cell_width(head: bytes, total: int) -> int:
    return max(len(head) + 1, len(str(total)) + 1, 3)


def _line(domain: bytes, cells: Iterable[bytes], name_width: int, widths: Iterable[int]) -> bytes:
    return name_cell(domain, name_width) + b"".join(cell.rjust(w) for cell, w in zip(cells, widths, strict=True))


def name_cell(domain: bytes, width: int) -> bytes:
    """The domain on the right of so many columns, or as much of its end as they hold."""
    if len(domain) > width:
        mark = b".+" if domain.startswith(b".") else b"+"
        domain = mark + domain[len(domain) - width + len(mark) :]
    return domain.rjust(width)


def level(count: int, greatest: int, levels: int) -> int:
    """How strong a count is drawn: 0 for none, else 1 to ``levels``, each for about the same factor of counts."""
    if count <= 0:
        return 0
    return 1 + min(int(levels * math.log(count) / math.log(greatest + 1)), levels - 1)


def legend(greatest: int, levels: int) -> dict[int, int]:
    """The least count of each level that a count from 1 to ``greatest`` may have."""
    least: dict[int, int] = {}
    count = 1
    while count <= greatest:
        here = level(count, greatest, levels)
        least[here] = count
        # Not one by one: about where the next level begins, and a step back.
        count = max(count + 1, int((greatest + 1) ** (here / levels)) - 1)
        while count <= greatest and level(count, greatest, levels) == here:
            count += 1
    return least
