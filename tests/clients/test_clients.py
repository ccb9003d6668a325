"""Real clients send through the running system, to a mailbox here and to an aiosmtpd at the next host.

The message arrives byte for byte, below the header lines that Postfix too would put on top.
"""

import os
import pwd
import re
import shlex
import shutil
import smtplib
import subprocess
from typing import Self

import pytest
from aiosmtpd.controller import Controller
from system_under_test import SystemUnderTest, free_port

pytestmark = pytest.mark.system

USER = pwd.getpwuid(os.getuid()).pw_name
HERE = f"{USER}@mail.example.com"
THERE = "bob@example.net"
SENDER = "ada@example.org"

HEADER = """\
From: Ada Lovelace <ada@example.org>
To: Bob <bob@example.net>,
\tTorvald =?utf-8?Q?=C3=A6?= <t@example.net>
Subject: a message of every kind
Date: Sun, 22 Nov 2026 12:00:00 +0100
Message-Id: <KEY@example.org>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
X-Trailing-Space: \x20
"""

BODIES = {
    "plain": "hello\n",
    "dots": ".\n..\n. x\n...\nend\n",
    "utf-8": "Grüße, 日本語, \U0001f600\n",
    "from": "\nFrom here to there\n>From there\n",
    "space": "tab\t\ntwo spaces  \n \n\n\n\n",
    "lines": "".join(f"line {number} {'x' * (number % 900)}\n" for number in range(1200)),
}
# Only sendmail's own callers can send these: in SMTP every line ends, and CR stands only before LF.
RAW_BODIES = {"no line end": "hello", "empty": ""}


class Next:
    """The next host: an aiosmtpd, which shares no code with pyfix."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, list[str], bytes]] = []
        self._controller = Controller(self, hostname="127.0.0.1", port=port, decode_data=False, enable_SMTPUTF8=True)

    async def handle_DATA(self, _server, _session, envelope) -> str:  # noqa: N802 -- aiosmtpd's name
        self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 Ok"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_) -> None:
        self._controller.stop()


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The system, the next host, and a sendmail program to call."""
    port = free_port()
    directory = tmp_path_factory.mktemp("clients")
    with Next(port) as far, SystemUnderTest(directory / "system", f"relayhost = [127.0.0.1]:{port}\n") as system:
        system.far = far
        system.sendmail = directory / "sendmail"
        system.sendmail.write_text(f'#!/bin/sh\nexec {shlex.join(system.command("sendmail"))} "$@"\n')
        system.sendmail.chmod(0o755)
        yield system


def with_program(name: str) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def client(system, *command: str, text: bytes = b"") -> None:
    ran = subprocess.run(command, input=text, capture_output=True, env=system.environment, timeout=60, check=False)
    assert ran.returncode == 0, (ran.stdout[-2000:], ran.stderr[-2000:])


def by_smtplib(system, _message: bytes, file) -> None:
    with smtplib.SMTP("127.0.0.1", system.smtp_port, timeout=30) as smtp:
        refused = smtp.sendmail(SENDER, [HERE, THERE], file.read_bytes(), mail_options=["BODY=8BITMIME"])
    assert refused == {}


def by_swaks(system, _message: bytes, file) -> None:
    client(
        system, with_program("swaks"), "--server", f"127.0.0.1:{system.smtp_port}", "--from", SENDER,
        "--to", f"{HERE},{THERE}", "--data", f"@{file}", "--pipeline", "--silent", "2",
    )  # fmt: skip


def by_swaks_over_sendmail(system, _message: bytes, file) -> None:
    client(
        system, with_program("swaks"), "--pipe", f"{system.sendmail} -bs", "--from", SENDER,
        "--to", f"{HERE},{THERE}", "--data", f"@{file}", "--silent", "2",
    )  # fmt: skip


def by_msmtp(system, message: bytes, _file) -> None:
    client(
        system, with_program("msmtp"), "--file=/dev/null", "--host=127.0.0.1", f"--port={system.smtp_port}",
        "--tls=off", "--auth=off", f"--from={SENDER}", "--", HERE, THERE, text=message,
    )  # fmt: skip


def by_curl(system, _message: bytes, file) -> None:
    client(
        system, with_program("curl"), "--silent", "--show-error", "--url", f"smtp://127.0.0.1:{system.smtp_port}",
        "--mail-from", SENDER, "--mail-rcpt", HERE, "--mail-rcpt", THERE, "--upload-file", str(file),
    )  # fmt: skip


def by_sendmail(system, message: bytes, _file) -> None:
    client(system, str(system.sendmail), "-i", "-f", SENDER, "--", HERE, THERE, text=message)


def by_sendmail_with_crlf(system, message: bytes, _file) -> None:
    client(system, str(system.sendmail), "-oi", "-r", SENDER, HERE, THERE, text=message.replace(b"\n", b"\r\n"))


SMTP_CLIENTS = [by_smtplib, by_swaks, by_swaks_over_sendmail, by_msmtp, by_curl]
LOCAL_CLIENTS = [by_sendmail, by_sendmail_with_crlf]
CASES = [(c, name) for c in (*SMTP_CLIENTS, *LOCAL_CLIENTS) for name in BODIES]
CASES += [(c, name) for c in LOCAL_CLIENTS for name in RAW_BODIES]


