"""Maildir and mbox on a real file system."""

import errno
import fcntl
import itertools
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from pyfix.system import durable, mailbox
from pyfix.system.mailbox import Identities, Locks, MailboxError, Mbox, deliver_to_maildir

LOCKS = Locks(("fcntl", "dotlock"), 2, 0, 500)


def no_sleep(_seconds: float) -> None:
    """Time does not matter here."""


def files(path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def broken() -> Iterator[bytes]:
    yield b"begin"
    raise ValueError


def test_maildir_is_made_and_holds_the_message(tmp_path) -> None:
    where = tmp_path / "a" / "Maildir"
    deliver_to_maildir(str(where), "h/o:st", [b"one\n", b"two\n"], 0)
    (name,) = files(where)
    assert re.fullmatch(r"new/\d+\.V[0-9a-f]+I[0-9a-f]+M\d+\.h\\057o\\072st", name)
    assert (where / name).read_bytes() == b"one\ntwo\n"
    assert {p.name: p.stat().st_mode & 0o777 for p in where.iterdir()} == {"new": 0o700, "cur": 0o700, "tmp": 0o700}
    assert (where / name).stat().st_mode & 0o777 == 0o600


def test_every_message_gets_a_name_of_its_own(tmp_path) -> None:
    for _ in range(50):
        deliver_to_maildir(str(tmp_path / "Maildir"), "host", [b"x\n"], 0)
    assert len(files(tmp_path / "Maildir")) == 50


def test_a_message_over_the_limit_leaves_nothing(tmp_path) -> None:
    with pytest.raises(MailboxError) as caught:
        deliver_to_maildir(str(tmp_path / "Maildir"), "host", [b"12345", b"6"], 5)
    assert caught.value.errno == errno.EFBIG
    assert files(tmp_path) == []


def test_a_source_that_fails_leaves_nothing_in_a_maildir(tmp_path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the test's own
        deliver_to_maildir(str(tmp_path / "Maildir"), "host", broken(), 0)
    assert files(tmp_path) == []


@pytest.mark.parametrize("call", ["push", "name_new", "sync_with_directory"])
def test_an_error_after_writing_leaves_nothing(tmp_path, monkeypatch, call) -> None:
    where = tmp_path / "Maildir"
    deliver_to_maildir(str(where), "host", [b"first\n"], 0)
    before = files(where)

    def fail(*_args: object) -> None:
        raise durable.NoSpace(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, call, fail)
    with pytest.raises(MailboxError) as caught:
        deliver_to_maildir(str(where), "host", [b"second\n"], 0)
    assert caught.value.errno == errno.ENOSPC
    assert before == files(where)


@pytest.mark.parametrize("kernel", ["syncs", "does not sync", "fails to begin"])
@pytest.mark.parametrize("orderly", [True, False])
def test_the_disk_has_the_file_before_it_is_in_new_and_file_and_new_are_synced_after_it(
    tmp_path, monkeypatch, kernel: str, orderly: bool
) -> None:
    if kernel == "syncs" and durable._syncs(os.getpid()) is None:
        pytest.skip("this kernel does not sync on its own")
    deliver_to_maildir(str(tmp_path / "Maildir"), "host", [b"x\n"], 0)
    steps: list[str] = []
    fsync, push, rename_new = os.fsync, durable.kernel.push, durable.kernel.rename_new

    def name(fd: int) -> str:
        return pathlib.Path(os.readlink(f"/proc/self/fd/{fd}")).parent.name

    class Kernel:
        def begin(self, syncs: Iterable[tuple[int, int]]) -> int:
            if kernel != "syncs":
                raise OSError(errno.EAGAIN, "busy")
            self.tags = [(steps.append(f"sync {name(fd)}"), tag)[1] for fd, tag in syncs]
            return len(self.tags)

        def ended(self, at_least: int) -> list[tuple[int, int]]:
            assert at_least == len(self.tags)
            return [(self.tags.pop(), 0)]

    monkeypatch.setattr(durable, "_syncs", lambda _pid: None if kernel == "does not sync" else Kernel())
    monkeypatch.setattr(durable.kernel, "file_system", lambda _fd: durable.kernel.EXT if orderly else 0)
    monkeypatch.setattr(durable.kernel, "push", lambda fd: (steps.append("push"), push(fd))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append(f"sync {name(fd)}"), fsync(fd))[1])
    monkeypatch.setattr(durable.kernel, "rename_new", lambda *names: (steps.append("name"), rename_new(*names))[1])
    deliver_to_maildir(str(tmp_path / "Maildir"), "host", [b"x\n"], 0)
    # the directory new/, then the message, which is in it
    assert steps == ["push" if orderly else "sync tmp", "name", "sync Maildir", "sync new"]


def test_a_message_that_the_kernel_cannot_sync_is_not_delivered(tmp_path, monkeypatch) -> None:
    class Kernel:
        def begin(self, syncs: Iterable[tuple[int, int]]) -> int:
            return len(list(syncs))

        def ended(self, at_least: int) -> list[tuple[int, int]]:
            return [(0, errno.EIO), (1, 0)]

    monkeypatch.setattr(durable, "_syncs", lambda _pid: Kernel())
    with pytest.raises(MailboxError) as caught:
        deliver_to_maildir(str(tmp_path / "Maildir"), "host", [b"x\n"], 0)
    assert caught.value.errno == errno.EIO
    assert files(tmp_path / "Maildir") == []


@pytest.mark.parametrize("missing", ["tmp", "new", "cur"])
def test_a_missing_directory_is_made_where_it_is_needed(tmp_path, missing: str) -> None:
    where = tmp_path / "Maildir"
    for name in {"tmp", "new", "cur"} - {missing}:
        (where / name).mkdir(parents=True)
    deliver_to_maildir(str(where), "host", [b"x\n"], 0)
    (name,) = files(where)
    assert name.startswith("new/")
    # cur/ is its reader's, and nobody needs it for a delivery
    assert (where / missing).exists() == (missing != "cur")


@pytest.mark.parametrize("link", ["Maildir", "Maildir/tmp", "Maildir/new"])
def test_a_link_to_nowhere(tmp_path, link: str) -> None:
    deliver_to_maildir(str(tmp_path / "Maildir"), "host", [b"first\n"], 0)
    (tmp_path / link).rename(tmp_path / "elsewhere")
    (tmp_path / link).symlink_to(tmp_path / "nowhere")
    before = files(tmp_path)
    with pytest.raises(MailboxError) as caught:
        deliver_to_maildir(str(tmp_path / "Maildir"), "host", [b"x\n"], 0)
    assert caught.value.errno == errno.ENOENT
    assert before == files(tmp_path)


def test_a_name_that_is_taken_in_tmp_is_left_alone(tmp_path, monkeypatch) -> None:
    times = itertools.count(5_000_000, 1_000_000)
    monkeypatch.setattr(mailbox, "now_usec", lambda: next(times))
    (tmp_path / "tmp").mkdir()
    theirs = tmp_path / f"tmp/5.P{os.getpid()}M000000.host"
    theirs.write_bytes(b"theirs")
    deliver_to_maildir(str(tmp_path), "host", [b"ours"], 0)
    assert theirs.read_bytes() == b"theirs"
    assert [path.read_bytes() for path in (tmp_path / "new").iterdir()] == [b"ours"]


def test_a_name_that_is_taken_in_new_is_left_alone(tmp_path, monkeypatch) -> None:
    name_new = durable.name_new

    def late(source: str, target: str) -> None:
        if not os.listdir(tmp_path / "new"):
            pathlib.Path(target).write_bytes(b"theirs")
        name_new(source, target)

    monkeypatch.setattr(durable, "name_new", late)
    deliver_to_maildir(str(tmp_path), "host", [b"ours"], 0)
    assert {path.read_bytes() for path in (tmp_path / "new").iterdir()} == {b"ours", b"theirs"}


def test_a_file_in_place_of_a_maildir(tmp_path) -> None:
    (tmp_path / "Maildir").write_text("x")
    with pytest.raises(MailboxError) as caught:
        deliver_to_maildir(str(tmp_path / "Maildir"), "host", [b"x\n"], 0)
    assert caught.value.errno == errno.ENOTDIR


def append(path, *chunks: bytes, locks: Locks = LOCKS, limit: int = 0, identities=mailbox.ANYBODY) -> None:
    box = Mbox.open(str(path), locks, identities, no_sleep)
    try:
        box.append(chunks, limit)
    finally:
        box.release()


def test_mbox_is_made_and_grows(tmp_path) -> None:
    box = tmp_path / "box"
    append(box, b"From a\n", b"x\n\n")
    append(box, b"From b\n\n")
    assert box.read_bytes() == b"From a\nx\n\nFrom b\n\n"
    assert box.stat().st_mode & 0o777 == 0o600
    assert files(tmp_path) == ["box"]


@pytest.mark.parametrize(("torn", "gap"), [(b"From a\nhal", b"\n\n"), (b"From a\nhalf\n", b"\n"), (b"x\n\n", b"")])
def test_a_torn_message_at_the_end_does_not_swallow_the_next(tmp_path, torn: bytes, gap: bytes) -> None:
    (tmp_path / "box").write_bytes(torn)
    append(tmp_path / "box", b"From b\n\n")
    assert (tmp_path / "box").read_bytes() == torn + gap + b"From b\n\n"


def test_a_mailbox_that_would_grow_over_the_limit_stays(tmp_path) -> None:
    (tmp_path / "box").write_bytes(b"12345678\n\n")
    with pytest.raises(MailboxError) as caught:
        append(tmp_path / "box", b"1", b"2", limit=11)
    assert caught.value.errno == errno.EFBIG
    assert (tmp_path / "box").read_bytes() == b"12345678\n\n"
    assert files(tmp_path) == ["box"]


def test_a_source_that_fails_leaves_a_mailbox_as_it_was(tmp_path) -> None:
    (tmp_path / "box").write_bytes(b"old\n\n")
    box = Mbox.open(str(tmp_path / "box"), LOCKS, sleep=no_sleep)
    with pytest.raises(ValueError):  # noqa: PT011 -- the test's own
        box.append(broken(), 0)
    box.release()
    assert (tmp_path / "box").read_bytes() == b"old\n\n"


def test_links_are_refused(tmp_path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"canary")
    os.link(victim, tmp_path / "hard")
    with pytest.raises(MailboxError, match="file has 2 hard links"):
        append(tmp_path / "hard", b"x")
    (tmp_path / "soft").symlink_to(victim)
    if os.geteuid() == 0:
        os.chown(tmp_path / "soft", 65534, 65534, follow_symlinks=False)
    with pytest.raises(MailboxError, match="file is a symbolic link"):
        append(tmp_path / "soft", b"x")
    (tmp_path / "nowhere").symlink_to(tmp_path / "made-by-attack")
    with pytest.raises(MailboxError):
        append(tmp_path / "nowhere", b"x")
    assert victim.read_bytes() == b"canary"
    assert files(tmp_path) == ["hard", "soft", "victim"]


def test_a_pipe_and_a_directory_do_not_hold_anyone_up(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    box = Mbox.open(str(tmp_path / "pipe"), LOCKS, sleep=no_sleep)
    assert not box.is_regular
    box.release()
    (tmp_path / "directory").mkdir()
    with pytest.raises(MailboxError) as caught:
        append(tmp_path / "directory", b"x")
    assert caught.value.errno == errno.EISDIR


def test_somebody_elses_lock_file_is_respected_until_it_is_stale(tmp_path) -> None:
    (tmp_path / "box.lock").write_bytes(b"")
    with pytest.raises(MailboxError, match="unable to create lock file") as caught:
        append(tmp_path / "box", b"x\n\n")
    assert caught.value.errno == errno.EAGAIN
    assert (tmp_path / "box.lock").exists()
    append(tmp_path / "box", b"x\n\n", locks=LOCKS._replace(stale=-10))
    assert files(tmp_path) == ["box"]


@pytest.mark.parametrize("style", ["fcntl", "flock"])
def test_a_mailbox_locked_by_another_process_is_busy(tmp_path, style: str) -> None:
    function = "lockf" if style == "fcntl" else "flock"
    program = (
        f"import fcntl, sys; f = open({str(tmp_path / 'box')!r}, 'ab'); fcntl.{function}(f, fcntl.LOCK_EX)\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        waits: list[float] = []
        with pytest.raises(MailboxError, match="unable to lock for exclusive access") as caught:
            Mbox.open(str(tmp_path / "box"), Locks((style, "dotlock"), 3, 7, 500), sleep=waits.append)
        assert other.stdin is not None
        other.stdin.close()
    assert waits == [7, 7]
    assert caught.value.errno == errno.EAGAIN
    assert not (tmp_path / "box.lock").exists()


def test_the_mailbox_is_locked_while_it_is_open(tmp_path) -> None:
    box = Mbox.open(str(tmp_path / "box"), LOCKS, sleep=no_sleep)
    assert (tmp_path / "box.lock").exists()
    program = f"import fcntl; fcntl.lockf(open({str(tmp_path / 'box')!r}, 'ab'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    assert subprocess.run([sys.executable, "-c", program], check=False, stderr=subprocess.DEVNULL).returncode == 1
    box.release()
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_mailbox_that_was_replaced_under_the_lock_is_tried_again_later(tmp_path, monkeypatch) -> None:
    def replacing(*_args: object) -> None:
        (tmp_path / "box").unlink()

    monkeypatch.setattr(fcntl, "lockf", replacing)
    with pytest.raises(MailboxError, match="changed unexpectedly") as caught:
        Mbox.open(str(tmp_path / "box"), LOCKS, sleep=no_sleep)
    assert caught.value.errno == errno.EAGAIN


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_new_mailbox_is_given_away(tmp_path) -> None:
    box = Mbox.open(str(tmp_path / "box"), LOCKS, Identities(give_to=(65534, 65533)), no_sleep)
    assert box.owner == 65534
    box.release()
    status = (tmp_path / "box").stat()
    assert (status.st_uid, status.st_gid) == (65534, 65533)


def test_a_mailbox_that_cannot_be_given_away_is_not_left(tmp_path, monkeypatch) -> None:
    def refused(*_args: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(mailbox.os, "fchown", refused)
    with pytest.raises(MailboxError, match="cannot change file ownership") as caught:
        Mbox.open(str(tmp_path / "box"), LOCKS, Identities(give_to=(1, 1)), no_sleep)
    assert caught.value.errno == errno.EPERM
    assert files(tmp_path) == []


def test_who_does_what(tmp_path) -> None:
    """The owner opens and writes; the maker makes the file, and makes and removes the lock file."""
    steps: list[str] = []

    @contextmanager
    def acting(name: str) -> Iterator[None]:
        before = files(tmp_path)
        yield
        steps.append(f"{name} {before} {files(tmp_path)}")

    def deliver() -> list[str]:
        steps.clear()
        box = Mbox.open(str(tmp_path / "box"), LOCKS, Identities(partial(acting, "owner"), partial(acting, "maker")))
        box.append([b"x\n\n"], 0)
        box.release()
        return steps

    assert deliver() == [
        "maker [] ['box']",
        "maker ['box'] ['box', 'box.lock']",
        "owner ['box', 'box.lock'] ['box', 'box.lock']",
        "maker ['box', 'box.lock'] ['box']",
    ]
    assert deliver()[0] == "owner ['box'] ['box']"


def test_a_mailbox_that_somebody_else_makes_at_the_same_time(tmp_path) -> None:
    @contextmanager
    def late() -> Iterator[None]:
        (tmp_path / "box").touch()
        yield

    append(tmp_path / "box", b"x\n\n", identities=Identities(maker=late))
    assert (tmp_path / "box").read_bytes() == b"x\n\n"
