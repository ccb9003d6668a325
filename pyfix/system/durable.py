"""Every system call on which "accepted" rests: create, write, make visible, fsync, rename, append.

Nothing outside this module may call fsync or rename on mail, but for pyfix.system.flusher, which makes the sync
in the middle of a commit for many files at a time. So the promise of the mail system can be read in one place, and a
test can break it in one place.

What each function guarantees after it returned, and why:

=====================  ===============================================================================================
DurableFile.commit     the bytes, the mode and the name survive a power cut. The file is made in place, under its final
                       name; fchmod comes before the one fsync. ext4 and xfs commit a new inode in the transaction that
                       also holds its directory entry, and btrfs logs a new inode together with its name: no directory
                       needs an fsync of its own. (Rename into place would need one, and costs two flushes more.)
seal, sync, settle     commit in three steps, the second of which others may make (pyfix.system.flusher).
DurableFile.abort      the file is gone, or it is invisible (mode 0600) and start-up repair removes it.
Addition.commit        the bytes survive a power cut, or the file is as long as before.
append_chunks          the same, for a mailbox that the caller has opened and locked.
write_chunks           nothing yet.
move                   the file has the old name or the new one, whole, whenever the power fails: rename is atomic.
                       Which one is open until something else is flushed; callers must be right with both.
name_new               as move; what stands at the new name stays. Where a file system cannot, a file that is whole may
                       have both names.
push                   the disk has all bytes, if perhaps in its cache: if anything written later survives, they do. An
                       fsync in other file systems than ext4 and xfs.
sync_with_directory    a file, all its bytes, and every name made or removed in a directory before the call survive a
                       power cut. Needed where another file system must first hold what this one is about to forget
                       (Maildir: push, name_new in new/, sync_with_directory). The name never stands for less than all
                       bytes: no journal entry that tells of it overtakes them, because file systems have the disk
                       empty its cache before they commit one. So one commit serves for both.
sync_directory         every name made or removed in the directory before the call survives a power cut.
=====================  ===============================================================================================

A failed write or fsync condemns the file: it is removed and the error is raised. It is never tried again on the same
descriptor, because Linux reports a lost page once only and then calls it clean.

A file under construction is locked with flock(2) from its creation to its end, so that repair can tell it from a
left-over. The kernel drops the lock with the process.
"""

import contextlib
import errno
import fcntl
import functools
import os
import stat
from collections.abc import Iterable, Iterator
from typing import NoReturn, Self

from pyfix.system import kernel

__all__ = [
    "Addition",
    "DurableFile",
    "NoSpace",
    "WriteError",
    "append_chunks",
    "fail",
    "is_locked",
    "move",
    "name_new",
    "push",
    "remove_leftover",
    "sync_directory",
    "sync_with_directory",
    "write_chunks",
]

Data = bytes | bytearray | memoryview

_VISIBLE = 0o700
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What a system call answers that kernel or file system do not have, or a sandbox does not allow.
_FORBIDDEN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
# Here bytes that the disk has are in the file, even if the power fails, before any name that it is given later.
_ORDERLY = frozenset({kernel.EXT, kernel.XFS})


class WriteError(OSError):
    """Storing failed (EIO, EFBIG, EROFS ...); what was begun is gone, or cannot be taken for mail."""


class NoSpace(WriteError):
    """The file system, its inodes or the quota are used up: ENOSPC or EDQUOT."""


def fail(error: OSError, name: str) -> NoReturn:
    """Raise the WriteError that an OSError on the file ``name`` amounts to."""
    kind = NoSpace if error.errno in _FULL else WriteError
    raise kind(error.errno, error.strerror, name) from error


def _write_all(descriptor: int, data: Data) -> None:
    written = os.write(descriptor, data)
    if written != len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.write(descriptor, view[written:])


