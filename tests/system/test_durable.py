import errno
import fcntl
import os
import stat

import pytest

from pyfix.system import durable
from pyfix.system.durable import DurableFile, NoSpace, WriteError

NAME = "file"


@pytest.fixture
def directory(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def _failing(error, calls=None):
    def fail(*_args, **_kwargs):
        if calls is not None:
            calls.append(error)
        raise OSError(error, os.strerror(error))

    return fail


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_under_construction_is_invisible_and_locked(directory, tmp_path):
    file = DurableFile(NAME, directory)
    file.write(b"abc")

    other = os.open(tmp_path / NAME, os.O_RDONLY)
    assert _mode(tmp_path / NAME) == 0o600
    assert durable.is_locked(other)
    os.close(other)
    file.abort()


def test_commit_makes_the_file_visible_whole_and_free(directory, tmp_path):
    file = DurableFile(NAME, directory)
    file.write(b"Xbc")
    file.write(memoryview(b"def"))
    file.overwrite(0, b"a")
    file.commit()

    assert (tmp_path / NAME).read_bytes() == b"abcdef"
    assert file.size == 6
    assert _mode(tmp_path / NAME) == 0o700
    other = os.open(tmp_path / NAME, os.O_RDONLY)
    assert not durable.is_locked(other)
    os.close(other)


@pytest.mark.parametrize("kind", ["file", "addition"])
def test_what_is_committed_is_free_even_if_the_kernel_is_not_done_with_it(directory, tmp_path, kind):
    """A sync of the kernel's own holds the open file, as a duplicate does, until after it has told of its end."""
    file = DurableFile(NAME, directory) if kind == "file" else durable.Addition(NAME, b"one", directory)
    in_hand = os.dup(file.seal())
    file.settle(None)
    other = os.open(tmp_path / NAME, os.O_RDONLY)
    assert not durable.is_locked(other)
    os.close(other)
    os.close(in_hand)


def test_commit_changes_the_mode_before_the_one_fsync_and_closes_last(directory, monkeypatch):
    """Visible before the fsync: a durable but invisible file would be removed at the next start."""
    calls = []
    for name in ("fchmod", "fsync", "close"):
        real = getattr(os, name)
        monkeypatch.setattr(durable.os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    file = DurableFile(NAME, directory)
    file.write(b"abc")
    calls.clear()
    file.commit()

    assert calls == ["fchmod", "fsync", "close"]


def test_abort_removes_the_file_and_commit_makes_abort_harmless(directory, tmp_path):
    with DurableFile(NAME, directory):
        assert (tmp_path / NAME).exists()
    assert not (tmp_path / NAME).exists()

    with DurableFile(NAME, directory) as file:
        file.commit()
    assert (tmp_path / NAME).exists()


def test_a_taken_name_is_refused_and_left_alone(directory, tmp_path):
    (tmp_path / NAME).write_bytes(b"mail")
    with pytest.raises(FileExistsError):
        DurableFile(NAME, directory)
    assert (tmp_path / NAME).read_bytes() == b"mail"


def test_short_writes_are_continued(directory, tmp_path, monkeypatch):
    write, pwrite = os.write, os.pwrite
    monkeypatch.setattr(durable.os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    monkeypatch.setattr(durable.os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data[:3]), at))
    file = DurableFile(NAME, directory)
    file.write(b"0123456789")
    file.overwrite(2, b"abcdefg")
    file.commit()
    assert (tmp_path / NAME).read_bytes() == b"01abcdefg9"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, WriteError), (errno.EROFS, WriteError)],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("call", ["write", "pwrite", "fchmod", "fsync", "flock"])
def test_a_failed_call_removes_the_file_and_is_not_repeated(directory, tmp_path, monkeypatch, call, error, kind):
    calls = []
    file = DurableFile(NAME, directory)
    monkeypatch.setattr(durable.fcntl if call == "flock" else durable.os, call, _failing(error, calls))
    with pytest.raises(WriteError) as caught:
        file.write(b"abc")
        file.overwrite(0, b"X")
        file.commit()

    assert type(caught.value) is kind
    assert caught.value.errno == error
    assert calls == [error]
    assert not (tmp_path / NAME).exists()
    file.abort()


def test_a_failed_close_removes_the_file(directory, tmp_path, monkeypatch):
    """NFS reports a full disk at close."""
    file = DurableFile(NAME, directory)
    file.write(b"abc")
    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "close", _failing(errno.EDQUOT))
        with pytest.raises(NoSpace):
            file.commit()
    assert not (tmp_path / NAME).exists()


def test_a_full_disk_refuses_the_file_itself(directory, monkeypatch):
    monkeypatch.setattr(durable.os, "open", _failing(errno.ENOSPC))
    with pytest.raises(NoSpace):
        DurableFile(NAME, directory)


