"""Varlink framing: JSON objects, each ended by a NUL byte, and the descriptors that travel with them.

Descriptors arrive with a chunk of the byte stream, not with a message. A sender gives them to the kernel with the first
byte of a message, in a call of its own; the kernel ends a read behind data that carries descriptors. So those
that come with a chunk belong to the message that starts last in it.

Source: varlink.org, "Message format"; unix(7), SCM_RIGHTS.
"""

from collections.abc import Sequence
from typing import NamedTuple


class FramingError(Exception):
    """The peer broke the framing: a message over the limit, or descriptors that belong to no message."""


class Frame(NamedTuple):
    """A message without its NUL, and the descriptors that came with it."""

    data: bytes
    fds: tuple[int, ...]


class Framer:
    """Splits a byte stream into messages of at most ``limit`` bytes."""

    __slots__ = ("_limit", "_tail", "_tail_fds")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tail = b""
        self._tail_fds: tuple[int, ...] = ()

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> list[Frame]:
        """The messages that ``data`` completes. Raises FramingError; the descriptors stay the caller's then."""
        if not self._tail and data.find(b"\0") == len(data) - 1 and len(data) <= self._limit:
            return [Frame(data[:-1], tuple(fds))]
        continued = bool(self._tail)
        *complete, tail = (self._tail + data).split(b"\0")
        if len(tail) > self._limit or any(len(message) > self._limit for message in complete):
            raise FramingError(f"message longer than {self._limit} bytes")
        last_start = len(complete) if tail else len(complete) - 1
        if fds and (last_start < 0 or (last_start == 0 and continued)):
            raise FramingError("descriptors that belong to no message")
        owners: dict[int, tuple[int, ...]] = {last_start: tuple(fds)} if fds else {}
        if self._tail_fds:
            owners[0] = self._tail_fds
        self._tail, self._tail_fds = tail, owners.pop(len(complete), ()) if tail else ()
        return [Frame(message, owners.get(i, ())) for i, message in enumerate(complete)]

    def pending_fds(self) -> tuple[int, ...]:
        """Descriptors of a message that is not complete: the caller's to close when the connection ends."""
        return self._tail_fds
