"""Accounts and groups of this machine, and acting as one of them.

A look-up that fails (the directory server is down) is told apart from an account that does not exist: the one defers
mail, the other bounces it. Python's pwd and grp modules report both alike, so the C library is asked directly.

Source: getpwnam_r(3), getgrnam_r(3), seteuid(2).
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

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
    password: str = "x"  # noqa: S105 -- passwd(5)'s mark for one that is kept elsewhere

    @property
    def line(self) -> str:
        """The entry as in passwd(5)."""
        fields = (self.name, self.password, self.uid, self.gid, self.gecos, self.home, self.shell)
        return ":".join(str(field) for field in fields)

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


class _Group(ctypes.Structure):
    _fields_ = (
        ("gr_name", ctypes.c_char_p),
        ("gr_passwd", ctypes.c_char_p),
        ("gr_gid", ctypes.c_uint),
        ("gr_mem", ctypes.POINTER(ctypes.c_char_p)),
    )


_Key = ctypes.c_char_p | ctypes.c_uint
_E = TypeVar("_E", bound=ctypes.Structure)
_T = TypeVar("_T")

_libc = ctypes.CDLL(None, use_errno=True)


def by_name(name: str) -> Account | None:
    """The account of that name, None where there is none. Raises OSError when the database cannot tell."""
    return _account(_libc.getpwnam_r, _key(name))


def by_uid(uid: int) -> Account | None:
    """The account of that number, None where there is none. Raises OSError when the database cannot tell."""
    return _account(_libc.getpwuid_r, ctypes.c_uint(uid))


def group_line(name: str) -> str | None:
    """The entry as in group(5) of the group of that name, None where there is none. Raises OSError as above."""
    return _look_up(_libc.getgrnam_r, _key(name), _Group(), _group_line)


def _account(function: Any, key: _Key | None) -> Account | None:
    return _look_up(function, key, _Passwd(), _account_of)


def _account_of(entry: _Passwd) -> Account:
    texts = (entry.pw_gecos, entry.pw_dir, entry.pw_shell, entry.pw_passwd)
    return Account(_text(entry.pw_name), entry.pw_uid, entry.pw_gid, *map(_text, texts))


def _group_line(entry: _Group) -> str:
    members = takewhile(lambda member: member is not None, entry.gr_mem)
    return f"{_text(entry.gr_name)}:{_text(entry.gr_passwd)}:{entry.gr_gid}:{','.join(map(_text, members))}"


def _text(value: bytes | None) -> str:
    return os.fsdecode(value or b"")


def _key(name: str) -> ctypes.c_char_p | None:
    """A name for the C library; None for what is nobody's."""
    encoded = os.fsencode(name)
    return ctypes.c_char_p(encoded) if encoded and b"\0" not in encoded else None


def _look_up(function: Any, key: _Key | None, entry: _E, convert: Callable[[_E], _T]) -> _T | None:
    """What the C library finds, converted while its texts are still there."""
    if key is None:
        return None
    found = ctypes.c_void_p()
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
    return convert(entry)


def may_act_as(uid: int) -> bool:
    """Whether this process is able to act as that account."""
    return os.geteuid() in (0, uid)


class Actor:
    """Acts as one account after another, with that account's group alone; for processes with one thread.

    A process that did not start as root stays who it is. Work for one account in a row takes one change of identity,
    since none is laid down before another is needed. That is safe:

    * whoever does something for an account says so first, with act_as(), and what is done for none is done after
      be_itself(). There is no third way to an identity, and none is taken on top of another;
    * an identity that was not taken whole is laid down at once; one that cannot be laid down ends the process, which
      must not serve anyone else;
    * the account's user gets no hold on the process while it waits, for its real and its saved user stay root: no
      signal, no ptrace(2), no prlimit(2). (Its priority can be changed, as while it works: setpriority(2).)
    """

    def __init__(self) -> None:
        self._own = (os.geteuid(), os.getegid(), os.getgroups())
        self._acts_as: tuple[int, int] | None = None

    def may_act_as(self, uid: int) -> bool:
        """Whether it is able to act as that account."""
        return self._own[0] in (0, uid)

    def act_as(self, uid: int, gid: int) -> None:
        """Acts as that account from now on. Raises OSError when the identity cannot be taken."""
        if (uid, gid) == self._acts_as:
            return
        self.be_itself()
        if not self.may_act_as(uid):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        if self._own[0] != 0:
            return
        if threading.active_count() != 1:
            names = ", ".join(thread.name for thread in threading.enumerate())
            raise RuntimeError(f"identities change for the whole process: only one thread may run, not {names}")
        self._acts_as = (uid, gid)
        try:
            _take(uid, gid)
        except BaseException:
            self.be_itself()
            raise

    def be_itself(self) -> None:
        """Acts as who it was at first."""
        if self._acts_as is None:
            return
        try:
            _lay_down(*self._own)
        except OSError:
            os._exit(os.EX_OSERR)
        self._acts_as = None


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Acts as an account within the context, as an Actor does. Raises OSError when the identity cannot be taken."""
    actor = Actor()
    try:
        actor.act_as(uid, gid)
        yield
    finally:
        actor.be_itself()


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
