"""T4: a queue directory without space, without inodes, or read-only, and well again.

Mail is refused for now, none is lost or half there, and all goes on unaided when it can.
"""

import contextlib
import os
import shutil
import smtplib
import socket
import subprocess
import time

from durability import mutant as mutants
from durability.mail import EX_TEMPFAIL, LOCAL
from durability.power import run
from durability.result import Result
from stories.test_delivery import next_host
from system_under_test import SystemUnderTest, free_port

BODY = "Subject: x\r\n\r\n" + "a line of a message that takes some space\r\n" * 1500
"""More than roles keep in memory, less than message_size_limit."""
SMALL = "Subject: small\r\n\r\n"
FULL, UNWRITABLE = (452, b"4.3.1 "), (451, b"4.3.0 ")
SIZE, INODES = 6 << 20, 400
SOON = 10
MUTANTS = (mutants.DEAF_TO_WRITE, mutants.LEAVES_PARTS)


class SmallDisk:
    """A system whose queue directory is a small file system, tmpfs or ext4."""

    def __init__(self, directory, kind, mutant=None, main_cf=""):
        self.next_port = free_port()
        settings = (
            f"relayhost = [127.0.0.1]:{self.next_port}\nmessage_size_limit = 100000\nminimal_backoff_time = 1s\n"
            f"maximal_backoff_time = 2s\nqueue_run_delay = 1s\ntransport_retry_time = 1s\nnotify_classes =\n"
        )
        self.system = SystemUnderTest(directory / "system", settings + main_cf)
        if mutant:
            mutants.install(self.system, mutant)
        self.spool = self.system.spool
        self.filler = self.spool / "filler"
        self._image = directory / "image"
        self._kind = kind

    @contextlib.contextmanager
    def running(self):
        self.spool.mkdir()
        if self._kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={INODES},mode=755", "tmpfs", self.spool)
        else:
            run("truncate", "-s", SIZE * 2, self._image)
            run("mkfs.ext4", "-q", "-F", "-J", "size=4", "-N", INODES, "-m", "0", self._image)
            run("mount", "-o", "loop", self._image, self.spool)
        try:
            with self.system:
                self.submit(SMALL)
                self.system.wait_log("status=sent")
                self.system.wait_empty()
                yield self
        finally:
            run("umount", "--lazy", self.spool)

    def remount(self, how):
        run("mount", "-o", f"remount,{how}", self.spool)

    def fill_space(self, leave=0):
        """Takes all space but ``leave`` bytes."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
            file.truncate(max(0, os.fstat(file.fileno()).st_size - leave))
            os.fsync(file.fileno())

    def fill_inodes(self, leave=0):
        self.filler.mkdir()
        with contextlib.suppress(OSError):
            for number in range(INODES * 2):
                (self.filler / str(number)).touch()
        for _ in range(leave):
            next(self.filler.iterdir()).unlink()

    def make_room(self):
        if self.filler.is_dir():
            shutil.rmtree(self.filler)
        else:
            self.filler.unlink(missing_ok=True)

    def submit(self, text=BODY, recipient=LOCAL):
        with smtplib.SMTP("127.0.0.1", self.system.smtp_port, timeout=30) as smtp:
            smtp.sendmail("a@example.com", [recipient], text)

    def refusal(self, text=BODY):
        """Code and status of the reply that refuses a message, wherever in the dialogue it comes; None: accepted."""
        try:
            self.submit(text)
        except smtplib.SMTPRecipientsRefused as error:
            code, answer = next(iter(error.recipients.values()))
        except smtplib.SMTPResponseException as error:
            code, answer = error.smtp_code, error.smtp_error
        else:
            return None
        return code, answer[:6]

    def sendmail(self, text=BODY):
        return self.system.run("sendmail", "-f", "a@example.com", LOCAL, input=text)

    def delivered(self):
        return len(self.system.maildir("root"))

    def nothing_stays(self):
        """No file of a message that was not accepted, whole or in part."""
        self.system.wait_until(lambda: not self.system.queue_ids("incoming", "maildrop", "active"), "aborts", SOON)

    def wait_queued(self, count):
        """So many messages are in the queue; one that moves is seen twice or not at all."""
        self.system.wait_until(lambda: len(self.system.queue_ids()) == count, f"{count} messages in the queue", SOON)

    def mail_flows(self):
        """Within seconds a message is accepted and delivered, both ways."""
        before = self.delivered()
        self.system.wait_until(lambda: self.refusal() is None, "an acceptance", SOON)
        self.system.wait_until(lambda: self.sendmail().returncode == 0, "a submission", SOON)
        self.system.wait_until(lambda: self.delivered() == before + 2, "both messages", SOON)
        self.system.wait_empty(SOON)


def full(disk):
    """452 at once, where the space was counted before, and when it is counted again; nothing stays."""
    before = disk.delivered()
    for pause in (0, 1.2):
        time.sleep(pause)
        assert disk.refusal() == FULL
        assert disk.refusal(SMALL) == FULL
        refused = disk.sendmail()
        assert refused.returncode == EX_TEMPFAIL
        assert "insufficient system storage" in refused.stderr
        disk.nothing_stays()
    disk.make_room()
    disk.mail_flows()
    assert disk.delivered() == before + 2


def full_of_data(disk):
    disk.fill_space()
    full(disk)


def full_of_files(disk):
    disk.fill_inodes()
    full(disk)


def full_during_data(disk):
    """What was written is gone when the reply comes, though the client is still there."""
    with socket.create_connection(("127.0.0.1", disk.system.smtp_port), timeout=30) as sock:
        replies = sock.makefile("rb")
        opening = [b"HELO x", b"MAIL FROM:<a@example.com>", b"RCPT TO:<%s>" % LOCAL.encode(), b"DATA"]
        for command in opening:
            assert replies.readline()[:3] in {b"220", b"250"}
            sock.sendall(command + b"\r\n")
        assert replies.readline()[:3] == b"354"
        sock.sendall(BODY.encode()[: len(BODY) // 2])
        disk.fill_space()
        sock.sendall(BODY.encode()[len(BODY) // 2 :] + b".\r\n")
        assert replies.readline().startswith(b"452 4.3.1 ")
        disk.nothing_stays()
        disk.make_room()
        sock.sendall(b"NOOP\r\n")
        assert replies.readline().startswith(b"250 ")
    disk.mail_flows()


def full_while_sendmail_reads(disk):
    command = disk.system.command("sendmail", "-f", "a@example.com", LOCAL)
    with subprocess.Popen(command, env=disk.system.environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        # more than a pipe holds: what is shorter reaches postdrop when it is whole
        done.stdin.write(BODY.encode() + BODY.encode()[:10_000])
        done.stdin.flush()
        disk.system.wait_until(lambda: list((disk.spool / "maildrop").iterdir()), "the submission's file")
        disk.fill_space()
        with contextlib.suppress(BrokenPipeError):
            done.stdin.write(BODY.encode()[:20_000])
            done.stdin.close()
        done.stdin = None
        assert b"insufficient system storage" in done.communicate(timeout=30)[1]
        assert done.returncode == EX_TEMPFAIL
    disk.nothing_stays()
    disk.make_room()
    disk.mail_flows()


def accepted_before(disk, fill):
    """Deferred and bounced while there may be no log of it: it is delivered, or its notice is, when there is room."""
    log = disk.system.log_text
    kept, refused = f"kept@{fill.__name__}.example", f"refused@{fill.__name__}.example"
    disk.submit(SMALL, kept)
    disk.submit(SMALL, refused)
    disk.system.wait_until(lambda: len(disk.system.queue_ids("deferred")) == 2, "two deferred messages")
    fill()
    attempts = log().count(f"to=<{kept}>")
    disk.system.wait_until(lambda: log().count(f"to=<{kept}>") >= attempts + 2, "two more attempts", 20)
    with next_host(disk.next_port, replies={b"RCPT": b"550 5.7.9 no\r\n"}):
        for address in (kept, refused):
            disk.system.wait_log(f"to=<{address}>, .*status=bounced", 20)
    disk.wait_queued(2)
    disk.make_room()
    arrived = []
    with next_host(disk.next_port, lambda _content, recipients: arrived.extend(recipients)):
        disk.system.wait_empty(20)
    assert len(arrived) == 2
    assert set(arrived) <= {kept, refused, "a@example.com"}
    disk.mail_flows()


def accepted_before_full_of_data(disk):
    accepted_before(disk, disk.fill_space)


def accepted_before_full_of_files(disk):
    accepted_before(disk, disk.fill_inodes)


def no_inode_for_a_directory(disk):
    """Mail is deferred; the queue manager goes on, and tries again no more often than else."""
    assert not list((disk.spool / "deferred").rglob("??*"))
    for path in [*(disk.spool / "deferred").iterdir(), *(disk.spool / "defer").iterdir()]:
        path.rmdir()
    disk.fill_inodes(leave=1)
    disk.submit(SMALL, "last@inode.example")
    log = disk.system.log_text
    disk.system.wait_until(lambda: log().count("to=<last@inode.example>") >= 2, "two attempts", 20)
    assert "fatal:" not in log()
    disk.make_room()
    with next_host(disk.next_port):
        disk.system.wait_log("to=<last@inode.example>, .*status=sent", 20)
        disk.system.wait_empty(20)


def read_only(disk):
    """No promise is made meanwhile. The queue manager ends with a clear word, and is started until it can work."""
    disk.submit(SMALL, "waits@remote.example")
    disk.system.wait_until(lambda: disk.system.queue_ids("deferred"), "a deferred message")
    disk.remount("ro")
    try:
        for _ in range(2):
            assert disk.refusal() == UNWRITABLE
            assert disk.sendmail().returncode == EX_TEMPFAIL
        disk.system.wait_log(r"pyfix/qmgr\[\d+\]: fatal: .*Read-only file system")
        disk.wait_queued(1)
    finally:
        disk.remount("rw")
    with next_host(disk.next_port):
        disk.system.wait_log("to=<waits@remote.example>, .*status=sent", 20)
        disk.system.wait_empty(SOON)
    disk.nothing_stays()
    disk.mail_flows()


def minfree(disk):
    """queue_minfree is kept free."""
    disk.fill_space(leave=SIZE // 2 - 65536)
    disk.system.wait_until(lambda: disk.refusal(SMALL) == FULL, "a refusal", SOON)
    assert "not enough free space in mail queue: " in disk.system.log_text()
    disk.make_room()
    disk.mail_flows()


CASES = (
    no_inode_for_a_directory, full_of_data, full_of_files, full_during_data, full_while_sendmail_reads,
    accepted_before_full_of_data, accepted_before_full_of_files, read_only,
)  # fmt: skip


def fill(directory, kind, mutant=None):
    """T4 on a kind of file system. A mutant is through at its first violation."""
    wrong, done = [], 0
    with SmallDisk(directory / "small", kind, mutant).running() as disk:
        for case in (full_of_data, full_during_data) if mutant else CASES:
            done += 1
            if trouble := _trouble(case, disk):
                wrong.append(f"{case.__name__}: {trouble}")
                if mutant:
                    break
        assert "panic:" not in disk.system.log_text()
    if not mutant:
        with SmallDisk(directory / "minfree", kind, main_cf=f"queue_minfree = {SIZE // 2}\n").running() as disk:
            done += 1
            if trouble := _trouble(minfree, disk):
                wrong.append(f"minfree: {trouble}")
    return Result("T4 small disks", f"{kind} {mutant.name}" if mutant else kind, 0, done, wrong, bool(mutant))


def _trouble(case, disk):
    try:
        case(disk)
    except (AssertionError, smtplib.SMTPException) as error:
        return str(error) or repr(error)
    finally:
        disk.make_room()
    return ""
