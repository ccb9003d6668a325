"""A queue directory without space, without inodes, or read-only: mail is refused for now, none is lost or half there.

The queue directory is a file system of its own, in memory. That needs root.
"""

import contextlib
import os
import pwd
import shutil
import smtplib
import socket
import subprocess
import time

import pytest
from stories.test_delivery import next_host
from system_under_test import SystemUnderTest, free_port

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.getuid() != 0 or shutil.which("mount") is None, reason="only root can mount a file system"),
]

USER = pwd.getpwuid(os.getuid()).pw_name
RECIPIENT = f"{USER}@mail.example.com"
BODY = "Subject: x\r\n\r\n" + "a line of a message that takes some space\r\n" * 1500
"""More than roles keep in memory, less than message_size_limit."""
EX_TEMPFAIL = 75
SIZE, INODES = 4 * 1024 * 1024, 400
SOON = 8


class SmallDisk:
    """A system whose queue directory is a small file system."""

    def __init__(self, directory, main_cf=""):
        self.next_port = free_port()
        settings = (
            f"relayhost = [127.0.0.1]:{self.next_port}\nmessage_size_limit = 100000\nminimal_backoff_time = 1s\n"
            f"maximal_backoff_time = 2s\nqueue_run_delay = 1s\ntransport_retry_time = 1s\n"
        )
        self.system = SystemUnderTest(directory, settings + main_cf)
        self.spool = self.system.spool
        self.spool.mkdir()
        self.filler = self.spool / "filler"

    def mount(self, *options):
        subprocess.run(["mount", *options, str(self.spool)], check=True, timeout=30)

    @contextlib.contextmanager
    def running(self):
        self.mount("-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={INODES},mode=755", "tmpfs")
        try:
            with self.system:
                self.submit("Subject: first\r\n\r\n")
                self.system.wait_log("status=sent")
                self.system.wait_empty()
                yield self
                assert "panic:" not in self.system.log_text()
        finally:
            subprocess.run(["umount", "--lazy", str(self.spool)], check=True, timeout=30)

    def fill_space(self, leave=0):
        """Takes all space but ``leave`` bytes."""
        with self.filler.open("ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(max(0, os.fstat(file.fileno()).st_size - leave))

    def fill_inodes(self, leave=0):
        self.filler.mkdir()
        with contextlib.suppress(OSError):
            for number in range(INODES):
                (self.filler / str(number)).touch()
        for _ in range(leave):
            next(self.filler.iterdir()).unlink()

    def make_room(self):
        if self.filler.is_dir():
            shutil.rmtree(self.filler)
        else:
            self.filler.unlink()

    def submit(self, text=BODY, recipient=RECIPIENT):
        with smtplib.SMTP("127.0.0.1", self.system.smtp_port, timeout=30) as smtp:
            smtp.sendmail("a@example.com", [recipient], text)

    def refusal(self, text=BODY):
        """The reply that refuses a message, wherever in the dialogue it comes."""
        with pytest.raises((smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused)) as caught:
            self.submit(text)
        error = caught.value
        return next(iter(error.recipients.values())) if hasattr(error, "recipients") else error.args[:2]

    def sendmail(self, text=BODY):
        return self.system.run("sendmail", "-f", "a@example.com", RECIPIENT, input=text)

    def nothing_stays(self):
        """No file of a message that was not accepted, whole or in part."""
        self.system.wait_until(lambda: not self.system.queue_ids("incoming", "maildrop", "active"), "aborts", 5)

    def mail_flows(self):
        """Within seconds a message is accepted and delivered, both ways."""
        before = len(self.system.maildir(USER))
        deadline = time.monotonic() + SOON
        while True:
            try:
                self.submit()
                break
            except smtplib.SMTPResponseException:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert self.sendmail().returncode == 0
        self.system.wait_until(lambda: len(self.system.maildir(USER)) == before + 2, "both messages", SOON)
        self.system.wait_empty(SOON)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    with SmallDisk(tmp_path_factory.mktemp("disk") / "s").running() as disk:
        yield disk


@pytest.fixture(params=["space", "inodes"])
def fillable(disk, request):
    """The disk, with a way to fill it."""
    disk.fill = disk.fill_space if request.param == "space" else disk.fill_inodes
    yield disk
    if disk.filler.exists():
        disk.make_room()


def test_a_full_disk_refuses_mail_for_now_and_keeps_nothing_of_it(fillable):
    """At once, where the space was counted before; and a second later, when it is counted again."""
    fillable.fill()
    before = len(fillable.system.maildir(USER))
    for pause in (0, 1.2):
        time.sleep(pause)
        code, text = fillable.refusal()
        assert (code, text[:6]) == (452, b"4.3.1 ")
        small_code, small_text = fillable.refusal("Subject: small\r\n\r\n")
        assert (small_code, small_text[:6]) == (452, b"4.3.1 ")
        refused = fillable.sendmail()
        assert refused.returncode == EX_TEMPFAIL
        assert "insufficient system storage" in refused.stderr
        fillable.nothing_stays()
    fillable.make_room()
    fillable.mail_flows()
    assert len(fillable.system.maildir(USER)) == before + 2


def test_the_disk_fills_up_during_data(disk):
    """What was written is gone when the reply comes, though the client is still there."""
    with socket.create_connection(("127.0.0.1", disk.system.smtp_port), timeout=30) as sock:
        replies = sock.makefile("rb")
        opening = [b"HELO x", b"MAIL FROM:<a@example.com>", b"RCPT TO:<%s>" % RECIPIENT.encode(), b"DATA"]
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


def test_the_disk_fills_up_while_sendmail_reads(disk):
    command = disk.system.command("sendmail", "-f", "a@example.com", RECIPIENT)
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


def test_accepted_mail_survives_a_full_disk(fillable):
    """Deferred and bounced while there may be no log of it: it is delivered, or its notice is, when there is room."""
    log = fillable.system.log_text
    name = fillable.fill.__name__
    kept, refused = f"kept@{name}.example", f"refused@{name}.example"
    fillable.submit("Subject: kept\r\n\r\n", kept)
    fillable.submit("Subject: refused\r\n\r\n", refused)
    fillable.system.wait_until(lambda: len(fillable.system.queue_ids("deferred")) == 2, "two deferred messages")
    fillable.fill()
    attempts = log().count(f"to=<{kept}>")
    fillable.system.wait_until(lambda: log().count(f"to=<{kept}>") >= attempts + 2, "two more attempts", 20)
    with next_host(fillable.next_port, replies={b"RCPT": b"550 5.7.9 no\r\n"}):
        for address in (kept, refused):
            fillable.system.wait_log(f"to=<{address}>, .*status=bounced", 20)
    assert len(fillable.system.queue_ids()) == 2
    fillable.make_room()
    arrived = []
    with next_host(fillable.next_port, lambda _content, recipients: arrived.extend(recipients)):
        fillable.system.wait_empty(20)
    assert len(arrived) == 2
    assert set(arrived) <= {kept, refused, "a@example.com"}
    fillable.mail_flows()


def test_mail_is_deferred_though_there_is_no_inode_for_a_directory(disk):
    """The queue manager goes on, and tries again no more often than else."""
    assert not list((disk.spool / "deferred").rglob("??*"))
    for path in [*(disk.spool / "deferred").iterdir(), *(disk.spool / "defer").iterdir()]:
        path.rmdir()
    disk.fill_inodes(leave=1)
    try:
        disk.submit("Subject: x\r\n\r\n", "last@inode.example")
        log = disk.system.log_text
        disk.system.wait_until(lambda: log().count("to=<last@inode.example>") >= 2, "two attempts", 20)
        assert "fatal:" not in log()
    finally:
        disk.make_room()
    with next_host(disk.next_port):
        disk.system.wait_log("to=<last@inode.example>, .*status=sent", 20)
        disk.system.wait_empty(20)


def test_a_read_only_disk_refuses_mail_for_now_and_all_of_it_comes_when_it_can(disk):
    """No promise is made meanwhile. The queue manager ends with a clear word, and is started until it can work."""
    disk.submit("Subject: waits\r\n\r\n", "waits@remote.example")
    disk.system.wait_until(lambda: disk.system.queue_ids("deferred"), "a deferred message")
    disk.mount("-o", "remount,ro")
    try:
        for _ in range(2):
            code, text = disk.refusal()
            assert (code, text[:6]) == (451, b"4.3.0 ")
            assert disk.sendmail().returncode == EX_TEMPFAIL
        disk.system.wait_log(r"pyfix/qmgr\[\d+\]: fatal: .*Read-only file system")
        assert len(disk.system.queue_ids()) == 1
    finally:
        disk.mount("-o", "remount,rw")
    with next_host(disk.next_port):
        disk.system.wait_log("to=<waits@remote.example>, .*status=sent", 20)
        disk.system.wait_empty(SOON)
    disk.nothing_stays()
    disk.mail_flows()


def test_queue_minfree_is_kept_free(tmp_path):
    with SmallDisk(tmp_path / "s", f"queue_minfree = {SIZE // 2}\n").running() as disk:
        disk.fill_space(leave=SIZE // 2 - 65536)
        disk.system.wait_until(lambda: _is_refused(disk), "a refusal", 5)
        code, text = disk.refusal("Subject: x\r\n\r\n")
        assert (code, text[:6]) == (452, b"4.3.1 ")
        assert "not enough free space in mail queue: " in disk.system.log_text()
        disk.make_room()
        disk.mail_flows()


def _is_refused(disk):
    try:
        disk.submit("Subject: x\r\n\r\n")
    except smtplib.SMTPResponseException:
        return True
    return False
