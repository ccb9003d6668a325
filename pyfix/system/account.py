"""Accounts of this machine, and acting as one of them.

A look-up that fails (the directory server is down) is told apart from an account that does not exist: the one defers
mail, the other bounces it. Python's pwd module reports both alike, so the C library is asked directly.

Source: getpwnam_r(3), seteuid(2).
"""

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

_NOT_FOUND = (0, errno.ENOENT, errno.ESRCH)
_BUFFER_START = 1024
_BUFFER_LIMIT = 1024 * 1024


class Account(NamedTuple):
    """An entry of the user database."""

    name: str
    uid: int
    gid: int
    # whose first part is the full name
    gecos: str
    home: str
    shell: str

    @property
    def full_name(self) -> str:
        """The GECOS field up to its first ``,``, ``(`` or ``%``, with ``&`` standing for the account's name."""
        end = min((i for i in map(self.gecos.find, ",(%") if i >= 0), default=len(self.gecos))
        return self.gecos[:end].replace("&", self.name[:1].upper() + self.name[1:]).strip(" ")


class _Passwd(ctypes.Structure):
    _fields_ = (
        ("pw_name", ctypes.c_char_p),
        ("pw_passwd", ctypes.c_char_p),
        ("pw_uid", ctypes.c_uint),
        ("pw_gid", ctypes.c_uint),
        ("pw_gecos", ctypes.c_char_p),
        ("pw_dir", ctypes.c_char_p),
        ("pw_shell", ctypes.c_char_p),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def by_name(name: str) -> Account | None:
    """The account of that name, None where there is none. Raises OSError when the database cannot tell."""
    encoded = os.fsencode(name)
    if not encoded or b"\0" in encoded:
        return None
    return _look_up(_libc.getpwnam_r, ctypes.c_char_p(encoded))


def by_uid(uid: int) -> Account | None:
    """The account of that number, None where there is none. Raises OSError when the database cannot tell."""
    return _look_up(_libc.getpwuid_r, ctypes.c_uint(uid))


def _look_up(function: Any, key: ctypes.c_char_p | ctypes.c_uint) -> Account | None:
    entry, found = _Passwd(), ctypes.c_void_p()
    size = _BUFFER_START
    while True:
        buffer = ctypes.create_string_buffer(size)
        failed = function(key, ctypes.byref(entry), buffer, ctypes.c_size_t(size), ctypes.byref(found))
        if failed != errno.ERANGE or size >= _BUFFER_LIMIT:
            break
        size *= 4
    if found.value is None:
        if failed in _NOT_FOUND:
            return None
        raise OSError(failed, os.strerror(failed))
    texts = [os.fsdecode(value or b"") for value in (entry.pw_name, entry.pw_gecos, entry.pw_dir, entry.pw_shell)]
    return Account(texts[0], entry.pw_uid, entry.pw_gid, *texts[1:])


def may_act_as(uid: int) -> bool:
    """Whether this process is able to act as that account."""
    return os.geteuid() in (0, uid)


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Acts as an account, with that group alone, within the context; for processes with one thread.

    A process that did not start as root stays who it is. Raises OSError when the identity cannot be taken. An identity
    that cannot be laid down again ends the process: it must not serve anyone else.
    """
    own = (os.geteuid(), os.getegid(), os.getgroups())
    if own[0] != 0:
        if own[0] != uid:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        yield
        return
    if threading.active_count() != 1:
        raise RuntimeError("identities change for the whole process: no other thread may run")
    try:
        _take(uid, gid)
        yield
    finally:
        try:
            _lay_down(*own)
        except OSError:
            os._exit(os.EX_OSERR)


def _take(uid: int, gid: int) -> None:
    os.setgroups([gid])
    os.setegid(gid)
    os.seteuid(uid)
    if (os.geteuid(), os.getegid(), os.getgroups()) != (uid, gid, [gid]):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _lay_down(uid: int, gid: int, groups: list[int]) -> None:
    os.seteuid(uid)
    os.setegid(gid)
    os.setgroups(groups)
    if (os.geteuid(), os.getegid(), os.getgroups()) != (uid, gid, groups):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