def delivered(system, key: str, received: str) -> tuple[bytes, bytes]:
    """The message with that key as it came to the mailbox and to the next host, below what was put on top.

    ``received`` is a pattern for the Received lines that it got here.
    """
    mark = f"Message-Id: <{key}@".encode()
    here: list[bytes] = []
    there: list[tuple[str, list[str], bytes]] = []

    def look() -> bool:
        here[:] = [text for text in system.maildir(USER) if mark in text]
        there[:] = [mail for mail in system.far.got if mark in mail[2]]
        return bool(here) and bool(there)

    system.wait_until(look, f"{key} in both places")
    assert (len(here), len(there)) == (1, 1)
    top = rf"Return-Path: <{SENDER}>\nX-Original-To: {HERE}\nDelivered-To: {HERE}\n{received}"
    match = re.match(top.encode(), here[0])
    assert match, here[0][:1000]
    sender, recipients, text = there[0]
    assert (sender, recipients) == (SENDER, [THERE])
    far_match = re.match(received.replace(r"\n", r"\r\n").encode(), text)
    assert far_match, text[:1000]
    return here[0][match.end() :], text[far_match.end() :]


BY = r"by mail\.example\.com \(pyfix\) with E?SMTP id \w+;\n\t[^\n]+\n"
FROM_SMTP = rf"Received: from \S+ \(\S+ \[127\.0\.0\.1\]\)\n\t{BY}"
FROM_USER = rf"Received: by mail\.example\.com \(pyfix, from userid {os.getuid()}\)\n\tid \w+; [^\n]+\n"


@pytest.mark.parametrize(("send", "body"), CASES, ids=[f"{c.__name__}-{name}" for c, name in CASES])
def test_content_arrives_byte_for_byte(host, tmp_path, send, body: str) -> None:
    key = f"{send.__name__}-{body}".replace(" ", "-").replace("_", "-")
    message = (HEADER.replace("KEY", key) + "\n" + (BODIES | RAW_BODIES)[body]).encode()
    file = tmp_path / "message"
    wire = message.replace(b"\n", b"\r\n")
    # swaks ends what it is given with a line end of its own
    file.write_bytes(wire.removesuffix(b"\r\n") if send in (by_swaks, by_swaks_over_sendmail) else wire)
    send(host, message, file)
    local = send in LOCAL_CLIENTS or send is by_swaks_over_sendmail
    here, there = delivered(host, key, FROM_USER if local else FROM_SMTP)
    expected = message if message.endswith(b"\n") else message + b"\n"
    assert here == expected
    assert there == expected.replace(b"\n", b"\r\n")


def test_s_nail_through_sendmail(host) -> None:
    """A mail program that composes the message itself and leaves the rest to sendmail."""
    settings = [
        "v15-compat", "sendwait", f"mta={host.sendmail}", "mta-no-default-arguments",
        f"mta-arguments=-i -f {SENDER} --",
        f"from={SENDER}", "ttycharset=utf-8", "mime-encoding=8bit",
    ]  # fmt: skip
    client(
        host, with_program("s-nail"), "-:/", *(word for setting in settings for word in ("-S", setting)),
        "-C", "X-Key: s-nail-1", "-s", "Grüße from s-nail", HERE, THERE,
        text="Grüße\n.\nend\n".encode(),
    )  # fmt: skip
    host.wait_until(lambda: any(b"X-Key: s-nail-1" in text for text in host.maildir(USER)), "the message")
    (here,) = (text for text in host.maildir(USER) if b"X-Key: s-nail-1" in text)
    head, _, body = here.partition(b"\n\n")
    assert body.decode() == "Grüße\n.\nend\n"
    assert head.lower().count(b"\nmessage-id: ") == 1
    assert b"\nSubject: =?utf-8?" in head or b"\nSubject: =?UTF-8?" in head
    assert head.startswith(f"Return-Path: <{SENDER}>".encode())


def test_recipients_from_the_header(host) -> None:
    """sendmail -t, as PHP and many scripts call it."""
    text = f"To: {HERE}\nCc: {THERE}\nBcc: carol@example.net\nMessage-Id: <t-option@example.org>\n\nhi\n".encode()
    client(host, str(host.sendmail), "-t", "-i", "-f", SENDER, "-F", "Ada L", text=text)

    def arrived() -> bool:
        there = [name for _, names, message in host.far.got if b"t-option@" in message for name in names]
        here = [message for message in host.maildir(USER) if b"t-option@" in message]
        return len(here) == 1 and sorted(there) == [THERE, "carol@example.net"]

    host.wait_until(arrived, "all copies")
    (here,) = (message for message in host.maildir(USER) if b"t-option@" in message)
    assert b"\nBcc:" not in here
    assert b"\nFrom: Ada L <ada@example.org>\n" in here


def test_output_of_php_like_callers(host) -> None:
    """Nothing on standard output or error, and a status that tells success from failure."""
    options = {"capture_output": True, "env": host.environment, "check": False}
    fine = subprocess.run([host.sendmail, "-t", "-i"], input=f"To: {HERE}\n\nx\n".encode(), **options)
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, b"", b"")
    wrong = subprocess.run([host.sendmail, "-t", "-i"], input=b"Subject: x\n\nx\n", **options)
    assert (wrong.returncode, wrong.stdout) == (os.EX_TEMPFAIL, b"")
    assert b"No recipient addresses found in message header" in wrong.stderr


def test_a_large_message_through_sendmail(host) -> None:
    line = "0123456789" * 7 + "\n"
    body = line * 100_000
    head = f"From: {SENDER}\nTo: {HERE}\nDate: Sun, 22 Nov 2026 12:00:00 +0100\nMessage-Id: <large@example.org>\n\n"
    client(host, str(host.sendmail), "-i", "-f", SENDER, HERE, THERE, text=(head + body).encode())
    here, there = delivered(host, "large", FROM_USER)
    assert here == (head + body).encode()
    assert there == here.replace(b"\n", b"\r\n")


def test_nothing_was_left_behind(host) -> None:
    """No traceback, no message in the queue, no temporary file in the mailbox."""
    host.wait_empty()
    assert "panic:" not in host.log_text()
    assert os.listdir(host.mail / USER / "tmp") == []
