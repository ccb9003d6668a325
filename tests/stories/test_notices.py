"""What senders and postmaster get to know, from the client's wish to the report in the mailbox."""

import asyncio
import os
import pwd
import re
import smtplib
import threading
from contextlib import contextmanager

import pytest
from system_under_test import SystemUnderTest, free_port

pytestmark = pytest.mark.system

USER = pwd.getpwuid(os.getuid()).pw_name
ME = f"{USER}@mail.example.com"
MESSAGE = "From: a@example.com\r\nTo: b@example.net\r\nSubject: story\r\nMessage-Id: <1@x>\r\n\r\nline one\r\n"


class NextHost(asyncio.Protocol):
    """A host that takes everything, and notes the commands; ``refusal`` is its reply to RCPT, if it has one."""

    commands: list[bytes]
    extensions = b"250 PIPELINING\r\n"
    refusal = b""

    def connection_made(self, transport):
        self.transport = transport
        self.data, self.buffer = False, b""
        transport.write(b"220 next\r\n")

    def data_received(self, data):
        self.buffer += data
        while b"\n" in self.buffer:
            line, _, self.buffer = self.buffer.partition(b"\n")
            self.answer(line.rstrip(b"\r"))

    def answer(self, line):
        verb = line[:4].upper()
        if self.data:
            self.data = line != b"."
            if not self.data:
                self.transport.write(b"250 2.0.0 kept\r\n")
            return
        self.commands.append(line)
        if verb == b"EHLO":
            self.transport.write(b"250-next\r\n" + self.extensions)
        elif verb == b"RCPT" and self.refusal:
            self.transport.write(self.refusal)
        elif verb == b"DATA":
            self.data = not self.refusal
            self.transport.write(b"503 5.5.1 no\r\n" if self.refusal else b"354 go\r\n")
        else:
            self.transport.write(b"250 2.0.0 ok\r\n")


@contextmanager
def next_host(port, **attributes):
    """The host in a thread; what it was told."""
    kind = type("Host", (NextHost,), {"commands": [], **attributes})
    loop, stop, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def main():
        async with await loop.create_server(kind, "127.0.0.1", port):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert started.wait(10)
    try:
        yield kind.commands
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    port = free_port()
    settings = (
        f"relayhost = [127.0.0.1]:{port}\nminimal_backoff_time = 2s\nmaximal_backoff_time = 2s\nqueue_run_delay = 1s\n"
        "transport_retry_time = 1s\ndelay_warning_time = 1s\nconfirm_delay_cleared = yes\n"
        f"notify_classes = 2bounce, protocol\nerror_notice_recipient = {ME}\n2bounce_notice_recipient = {ME}\n"
        "smtp_connection_cache_on_demand = no\nsmtpd_authorized_verp_clients = 127.0.0.1\n"
    )
    with SystemUnderTest(tmp_path_factory.mktemp("system"), settings) as running:
        running.next_port = port
        yield running


def send(system, *commands, message=MESSAGE):
    """A dialogue up to the message; the message's queue ID."""
    with smtplib.SMTP("127.0.0.1", system.smtp_port, timeout=30) as smtp:
        smtp.ehlo()
        for command in commands:
            code, text = smtp.docmd(command)
            assert code == 250, text
        code, text = smtp.data(message)
        assert code == 250
        return text.split()[-1].decode()


def mail_about(system, queue_id):
    """The messages in the user's mailbox that name a queue ID in their report."""
    wanted = f"\nX-pyfix-Queue-ID: {queue_id}\n".encode()
    return [content for content in system.maildir(USER) if wanted in content]


def the_notice(system, queue_id, number=1):
    system.wait_until(lambda: len(mail_about(system, queue_id)) >= number, f"notice {number} about {queue_id}")
    found = mail_about(system, queue_id)
    assert len(found) == number
    return found[-1]


