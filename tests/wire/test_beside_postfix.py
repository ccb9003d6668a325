"""The same dialogues with Debian 13's Postfix and with the machine: the same replies.

``STRICTER`` lists what is meant to differ.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import oracle
import pytest
from wire.dialogue import Driver

from pyfix.wire.reply import Reply
from pyfix.wire.smtp_dialogue import Mail, Rcpt, Verify

pytestmark = pytest.mark.system

E, H = "EHLO c.example", "HELO c.example"
M, R, D = "MAIL FROM:<a@b.example>", "RCPT TO:<root@test.example>", "DATA"

SETTINGS = {
    "myhostname": "mx.example",
    "myorigin": "test.example",
    "smtpd_banner": "mx.example ESMTP test",
    "maillog_file": "/var/log/postfix.log",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.1",
    "mydestination": "test.example, localhost",
    "smtpd_error_sleep_time": "0",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
    "smtpd_forbid_bare_newline_exclusions": "",
    "smtpd_recipient_limit": "3",
    "smtpd_recipient_overshoot_limit": "2",
    "message_size_limit": "1000000",
    "default_transport": "discard",
    "local_transport": "discard",
    "smtpd_peername_lookup": "no",
}


def mails(*arguments):
    return [E, *(line for argument in arguments for line in (f"MAIL FROM:{argument}", "RSET"))]


def recipients(*arguments):
    return [E, M, *(f"RCPT TO:{argument}" for argument in arguments)]


def alone(*lines):
    """Each line in a session of its own."""
    return {f"alone {line!r}": [line, "NOOP"] for line in lines}


DIALOGUES: dict[str, list[str | bytes]] = {
    "hello": [H, "HELO", "EHLO", "HELO ", "EHLO a b", "HELO [1.2.3.4]", "HELO <>", "QUIT"],
    "order": [R, D, M, D, M, R, "DATA x", "RSET x", "RSET", R, "QUIT x"],
    "hello resets": [E, M, R, H, R, D],
    "empty hello": [E, M, "EHLO", R],
    "small commands": ["noop", "NOOP a b", " NOOP", "RSET", "VRFY", "STARTTLS", "AUTH PLAIN", "ETRN", "QUIT"],
    "extensions": [E, "XCLIENT", "XCLIENT A=b", "XFORWARD", "XFORWARD A=b", M, "XCLIENT A=b", "ETRN x", "STARTTLS"],
    "unknown": ["FOO", "foo bar", "", " ", "EXPN x", "TURN", "a@b", 'NO"OP', "BURL", "QUIT"],
    "vrfy": [E, "VRFY root", "VRFY <root@test.example>", "VRFY nosuch", "VRFY x@other.example", "VRFY a b", "VRFY <>",
             "VRFY root SMTPUTF8", "VRFY root@test.example (x)", "VRFY a,b", "VRFY é", M, "VRFY root"],
    **alone("CONNECT x", "GET / HTTP/1.0", "POST / HTTP/1.0", "get x", "Host: x", "Subject: x", "<x>", "{x", "1234",
            "-x", ":", '"foo" bar', "X: y"),
    "control bytes": [b"\x16\x03\x01\r\n"],
    "bad UTF-8": [b"x\xff\r\n", b"NOOP \xff\r\n", E, b"MAIL FROM:<\xff@b>\r\n", "QUIT"],
    "NUL": [E, b"NOOP\0x\r\n", b"NO\0OP\r\n", b"\0NOOP\r\n", b"MAIL FROM:<a@b>\0 FOO\r\n",
            b"RCPT TO:<ro\0ot@test.example>\r\n", b"RCPT TO:<root@test.example>\0x\r\n"],
    "bare LF": [b"EHLO x\n", b"NOOP\n", b"MAIL FROM:<a@b>\n", b"RCPT TO:<root>\n", b"DATA\n", b"x\n.\n", b"\r\n.\r\n"],
    "bare CR": [b"NOOP\rNOOP\r\n", b"EHLO x\ry\r\n", b"MAIL FROM:<a@b>\rx\r\n", b"NOOP\r\r\n"],
    "senders": mails("<>", "", "x", " <a@b>", "a@b", "<a@b", "a@b>", '<"a b"@c>', r'<"a\"b"@c>', "<a b@c>",
                     "<@x,@y:a@b>", "<@x:a@b>", "<@b>"),
    "senders 2": mails("<a@>", "<a@b@c>", "<a@[1.2.3.4]>", "<a@[x]>", "<a@[IPv6:::1]>", "<a@b..c>", "<a@-b>"),
    "senders 3": mails("<a..b@c>", "<.a@c>", "<a.@c>", "<a@b_c>", "<a@b.>", "<a@.b>", "<(x)a@b>", "Foo <a@b>"),
    "senders 4": mails("<a,b@c>", "<<a@b>>", "<a@b><c@d>", "<a@b>x", "<a@b >", "< a@b>", r"<a\ b@c>", r"<a\,b@c>"),
    "senders 5": mails("<a;b@c>", "<a@b:25>", "<a!b>", "<a%b@c>", '"a"@b', '<""@b>', '<"a@b>', "<é@b>"),
    "senders 6": mails("<a@" + "b" * 64 + ">", "<a@" + ".".join(["b" * 60] * 5) + ">", "<" + "a" * 300 + "@b>"),
    "senders 7": mails("<a@[]>", "<a@[1.2.3]>", "<a@1.2.3.4>", "<a@b c>", "<a@(c)b>", "<a", ">", "< >", "<@>"),
    "senders 8": mails("<a@x,y>", "a b", '<"a"b@c>', '<"a"."b"@c>', r"<a\@b>", r"<a@b\>", "<a@é.x>"),
    "sizes": mails("<a@b> SIZE=10", "<a@b> SIZE=1000000", "<a@b> SIZE=1000001", "<a@b> SIZE=9223372036854775807",
                   "<a@b> SIZE=9223372036854775808", "<a@b> SIZE=x", "<a@b> SIZE=", "<a@b> SIZE", "<a@b> SIZE=-1",
                   "<a@b> SIZE=+5", "<a@b> SIZE=00"),
    "mail parameters": mails("<a@b> BODY=8BITMIME", "<a@b> BODY=BINARYMIME", "<a@b> body=7bit size=3", "<a@b> FOO",
                             "<a@b> SMTPUTF8", "<a@b> SMTPUTF8=1", "<é@é.x> SMTPUTF8", "<a@b> AUTH=<>", "<a@b>SIZE=3"),
    "mail DSN": mails("<a@b> RET=FULL", "<a@b> RET=X", "<a@b> RET=FULL RET=HDRS", "<a@b> ENVID=ab+20c",
                      "<a@b> ENVID=a+zz", "<a@b> ENVID=", "<a@b> ENVID=a ENVID=b", "<a@b> ENVID=+0A", "<a@b> XVERP"),
    "mail syntax": ["MAIL", "MAIL FROM", "MAIL FROM <a@b>", "MAIL FROM :<a@b>", "MAIL TO:<a>", "MAIL x", "QUIT"],
    "rcpt syntax": [E, M, "RCPT", "rcpt to", "RCPT FROM:<x>", "RCPT TO:<>", "RCPT TO:", "RCPT TO: ",
                    "RCPT TO:<a b@c>"],
    "recipients": recipients("<root>", "<postmaster>", "<nosuch>", "<nosuch@localhost>", "<root@TEST.example>"),
    "recipients 2": recipients("<x@other.example>", '<a"b@test.example>', "<x@test.example.>", "<.@test.example>",
                               "<é@test.example>", "<x@tést.example>"),
    "notify": recipients("<root> NOTIFY=NEVER", "<root> NOTIFY=NEVER,SUCCESS", "<root> NOTIFY=success,FAILURE,delay",
                         "<root> NOTIFY=", "<root> NOTIFY=x", "<root> NOTIFY=NEVER NOTIFY=NEVER"),
    "orcpt": recipients("<root> ORCPT=rfc822;a+40b", "<root> ORCPT=rfc822;a+4", "<root> ORCPT=rfc822",
                        "<root> ORCPT=;a",
                        "<root> ORCPT=rfc822;+2b", "<root> ORCPT=rfc822;a ORCPT=rfc822;b", "<root> ORCPT=rfc822;+4g",
                        "<root> FOO=x", "<root>x"),
    "too many recipients": [E, M, R, R, R, R, R, R, R, D, b"x\r\n.\r\n", "NOOP"],
    "pipelining": [E, b"MAIL FROM:<a@b>\r\nRCPT TO:<root>\r\nDATA\r\n", b"x\r\n.\r\nRSET\r\nNOOP\r\n", "QUIT"],
    "sent ahead of EHLO's reply": [b"EHLO x\r\nNOOP\r\n"],
    "half a command ahead of EHLO's reply": [b"EHLO x\r\nNO"],
    "sent ahead of HELO's reply": [b"HELO x\r\nNOOP\r\n"],
    "sent ahead without EHLO": [H, b"MAIL FROM:<a@b>\r\nRCPT TO:<root>\r\n"],
    "sent ahead without HELO": [b"RSET\r\nRSET\r\n"],
    "sent ahead of NOOP's reply": [E, b"NOOP\r\nNOOP\r\n"],
    "sent ahead of VRFY's reply": [E, b"VRFY root\r\nNOOP\r\n"],
    "sent ahead of DATA's reply": [E, M, R, b"DATA\r\nx\r\n.\r\n"],
    "sent ahead of DATA's refusal": [E, M, b"DATA\r\nNOOP\r\n"],
    "sent ahead of QUIT's reply": [E, b"QUIT\r\nNOOP\r\n"],
    "sent ahead of QUIT's reply after HELO": [H, b"QUIT\r\nNOOP\r\n"],
    "unknown commands may be followed": [H, b"FOO\r\n\r\nNOOP\r\n", "QUIT"],
    "refused commands may be followed": [E, b"STARTTLS\r\nAUTH x\r\nNOOP\r\n", "QUIT"],
    "after the content": [H, M, R, D, b"x\r\n.\r\nNOOP\r\n", "QUIT"],
    "the end mark": [E, M, R, D, b"a\r\n\n.\n", b"x\n.\r\n", b"\r\n.\n", b"\r\n.\r\r\n", b".\0\r\n",
                     b"\r\n.\r\n", "QUIT"],
    "no content": [E, M, R, D, b".\r\n", "QUIT"],
    "the end mark in pieces": [E, M, R, D, b"x\r", b"\n", b".", b"\r", b"\n", "QUIT"],
    "a dot before a bare LF first": [E, M, R, D, b".\nx\r\n", b".\r\n", "QUIT"],
    "content over the limit": [E, M, R, D, (b"x" * 998 + b"\r\n") * 1100, b".\r\n", "NOOP", M],
    "a long line of content": [E, M, R, D, b"x" * 100_000 + b"\r\n.\r\n", "QUIT"],
    "a line of the limit": ["NOOP " + "x" * 2043, "NOOP " + "x" * 2044, "NOOP " + "x" * 4000, "QUIT"],
    "a line over the limit": [E, "FOO " + "x" * 3000, "MAIL FROM:<" + "x" * 3000 + "@b>", "NOOP"],
    "a line far over the limit": ["NOOP " + "x" * 10_000],
    "too many errors": ["FOO"] * 20,
    "too many refused recipients": [E, M, *["RCPT TO:<nosuch>"] * 20],
    "too much junk": ["NOOP"] * 121,
    "a message makes up for errors": [*["FOO"] * 15, E, M, R, D, b"x\r\n.\r\n", *["FOO"] * 20],
}  # fmt: skip

STRICTER = {
    # groups and other leftovers of RFC 822 around an address
    "MAIL FROM:<a@b;>": "501 5.1.7 Bad sender address syntax",
    "MAIL FROM:<grp:a@b;>": "501 5.1.7 Bad sender address syntax",
    "MAIL FROM:<a:b@c>": "501 5.1.7 Bad sender address syntax",
    "MAIL FROM:<>x": "501 5.1.7 Bad sender address syntax",
    "MAIL FROM:<[a]@b>": "501 5.1.7 Bad sender address syntax",
    "MAIL FROM:<a@[1.2.3.4>": "501 5.1.7 Bad sender address syntax",
    # control characters in addresses, which end up in logs and headers
    "MAIL FROM:<a\x01@b>": "501 5.1.7 Bad sender address syntax",
    'MAIL FROM:<"a\rb"@c>': "501 5.1.7 Bad sender address syntax",
    # RFC 3461, 4.2: an original recipient is printable
    "RCPT TO:<root> ORCPT=rfc822;a+0Ab": "501 5.5.4 Error: Bad ORCPT parameter syntax",
    "RCPT TO:<root> ORCPT=rfc822;a+FFb": "501 5.5.4 Error: Bad ORCPT parameter syntax",
}
"""Lines that Postfix takes and the machine does not, and its replies."""

# Offered by Postfix, not built here.
NOT_OFFERED = {"ETRN", "CHUNKING"}


class Oracle:
    """A running Postfix in a tree of its own; ``port`` is its SMTP server's."""

    def __init__(self, tree: Path):
        self.tree = tree
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        master = tree / "etc/postfix/master.cf"
        text = re.sub(r"(?m)^smtp +inet .*$", f"127.0.0.1:{self.port} inet n - n - - smtpd", master.read_text())
        # Without chroots below the tree there is nothing to be copied into them.
        text = re.sub(r"(?m)^(\S+ +\S+ +\S+ +\S+ +)y( )", r"\1n\2", text)
        master.write_text(text)
        self.run("postconf", "-e", *(f"{name}={value}" for name, value in SETTINGS.items()))
        self.run("newaliases")
        self.run("postfix", "check")

    def run(self, *command):
        subprocess.run(["chroot", str(self.tree), *command], check=True, capture_output=True, timeout=60)

    @contextlib.contextmanager
    def started(self):
        master = subprocess.Popen(
            ["chroot", str(self.tree), "/usr/lib/postfix/sbin/master", "-d"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            while not self.answers():
                assert master.poll() is None, "Postfix ended"
                assert time.monotonic() < deadline, "Postfix does not answer"
                time.sleep(0.1)
            yield self
        finally:
            master.send_signal(signal.SIGTERM)
            master.wait(30)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
                return sock.recv(3) == b"220"
        except OSError:
            return False


def copy_tree(source: Path, target: Path) -> None:
    """A tree that can be changed: what programs write to is copied, the rest linked."""
    subprocess.run(["cp", "-al", str(source / "usr"), str(target)], check=True)
    for name in ("bin", "sbin", "lib", "lib64", "etc", "dev"):
        if (source / name).is_symlink() or (source / name).exists():
            subprocess.run(["cp", "-a", str(source / name), str(target)], check=True)
    for name in ("var/spool/postfix", "var/lib/postfix"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(source / name), str(target / name)], check=True)
    for name in ("var/log", "var/mail", "tmp", "run", "proc"):
        (target / name).mkdir(parents=True, exist_ok=True)


@pytest.fixture(scope="module")
def postfix():
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    try:
        source = oracle.chroot_tree()
    except oracle.Missing as reason:
        pytest.skip(str(reason))
    tree = Path(tempfile.mkdtemp(prefix="beside-", dir=source.parent))
    tree.chmod(0o755)
    try:
        copy_tree(source, tree)
        with Oracle(tree).started() as instance:
            yield instance
    finally:
        shutil.rmtree(tree)


class Client:
    """The oracle's client. It waits for as many replies as are expected, then for the end if that is expected."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.data = b""

    def replies(self, number, *, end):
        """So many replies; all there are until the end of the connection if this is to be the last."""
        while end or len(split(self.data)[0]) < number:
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                break
            except TimeoutError:
                return [*split(self.data)[0], "(no more)"]
            if not more:
                break
            self.data += more
        found, self.data = split(self.data)
        return found


def split(data):
    """Whole replies, and the rest."""
    pattern = re.compile(rb"(?:\d{3}-[^\n]*\n)*\d{3}(?: [^\n]*)?\n")
    found, position = [], 0
    while match := pattern.match(data, position):
        found.append(normal(match[0].decode()))
        position = match.end()
    return found, data[position:]


def normal(reply):
    """A reply without queue IDs, and without what is not offered."""
    lines = [line[:3] + " " + line[4:] for line in reply.split("\r\n") if line]
    lines = [line for line in lines if line[4:] not in NOT_OFFERED]
    return re.sub(r"queued as \w+", "queued as X", "\n".join(lines))


def decide(_machine, question):
    """Postfix's policy here."""
    match question:
        case Mail(_, size) if size > 1_000_000:
            return Reply(552, "5.3.4", "Message size exceeds fixed limit")
        case Rcpt(address) | Verify(address):
            local, _, domain = address.partition("@")
            ours = domain.lower().rstrip(".") in ("", "test.example", "localhost")
            if ours and local not in ("root", "postmaster"):
                text = f"<{address}>: Recipient address rejected: User unknown in local recipient table"
                return Reply(550, "5.1.1", text)
    return None


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_same_replies(postfix, name):
    ours = Driver(decide, message_size_limit=1_000_000, recipient_limit=3, recipient_overshoot_limit=2)
    theirs = Client(postfix.port)
    with theirs.sock:
        assert theirs.replies(1, end=False) == split(ours.greet())[0]
        for step in DIALOGUES[name]:
            data = step if isinstance(step, bytes) else step.encode() + b"\r\n"
            expected = split(ours.send(data))[0]
            theirs.sock.sendall(data)
            assert theirs.replies(len(expected), end=ours.closed is not None) == expected, step
            if ours.closed is not None:
                break
        else:
            theirs.sock.shutdown(socket.SHUT_WR)
            assert theirs.replies(0, end=True) == []


@pytest.mark.parametrize("line", STRICTER)
def test_stricter_than_postfix(postfix, line):
    ours, theirs = Driver(decide), Client(postfix.port)
    ours.greet()
    with theirs.sock:
        theirs.replies(1, end=False)
        for step in [E, line] if line.startswith("MAIL") else [E, M, line]:
            ours.say(step)
            theirs.sock.sendall(step.encode() + b"\r\n")
            [reply] = theirs.replies(1, end=False)
    assert reply.startswith("250 ")
    assert ours.output.decode().endswith(f"\r\n{STRICTER[line]}\r\n")
