"""lmdb: an indexed file, name.lmdb, as postmap and postalias make it; hash: and btree: name the same thing here.

The file is opened at the first look-up and again whenever another file takes its place. A look-up holds a shared lock
on it, as Postfix's postmap(1) holds an exclusive one while it writes. Keys are stored with or without an ending NUL,
as in Postfix.
"""

import errno
import fcntl
import os

import lmdb

from pyfix.tables.key import fold
from pyfix.tables.table import TableError

SUFFIX = ".lmdb"
_MAX_KEY = 511
"""LMDB has no longer keys."""


class LmdbTable:
    """An LMDB file, read-only."""

    partial = True

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._path = path + SUFFIX
        self._environment: lmdb.Environment | None = None
        self._descriptor = -1
        self._identity = (0, 0)

    def look_up(self, key: str) -> str | None:
        """The key's value."""
        encoded = fold(key).encode("utf-8", "surrogateescape")
        if not encoded or len(encoded) >= _MAX_KEY or b"\0" in encoded:
            return None
        try:
            value = self._read(encoded)
        except lmdb.Error as error:
            raise TableError(self.name, f"{self._path}: {error}") from None
        except OSError as error:
            raise TableError(self.name, f"{self._path}: {error.strerror}") from None
        if value is None:
            return None
        try:
            return value.removesuffix(b"\0").decode()
        except UnicodeDecodeError:
            raise TableError(self.name, f"the value of {key[:80]!r} is not UTF-8") from None

    def close(self) -> None:
        """Forget the open file."""
        if self._environment is not None:
            self._environment.close()
            os.close(self._descriptor)
            self._environment = None

    def _read(self, key: bytes) -> bytes | None:
        environment = self._opened()
        fcntl.lockf(self._descriptor, fcntl.LOCK_SH)
        try:
            with environment.begin() as transaction:
                value: bytes | None = transaction.get(key)
                return transaction.get(key + b"\0") if value is None else value
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def _opened(self) -> "lmdb.Environment":
        status = os.stat(self._path)
        if self._environment is not None:
            if (status.st_dev, status.st_ino) == self._identity:
                return self._environment
            self.close()
        if not status.st_size:
            raise OSError(errno.EINVAL, "empty file")
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # No lock file: it would have to be written beside a table that may be read-only.
            environment = lmdb.open(self._path, subdir=False, readonly=True, lock=False, create=False)
        except BaseException:
            os.close(descriptor)
            raise
        self._environment, self._descriptor = environment, descriptor
        self._identity = (status.st_dev, status.st_ino)
        return environment


def open_table(name: str, argument: str) -> LmdbTable:
    """The table in the file argument.lmdb."""
    return LmdbTable(name, argument)