def test_a_success_is_told_on_demand(system):
    queue_id = send(
        system, f"MAIL FROM:<{ME}> ENVID=an+2Bid RET=HDRS", f"RCPT TO:<{ME}> NOTIFY=SUCCESS ORCPT=rfc822;me+2Btoo@x"
    )
    notice = the_notice(system, queue_id)
    assert b"\nSubject: Successful Mail Delivery Report\n" in notice
    assert b"\nOriginal-Envelope-Id: an+id\n" in notice
    assert b"\nOriginal-Recipient: rfc822;me+too@x\nAction: delivered\nStatus: 2.0.0\n" in notice
    assert b"line one" not in notice
    assert f"{queue_id}: sender delivery status notification: " in system.log_text()


@pytest.mark.parametrize("dsn", [False, True], ids=["relayed", "passed on"])
def test_who_tells_of_a_success_at_the_next_host(system, dsn):
    with next_host(system.next_port, extensions=b"250 DSN\r\n" if dsn else b"250 PIPELINING\r\n") as commands:
        queue_id = send(
            system, f"MAIL FROM:<{ME}> ENVID=q+2B RET=FULL", "RCPT TO:<b@next.example> NOTIFY=SUCCESS,DELAY"
        )
        system.wait_log(f"{queue_id}: removed")
    mail = next(command for command in commands if command.startswith(b"MAIL"))
    rcpt = next(command for command in commands if command.startswith(b"RCPT"))
    if dsn:
        assert mail.endswith(b" ENVID=q+2B RET=FULL")
        assert rcpt == b"RCPT TO:<b@next.example> ORCPT=rfc822;b@next.example NOTIFY=SUCCESS,DELAY"
        assert mail_about(system, queue_id) == []
    else:
        assert (mail, rcpt) == (f"MAIL FROM:<{ME}>".encode(), b"RCPT TO:<b@next.example>")
        assert b"\nAction: relayed\n" in the_notice(system, queue_id)


@pytest.mark.parametrize(("notify", "told"), [("NEVER", 0), ("SUCCESS", 0), ("FAILURE", 1)])
def test_a_failure_is_told_as_notify_says(system, notify, told):
    queue_id = send(system, f"MAIL FROM:<{ME}>", f"RCPT TO:<no-{told}-{notify[:2]}@next.example> NOTIFY={notify}")
    with next_host(system.next_port, refusal=b"550 5.1.1 no such user\r\n"):
        system.wait_log(f"{queue_id}: removed")
    assert len(mail_about(system, queue_id)) == told or b"Action: failed" in the_notice(system, queue_id)
    assert (f"{queue_id}: sender non-delivery notification" in system.log_text()) is bool(told)


def test_a_delay_is_told_once_and_so_is_its_end(system):
    queue_id = send(system, f"MAIL FROM:<{ME}>", "RCPT TO:<late@next.example>")
    notice = the_notice(system, queue_id)
    assert b"\nSubject: Delayed Mail (still being retried)\n" in notice
    assert re.search(rb"\nAction: delayed\nStatus: 4\.4\.1\n(.*\n)+Will-Retry-Until: ", notice)
    attempts = rf"{queue_id}: to=<late@next\.example>.*status=deferred"
    system.wait_until(lambda: len(re.findall(attempts, system.log_text())) >= 2, "a second attempt")
    assert len(mail_about(system, queue_id)) == 1
    with next_host(system.next_port):
        notice = the_notice(system, queue_id, 2)
    assert b"\nSubject: Successful Mail Delivery Report\n" in notice
    assert b"\nAction: relayed\n" in notice


def test_what_cannot_be_returned_goes_to_postmaster(system):
    with next_host(system.next_port, refusal=b"550 5.1.1 no such user\r\n"):
        queue_id = send(system, "MAIL FROM:<>", "RCPT TO:<gone@next.example>")
        notice = the_notice(system, queue_id)
    assert b"\nReturn-Path: <MAILER-DAEMON>\n" in notice
    assert notice.startswith(b"Return-Path: <double-bounce@mail.example.com>\n")
    assert f"{queue_id}: postmaster non-delivery notification: " in system.log_text()