def test_a_file_that_repair_took_between_open_and_lock_is_made_again(directory, tmp_path, monkeypatch):
    """A queue manager that starts under load costs no client an error."""
    flock = fcntl.flock
    takes = [1, 1]

    def repair_first(fd, how):
        if takes:
            takes.pop()
            (tmp_path / NAME).unlink()
        flock(fd, how)

    monkeypatch.setattr(durable.fcntl, "flock", repair_first)
    before = len(os.listdir("/proc/self/fd"))
    file = DurableFile(NAME, directory)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    file.write(b"mail")
    file.commit()
    assert (tmp_path / NAME).read_bytes() == b"mail"


def _leave_behind(path, mode=0o600):
    path.write_bytes(b"half")
    path.chmod(mode)
    os.utime(path, (1000, 1000))


def test_a_leftover_is_removed(directory, tmp_path):
    _leave_behind(tmp_path / NAME)
    assert durable.remove_leftover(NAME, 2000, directory)
    assert not (tmp_path / NAME).exists()
    assert not durable.remove_leftover(NAME, 2000, directory)


def test_what_is_mail_is_no_leftover(directory, tmp_path):
    _leave_behind(tmp_path / NAME, 0o700)
    assert not durable.remove_leftover(NAME, 2000, directory)
    assert (tmp_path / NAME).exists()


def test_what_was_written_since_is_no_leftover(directory, tmp_path):
    _leave_behind(tmp_path / NAME)
    assert not durable.remove_leftover(NAME, 1000, directory)
    assert (tmp_path / NAME).exists()


def test_what_is_being_written_is_no_leftover(directory, tmp_path):
    with DurableFile(NAME, directory) as file:
        os.utime(tmp_path / NAME, (1000, 1000))
        assert not durable.remove_leftover(NAME, 2000, directory)
        file.write(b"mail")
        file.commit()
    assert (tmp_path / NAME).read_bytes() == b"mail"


def test_append_adds_and_makes_the_file(directory, tmp_path):
    durable.Addition(NAME, b"one\n", directory).commit()
    durable.Addition(NAME, b"two\n", directory).commit()
    assert (tmp_path / NAME).read_bytes() == b"one\ntwo\n"
    assert _mode(tmp_path / NAME) == 0o600


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failed_append_leaves_the_file_as_it_was(directory, tmp_path, monkeypatch, call):
    durable.Addition(NAME, b"one\n", directory).commit()
    with monkeypatch.context() as patch:
        patch.setattr(durable.os, call, _failing(errno.ENOSPC))
        with pytest.raises(NoSpace):
            durable.Addition(NAME, b"two\n", directory).commit()
    assert (tmp_path / NAME).read_bytes() == b"one\n"


def test_append_syncs_before_it_returns(directory, monkeypatch):
    calls = []
    write, fsync = os.write, os.fsync
    monkeypatch.setattr(durable.os, "write", lambda *a: (calls.append("write"), write(*a))[1])
    monkeypatch.setattr(durable.os, "fsync", lambda *a: (calls.append("fsync"), fsync(*a))[1])
    durable.Addition(NAME, b"one\n", directory).commit()
    assert calls == ["write", "fsync"]


def test_append_follows_no_symbolic_link(directory, tmp_path):
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / NAME).symlink_to("target")
    with pytest.raises(WriteError):
        durable.Addition(NAME, b"one\n", directory).commit()
    assert (tmp_path / "target").read_bytes() == b""


def test_move_and_sync(directory, tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    durable.move("a", "b", directory)
    durable.sync_directory(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    with pytest.raises(FileNotFoundError):
        durable.move("a", "b", directory)
    with pytest.raises(WriteError):
        durable.sync_directory(tmp_path / "none")


@pytest.mark.parametrize("can", [True, False])
def test_a_new_name_replaces_nothing(tmp_path, monkeypatch, can):
    def refuse(*_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    if not can:
        monkeypatch.setattr(durable.kernel, "rename_new", refuse)
    for name in ("a", "taken"):
        (tmp_path / name).write_text(name)
    durable.name_new(str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(FileExistsError):
        durable.name_new(str(tmp_path / "b"), str(tmp_path / "taken"))
    with pytest.raises(FileNotFoundError):
        durable.name_new(str(tmp_path / "none"), str(tmp_path / "c"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "a", "taken": "taken"}


def test_a_name_that_cannot_be_given_is_trouble(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "file").write_text("b")
    with pytest.raises(WriteError):
        durable.name_new(str(tmp_path / "a"), str(tmp_path / "file/b"))
    assert (tmp_path / "a").read_text() == "a"