class DurableFile:
    """A file under construction: new, mode 0600, locked, unknown to the rest of the mail system until commit.

    ``name`` is relative to ``directory``, a directory's descriptor, or to the working directory. Raises
    FileExistsError if the name is taken, FileNotFoundError if its directory is missing, else WriteError and NoSpace.
    Not for use by two threads at once.
    """

    __slots__ = ("_descriptor", "directory", "name", "size")

    def __init__(self, name: str, directory: int | None = None) -> None:
        self.name = name
        self.directory = directory
        # bytes written so far
        self.size = 0
        self._descriptor = -1
        while not self._claim():
            pass

    def _claim(self) -> bool:
        """Make the file and lock it; false if a repair came between the two and took the empty file for a left-over."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self.name, flags, 0o600, dir_fd=self.directory)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError as error:
            fail(error, self.name)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            claimed = os.fstat(self._descriptor).st_nlink > 0
        except OSError as error:
            self._condemn(error)
        if not claimed:
            os.close(self._descriptor)
            self._descriptor = -1
        return claimed

    def fileno(self) -> int:
        """The descriptor, open for reading and writing; -1 after commit and abort."""
        return self._descriptor

    def write(self, data: Data) -> None:
        """Add all of ``data``; on error the file is removed."""
        try:
            _write_all(self._descriptor, data)
        except OSError as error:
            self._condemn(error)
        self.size += len(data)

    def overwrite(self, offset: int, data: Data) -> None:
        """Replace bytes written before; on error the file is removed."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                offset, view = offset + written, view[written:]
        except OSError as error:
            self._condemn(error)

    def commit(self) -> None:
        """Make the file durable, with its name, and visible, and close it; on error it is removed."""
        _commit(self)

    def seal(self) -> int:
        """Make the file visible: the descriptor, which is to be synced next; on error the file is removed.

        The mode must change before the fsync: a file that is durable but invisible is removed by start-up repair.
        """
        try:
            os.fchmod(self._descriptor, _VISIBLE)
        except OSError as error:
            self._condemn(error)
        return self._descriptor

    def settle(self, error: OSError | None) -> None:
        """Close the file, whose sync has ended, with this error or without; on error it is removed."""
        if error is not None:
            self._condemn(error)
        descriptor, self._descriptor = self._descriptor, -1
        try:
            _close_locked(descriptor)
        except OSError as trouble:
            self._unlink()
            fail(trouble, self.name)

    def abort(self) -> None:
        """Remove the file, whatever state it is in; nothing after commit."""
        if self._descriptor >= 0:
            self._unlink()
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _unlink(self) -> None:
        # What cannot be unlinked (a read-only file system) is still invisible, and repair's business.
        with contextlib.suppress(OSError):
            os.unlink(self.name, dir_fd=self.directory)

    def _condemn(self, error: OSError) -> NoReturn:
        self.abort()
        fail(error, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


class Addition:
    """Bytes at the end of a file, which is made (mode 0600) if there is none; durable after commit.

    Raises WriteError and NoSpace; on error, also at commit, the file is cut back to its length before. Until then it is
    locked: others who add to it wait.
    """

    __slots__ = ("_before", "_descriptor", "_name")

    def __init__(self, name: str, data: Data, directory: int | None = None) -> None:
        self._name = name
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(name, flags, 0o600, dir_fd=directory)
        except OSError as error:
            fail(error, name)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self._before = os.fstat(self._descriptor).st_size
        except OSError as error:
            os.close(self._descriptor)
            fail(error, name)
        try:
            _write_all(self._descriptor, data)
        except OSError as error:
            self.settle(error)

    def commit(self) -> None:
        """Make the addition durable."""
        _commit(self)

    def seal(self) -> int:
        """The descriptor, which is to be synced next."""
        return self._descriptor

    def settle(self, error: OSError | None) -> None:
        """Close the file, whose sync has ended, with this error or without."""
        try:
            if error is not None:
                # What cannot be taken back may be torn: readers pass over that.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._before)
                fail(error, self._name)
        finally:
            _close_locked(self._descriptor)


def _close_locked(descriptor: int) -> None:
    """Close a locked file, of which the kernel may still have a sync in hand for some milliseconds after it is done.

    That would keep the lock; the queue manager would leave the message alone, and nobody would tell it again.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _commit(file: DurableFile | Addition) -> None:
    """Seal, sync, settle."""
    descriptor, error = file.seal(), None
    try:
        os.fsync(descriptor)
    except OSError as trouble:
        error = trouble
    file.settle(error)


def write_chunks(descriptor: int, chunks: Iterable[Data], size_limit: int) -> None:
    """Add chunks to the end of a file that is open with O_APPEND.

    ``size_limit`` is for the whole file, 0 for none; more than that is an EFBIG. Raises WriteError, NoSpace, and what
    the iterator raises.
    """
    size = os.fstat(descriptor).st_size
    for chunk in chunks:
        size += len(chunk)
        if 0 < size_limit < size:
            fail(OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "")
        try:
            _write_all(descriptor, chunk)
        except OSError as error:
            fail(error, "")


def append_chunks(descriptor: int, chunks: Iterable[Data], size_limit: int) -> None:
    """As write_chunks, durably, for a file that is locked: on any error it is cut back to its length before."""
    before = os.fstat(descriptor).st_size
    try:
        write_chunks(descriptor, chunks, size_limit)
        try:
            os.fsync(descriptor)
        except OSError as error:
            fail(error, "")
    except BaseException:
        os.ftruncate(descriptor, before)
        raise


def move(source: str, target: str, directory: int | None = None) -> None:
    """Rename, replacing what stands at ``target``. Raises FileNotFoundError, WriteError, NoSpace."""
    try:
        os.rename(source, target, src_dir_fd=directory, dst_dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        fail(error, target)


def name_new(source: str, target: str) -> None:
    """Give a file another name, never clobbering. Raises FileExistsError, FileNotFoundError, WriteError, NoSpace."""
    try:
        try:
            kernel.rename_new(source, target)
        except OSError as error:
            if error.errno not in _FORBIDDEN:
                raise
            os.link(source, target, follow_symlinks=False)
            with contextlib.suppress(OSError):
                os.unlink(source)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        fail(error, target)


def push(descriptor: int) -> None:
    """Hand all bytes of a file to the disk. Raises WriteError, NoSpace."""
    try:
        if kernel.file_system(descriptor) in _ORDERLY:
            kernel.push(descriptor)
        else:
            os.fsync(descriptor)
    except OSError as error:
        fail(error, "")


def sync_with_directory(descriptor: int, directory: str) -> None:
    """Make a file durable, and the names in a directory. Raises WriteError, NoSpace."""
    with _opened_directory(directory) as opened:
        try:
            # The directory first: what others do in it meanwhile would have it wait for the commit after this.
            _sync_together(opened, descriptor)
        except OSError as error:
            fail(error, directory)


def sync_directory(name: str) -> None:
    """Make the names in a directory durable. Raises WriteError, NoSpace."""
    with _opened_directory(name) as opened:
        try:
            os.fsync(opened)
        except OSError as error:
            fail(error, name)


@contextlib.contextmanager
def _opened_directory(name: str) -> Iterator[int]:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        fail(error, name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync_together(*descriptors: int) -> None:
    """fsync of files that one commit may serve: at once where the kernel can, else one after the other."""
    syncs, begun = _syncs(os.getpid()), 0
    if syncs is not None:
        with contextlib.suppress(OSError):
            begun = syncs.begin(zip(descriptors, range(len(descriptors)), strict=True))
        errors: list[int] = []
        while len(errors) < begun:
            errors += [number for _, number in syncs.ended(at_least=begun - len(errors))]
        for number in filter(None, errors):
            raise OSError(number, os.strerror(number))
    for descriptor in descriptors[begun:]:
        os.fsync(descriptor)


@functools.cache
def _syncs(_process: int) -> kernel.KernelSync | None:
    try:
        return kernel.KernelSync(2)
    except OSError:
        return None


def is_locked(descriptor: int) -> bool:
    """Whether someone else is still writing the file (its commit has not returned)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def remove_leftover(name: str, before: float, directory: int | None = None) -> bool:
    """Remove a file that a process began and did not live to commit; whether it was one.

    It is a left-over if it is invisible (no owner's execute bit), last changed before the time ``before``, and locked
    by nobody. The lock is held over the removal, so that no writer can make the file visible in between.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & stat.S_IXUSR or status.st_mtime >= before:
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
