"""A census of the queue: of each message when it arrived, from whom, and for how many recipients in which domains.

Much less is read than for a delivery, and less is asked of the files: whatever Postfix's qshape counts is counted.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pyfix.spool import record
from pyfix.spool.record import CorruptFile, RecordReader

NULL_SENDER = b"MAILER-DAEMON"
"""What stands for the domain of the empty address."""

_DEPTH_LIMIT = 20
_NAME = re.compile(r"[A-Za-z0-9]{6,}")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# A whole message: all for its owner, and nothing but reading for others.
_MODE_BITS, _MODE = stat.S_IRWXU | stat.S_IWGRP | stat.S_IXGRP | stat.S_IWOTH | stat.S_IXOTH, stat.S_IRWXU
_FIRST = (record.SIZE, record.TIME, record.FULL, record.FROM)
_ALL_ATTRIBUTES = record.other_attributes(())
_SECONDS = re.compile(rb"\s*([0-9]{1,18})")
_EDGES = re.compile(rb"\.?(.+?)\.?$")


class Counted(NamedTuple):
    """A message. Domains are in lower case; an address without one counts by its local part."""

    # seconds since the epoch
    arrival: int
    sender_domain: bytes
    # how many recipients are still to be served, by domain; never empty
    domains: dict[bytes, int]


def walk(path: str, on_error: Callable[[OSError], None], directory: int | None = None) -> Iterator[tuple[int, str]]:
    """What may be messages below a directory: the open directory that each is in, and its name, in no order.

    Symbolic links are not followed. ``on_error`` is told of what cannot be looked into. Memory is bounded.
    """
    return _walk(path, directory, on_error, _DEPTH_LIMIT)


def _walk(path: str, above: int | None, on_error: Callable[[OSError], None], levels: int) -> Iterator[tuple[int, str]]:
    try:
        descriptor = os.open(path, _FLAGS | os.O_DIRECTORY, dir_fd=above)
    except FileNotFoundError as error:
        # A subdirectory may go while one looks.
        if levels == _DEPTH_LIMIT:
            on_error(error)
        return
    except OSError as error:
        on_error(error)
        return
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if levels:
                        yield from _walk(entry.name, descriptor, on_error, levels - 1)
                elif _NAME.fullmatch(entry.name):
                    yield descriptor, entry.name
    finally:
        os.close(descriptor)


def count(name: str, directory: int) -> Counted | None:
    """A message; None for what is none, for one that is gone or not whole, and for one without recipients to serve."""
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=directory)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & _MODE_BITS != _MODE:
            return None
        return _read(RecordReader(descriptor), int(status.st_mtime))
    except (CorruptFile, OSError):
        return None
    finally:
        os.close(descriptor)


class _Facts:
    """What is known of a message so far."""

    __slots__ = ("arrival", "domains", "sender")

    def __init__(self, arrival: int | None) -> None:
        self.arrival = arrival
        self.sender: bytes | None = None
        self.domains: dict[bytes, int] = {}

    def collect(self, reader: RecordReader) -> bytes:
        """Reads up to the content or the end, and tells which; empty for the end of the file."""
        domains = self.domains
        for _, kind, data in reader.records(_ALL_ATTRIBUTES):
            if kind == record.RECIPIENT:
                domain = domain_of(data)
                domains[domain] = domains.get(domain, 0) + 1
            elif kind == record.FROM:
                self.sender = data
            elif kind == record.TIME:
                self.arrival = _seconds(data)
            elif kind in (record.MESSAGE, record.END):
                return kind
        return b""


def _read(reader: RecordReader, mtime: int) -> Counted | None:
    """The message that these records are. Where maildrop files tell no time, that of their last change counts."""
    first = reader.read()
    if first is None or first.type not in _FIRST:
        return None
    whole = first.type == record.SIZE
    if not whole:
        reader.seek(0)
    facts = _Facts(None if whole else mtime)
    end = facts.collect(reader)
    if end == record.MESSAGE and facts.sender is not None:
        end = facts.collect(reader) if _pass_content(reader, _seconds(first.data) if whole else None) else b""
    if end != record.END or facts.arrival is None or facts.sender is None or not facts.domains:
        return None
    return Counted(facts.arrival, domain_of(facts.sender), facts.domains)


def _seconds(data: bytes) -> int:
    number = _SECONDS.match(data)
    return int(number[1]) if number else 0


def _pass_content(reader: RecordReader, size: int | None) -> bool:
    """Whether the record X stands behind the content. Its size is known in all queues but maildrop."""
    if size is None:
        while reader.read_text():
            pass
    else:
        reader.seek(reader.offset + size)
    extracted = reader.read()
    return extracted is not None and extracted.type == record.EXTRACTED


def domain_of(address: bytes) -> bytes:
    """The domain as it is counted: what follows the last ``@``, without dots that say nothing."""
    domain = address.lower().rpartition(b"@")[2]
    if b"." in (domain[:1], domain[-1:]) or b".." in domain:
        domain = _EDGES.sub(rb"\1", domain.replace(b"..", b"."), count=1)
    return domain if address else NULL_SENDER