def test_a_bounce_of_a_bounce_never_leaves(system):
    with next_host(system.next_port, refusal=b"550 5.1.1 no such user\r\n") as commands:
        queue_id = send(system, "MAIL FROM:<double-bounce@mail.example.com>", "RCPT TO:<gone@next.example>")
        system.wait_log(f"{queue_id}: undeliverable postmaster notification discarded")
        system.wait_log(f"{queue_id}: removed")
    assert sum(command.startswith(b"MAIL") for command in commands) == 1
    assert mail_about(system, queue_id) == []


def test_no_word_of_a_host_becomes_a_header(system):
    refusal = b"550-5.7.1 no\r\n550-\x00Bcc: x@evil.example\x0b\x85\r\n550 5.7.1 \xe2\x80\xa8X-Evil: yes\r\n"
    with next_host(system.next_port, refusal=refusal):
        queue_id = send(system, f"MAIL FROM:<{ME}> ENVID=x+3A+20y", "RCPT TO:<evil@next.example> ORCPT=x;+40Bcc+3A+20z")
        notice = the_notice(system, queue_id)
    assert not re.search(rb"\n(Bcc|X-Evil)", notice)
    assert b"Diagnostic-Code: smtp; 550-5.7.1 no 550-" in notice
    with smtplib.SMTP("127.0.0.1", system.smtp_port, timeout=30) as smtp:
        smtp.ehlo()
        assert smtp.docmd("MAIL FROM:<a@x> ENVID=x+0AX-Evil:")[0] == 501
        assert smtp.docmd("MAIL FROM:<a@x>")[0] == 250
        assert smtp.docmd("RCPT TO:<b@next.example> ORCPT=rfc822;a+0D+0AX-Evil:")[0] == 501


def test_every_recipient_has_its_return_path(system):
    with next_host(system.next_port) as commands:
        queue_id = send(system, f"MAIL FROM:<{ME}> XVERP=-=", "RCPT TO:<a@next.example>", "RCPT TO:<b@next.example>")
        system.wait_log(f"{queue_id}: removed")
    paths = sorted(re.findall(rb"MAIL FROM:<([^>]*)>", b"\n".join(commands)))
    assert paths == [f"{USER}-{name}=next.example@mail.example.com".encode() for name in "ab"]


@pytest.mark.parametrize(("option", "action"), [("-v", b"delivered"), ("-bv", b"deliverable")])
def test_sendmail_reports_on_demand(system, option, action):
    before = len(system.maildir(USER))
    done = system.run("sendmail", option, "-f", ME, ME, input=MESSAGE.replace("\r\n", "\n"))
    assert done.returncode == 0, done.stderr
    system.wait_until(
        lambda: any(b"Mail Delivery Status Report" in content for content in system.maildir(USER)[before:]), "a report"
    )
    [report] = [content for content in system.maildir(USER)[before:] if b"Mail Delivery Status Report" in content]
    assert b"\nAction: " + action + b"\n" in report
    assert len(system.maildir(USER)) == before + (2 if option == "-v" else 1)


def test_postmaster_gets_the_transcript_of_a_session(system):
    with smtplib.SMTP("127.0.0.1", system.smtp_port, timeout=30) as smtp:
        smtp.ehlo("client.example")
        smtp.docmd("NONSENSE")
    system.wait_until(lambda: any(b" In:  NONSENSE\n" in content for content in system.maildir(USER)), "a transcript")


def test_postmaster_gets_the_transcript_of_a_host_that_does_not_understand(system):
    with next_host(system.next_port, refusal=b"501 5.5.4 what?\r\n"):
        send(system, f"MAIL FROM:<{ME}>", "RCPT TO:<what@next.example>")
        subject = f"\nSubject: pyfix SMTP client: errors from 127.0.0.1[127.0.0.1]:{system.next_port}\n".encode()
        system.wait_until(lambda: any(subject in content for content in system.maildir(USER)), "a transcript")
    transcript = next(content for content in system.maildir(USER) if subject in content)
    assert b"\n Out: RCPT TO:<what@next.example>\n" in transcript
    assert b"\n In:  501 5.5.4 what?\n" in transcript
