"""What the kernel can do with files, beyond what Python's os module has.

:class:`KernelSync` is fsync(2) of many files at a time, made by the kernel while this process goes on: Linux AIO.
Threads can do it as well, but each call of a Python thread hands the interpreter over twice, which costs more than what
is done. What is under way at one time the kernel commits together: twenty files cost little more than one. Not every
system has it: kernels before 4.18, containers that forbid it, other architectures.

Source: io_setup(2), io_submit(2), io_getevents(2), linux/aio_abi.h; sync_file_range(2); renameat2(2); statfs(2).
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable
from contextlib import suppress

# io_setup, io_destroy, io_getevents, io_submit, for processes of 64 bits.
_GENERIC = (0, 1, 4, 2)
_NUMBERS = {
    "aarch64": _GENERIC,
    "loongarch64": _GENERIC,
    "ppc64le": (227, 228, 229, 230),
    "riscv64": _GENERIC,
    "s390x": (243, 244, 245, 246),
    "x86_64": (206, 207, 208, 209),
}
# struct iocb: data, key, flags, opcode, priority, descriptor, buffer, length, offset, reserved, flags, eventfd
_REQUEST = struct.Struct("=QIIHhIQQqQII")
# struct io_event: data, request, result, second result
_EVENT = struct.Struct("=QQqq")
_FSYNC, _TELL_EVENTFD = 2, 1
# SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER
_WRITE_AND_WAIT = 7
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1

EXT, XFS = 0xEF53, 0x58465342
"""Kinds of file systems: ext2 to ext4; xfs."""

# more than struct statfs takes
_STATFS_SIZE = 512

_libc = ctypes.CDLL(None, use_errno=True)


def file_system(descriptor: int) -> int:
    """The kind of the file system that an open file lies in: statfs(2) lists them. Raises OSError."""
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    if _libc.fstatfs(descriptor, buffer):
        raise _last_error()
    return ctypes.c_long.from_buffer(buffer).value


def push(descriptor: int) -> None:
    """Hands all bytes of a file to the disk and waits until it has them, if perhaps in its cache. Raises OSError.

    In file systems that lie upon others it does nothing.
    """
    every, end = ctypes.c_int64(0), ctypes.c_int64(0)
    if _libc.sync_file_range(descriptor, every, end, _WRITE_AND_WAIT):
        raise _last_error()


def rename_new(source: str, target: str) -> None:
    """Renames, never replacing what stands at ``target``. Raises OSError: FileExistsError, EINVAL if it cannot."""
    names = os.fsencode(source), os.fsencode(target)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE):
        raise _last_error()


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class KernelSync:
    """Syncs under way, at most ``room``. The caller's tag tells them apart. ``fileno`` can be read when one has ended.

    Raises OSError where the kernel or a sandbox does not have it.
    """

    def __init__(self, room: int) -> None:
        numbers = _NUMBERS.get(platform.machine())
        if numbers is None or ctypes.sizeof(ctypes.c_void_p) != 8:  # bytes
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        setup, self._destroy, self._get_events, self._submit = numbers
        self.room = room
        self._syscall = _libc.syscall
        self._syscall.argtypes = (ctypes.c_long,) * 6
        self._syscall.restype = ctypes.c_long
        self._requests = ctypes.create_string_buffer(room * _REQUEST.size)
        first = ctypes.addressof(self._requests)
        self._pointers = (ctypes.c_void_p * room)(*range(first, first + room * _REQUEST.size, _REQUEST.size))
        self._events = ctypes.create_string_buffer(room * _EVENT.size)
        context = ctypes.c_ulong(0)
        self._call(setup, room, ctypes.addressof(context))
        self._context = context.value
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def _call(self, number: int, *arguments: int) -> int:
        result: int = self._syscall(number, *arguments, *(0,) * (5 - len(arguments)))
        if result < 0:
            raise _last_error()
        return result

    def fileno(self) -> int:
        """A descriptor that is readable when a sync has ended."""
        return self._eventfd

    def begin(self, syncs: Iterable[tuple[int, int]]) -> int:
        """Begins to sync files, given as pairs of descriptor and tag: how many of them, the first ones.

        No more than ``room`` may be under way. A descriptor that is closed meanwhile does no harm. Raises OSError, and
        then none has begun.
        """
        count = 0
        for descriptor, tag in syncs:
            _REQUEST.pack_into(
                self._requests, count * _REQUEST.size,
                tag, 0, 0, _FSYNC, 0, descriptor, 0, 0, 0, 0, _TELL_EVENTFD, self._eventfd,
            )  # fmt: skip
            count += 1
        return self._call(self._submit, self._context, count, ctypes.addressof(self._pointers))

    def ended(self, at_least: int = 0) -> list[tuple[int, int]]:
        """The syncs that have ended since the last call: their tags, each with 0 or an error's number.

        Waits for ``at_least`` so many. Raises OSError.
        """
        with suppress(BlockingIOError):  # none has ended yet
            os.eventfd_read(self._eventfd)
        buffer, count = ctypes.addressof(self._events), -1
        while count < 0:
            with suppress(InterruptedError):
                count = self._call(self._get_events, self._context, at_least, self.room, buffer, 0)
        data = memoryview(self._events)[: count * _EVENT.size]
        return [(tag, -result) for tag, _, result, _ in _EVENT.iter_unpack(data)]

    def close(self) -> None:
        """Waits for what is under way, and ends."""
        self._call(self._destroy, self._context)
        os.close(self._eventfd)
