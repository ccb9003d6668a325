"""What happens to mail: delivered, deferred and retried, bounced. The whole system, started by ``pyfix up``."""

import asyncio
import json
import os
import pwd
import re
import smtplib
import socket
import threading
from contextlib import contextmanager

import load
import pytest
from system_under_test import SystemUnderTest, free_port

pytestmark = pytest.mark.system

USER = pwd.getpwuid(os.getuid()).pw_name
MESSAGE = "From: a@example.com\r\nTo: b@example.net\r\nSubject: story\r\n\r\nline one\r\n.dot\r\n"


@contextmanager
def next_host(port, on_message=lambda _content, _recipients: None, replies=None):
    """A next host in a thread; ``replies`` maps a verb to the reply it gives instead of 250."""
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def main():
        accepted = []

        def accept():
            accepted.append(load.SinkProtocol(on_message, replies))
            return accepted[-1]

        async with await loop.create_server(accept, "127.0.0.1", port):
            started.set()
            await stop.wait()
        for protocol in accepted:
            protocol.close()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert started.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def submit(system, recipient, sender="a@example.com", text=MESSAGE):
    with smtplib.SMTP("127.0.0.1", system.smtp_port, timeout=30) as smtp:
        return smtp.sendmail(sender, [recipient], text)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    port = free_port()
    settings = (
        f"relayhost = [127.0.0.1]:{port}\nminimal_backoff_time = 2s\nmaximal_backoff_time = 2s\nqueue_run_delay = 1s\n"
        "transport_retry_time = 1s\n"
    )
    with SystemUnderTest(tmp_path_factory.mktemp("system"), settings) as running:
        running.next_port = port
        yield running


def test_local_mail_is_found_in_the_maildir(system):
    submit(system, f"{USER}@mail.example.com")
    line = system.wait_log(rf"(\w+): to=<{USER}@mail\.example\.com>, relay=local, .*dsn=2\.0\.0, status=sent")
    assert "delivered to maildir" in system.log_text()
    system.wait_log(f"{line[1]}: removed")
    content = system.maildir(USER)[-1]
    assert content.endswith(b"\n\nline one\n.dot\n")
    assert content.startswith(b"Return-Path: <a@example.com>\nX-Original-To: ")
    assert b"Subject: story\n" in content


def test_refused_connections_defer_and_the_schedule_retries(system):
    """Connection refused, deferred/, tried again by the schedule, delivered."""
    submit(system, "later@remote.example")
    line = system.wait_log(r"(\w+): to=<later@remote\.example>, relay=none, .*dsn=4\.4\.1, status=deferred \((.*)\)")
    assert line[2] == f"connect to 127.0.0.1[127.0.0.1]:{system.next_port}: Connection refused"
    system.wait_until(lambda: line[1] in system.queue_ids("deferred"), "the message in deferred/")
    arrived = []
    with next_host(system.next_port, lambda content, recipients: arrived.append((content, list(recipients)))):
        system.wait_log(rf"{line[1]}: to=<later@remote\.example>, .*dsn=2\.0\.0, status=sent \(250 2\.0\.0 Ok\)")
        system.wait_log(f"{line[1]}: removed")
    content, recipients = arrived[0]
    assert recipients == ["later@remote.example"]
    assert content.endswith(b"\r\n\r\nline one\r\n.dot\r\n")
    assert system.queue_ids() == []
    assert not list((system.spool / "defer").rglob(line[1]))


@pytest.mark.parametrize(
    ("verb", "command"), [(b"RCPT", "RCPT TO command"), (b"MAIL", "MAIL FROM command"), (b"DATA", "DATA command")]
)
def test_a_permanent_refusal_comes_back_to_the_sender(system, verb, command):
    """A 5xx of the next host: a notice in the sender's mailbox, with the refusal and the message."""
    before = len(system.maildir(USER))
    who = f"{verb.decode().lower()}@refused.example"
    refusal = b"550 5.7.9 no such luck\r\n"
    with next_host(system.next_port, replies={verb: refusal}):
        submit(system, who, f"{USER}@mail.example.com")
        line = system.wait_log(rf"(\w+): to=<{who}>, .*dsn=5\.7\.9, status=bounced \((.*)\)")
        assert line[2].startswith("host 127.0.0.1[127.0.0.1] said: 550 5.7.9 no such luck (in reply to ")
        assert command in line[2]
        notice = system.wait_log(f"{line[1]}: sender non-delivery notification: (\\w+)")
        system.wait_log(f"{line[1]}: removed")
        system.wait_log(f"{notice[1]}: removed")
    content = system.maildir(USER)[before].decode()
    assert content.startswith("Return-Path: <>\n")
    assert "Subject: Undelivered Mail Returned to Sender\n" in content
    assert f"Final-Recipient: rfc822; {who}\n" in content
    assert "Status: 5.7.9\n" in content
    assert "Action: failed\n" in content
    assert "Diagnostic-Code: smtp; 550 5.7.9 no such luck\n" in content
    assert "Subject: story\n" in content
    assert "multipart/report" in content


def test_a_temporary_refusal_is_no_failure(system):
    with next_host(system.next_port, replies={b"RCPT": b"450 4.2.0 greylisted\r\n"}):
        submit(system, "grey@remote.example")
        line = system.wait_log(r"(\w+): to=<grey@remote\.example>, .*dsn=4\.2\.0, status=deferred \((.*)\)")
        assert "said: 450 4.2.0 greylisted (in reply to RCPT TO command)" in line[2]
    with next_host(system.next_port):
        system.wait_log(rf"{line[1]}: to=<grey@remote\.example>, .*status=sent")


def test_postsuper_holds_and_expires_mail_of_a_running_system(system):
    """Held mail does not expire; released with no time left it is returned after the next attempt."""
    submit(system, "given-up@remote.example", f"{USER}@mail.example.com")
    line = system.wait_log(r"(\w+): to=<given-up@remote\.example>, .*status=deferred")
    queue_id = line[1]
    assert system.run("postsuper", "-h", queue_id).stderr.splitlines() == [
        f"postsuper: {queue_id}: placed on hold",
        "postsuper: Placed on hold: 1 message",
    ]
    assert system.run("postsuper", "-e", queue_id).stderr.startswith(f"postsuper: {queue_id}: expired\n")
    (listed,) = map(json.loads, system.run("postqueue", "-j").stdout.splitlines())
    assert (listed["queue_name"], listed["queue_id"], listed["forced_expire"]) == ("hold", queue_id, True)
    assert system.run("postqueue", "-f").returncode == 0
    assert system.run("postsuper", "-f", queue_id).stderr.splitlines() == [
        f"postsuper: {queue_id}: released from hold",
        "postsuper: Force-expired: 0 messages",
        "postsuper: Released from hold: 1 message",
    ]
    system.wait_log(f"{queue_id}: from=<{USER}@mail\\.example\\.com>, status=force-expired, returned to sender")
    system.wait_log(f"{queue_id}: removed")
    system.wait_empty()


def test_an_unknown_user_comes_back_to_the_sender(system):
    """From sendmail, where no SMTP server refuses the recipient first."""
    before = len(system.maildir(USER))
    done = system.run("sendmail", "-f", f"{USER}@mail.example.com", "nobody-here@mail.example.com", input=MESSAGE)
    assert done.returncode == 0, done.stderr
    line = system.wait_log(r"(\w+): to=<nobody-here@mail\.example\.com>, relay=local, .*dsn=5\.1\.1, status=bounced")
    notice = system.wait_log(f"{line[1]}: sender non-delivery notification: (\\w+)")
    system.wait_log(f"{notice[1]}: removed")
    assert 'unknown user: "nobody-here"' in system.maildir(USER)[before].decode()


@pytest.mark.parametrize(
    ("option", "who", "status", "delivered"),
    [("-bv", USER, "deliverable", 0), ("-bv", "nobody-here", "undeliverable", 0), ("-v", USER, "sent", 1)],
)
def test_a_report_is_sent_to_who_asks_for_it(system, option, who, status, delivered):
    before, start = len(system.maildir(USER)), len(system.log_text())
    address = f"{who}@mail.example.com"

    def told():
        return re.search(r"(\w+): sender delivery status notification: (\w+)", system.log_text()[start:])

    done = system.run("sendmail", option, "-f", f"{USER}@mail.example.com", address, input=MESSAGE)
    said = f"Mail Delivery Status Report will be mailed to <{USER}@mail.example.com>.\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    system.wait_until(told, "a report")
    message, report = told().groups()
    for queue_id in (message, report):
        system.wait_log(f"{queue_id}: removed")
    assert re.search(rf"{message}: to=<{address}>, relay=local, .*status={status} ", system.log_text())
    contents = [content.decode() for content in system.maildir(USER)[before:]]
    assert len(contents) == 1 + delivered
    [content] = [content for content in contents if "Subject: Mail Delivery Status Report\n" in content]
    assert f"Final-Recipient: rfc822; {address}\n" in content


def test_an_unknown_user_is_refused_at_rcpt(system):
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        submit(system, "nobody-here@mail.example.com")
    ((code, text),) = caught.value.recipients.values()
    assert code == 550
    assert text.startswith(b"5.1.1 <nobody-here@mail.example.com>: Recipient address rejected: User unknown in local")


def test_a_null_senders_failure_gives_no_notice(system):
    done = system.run("sendmail", "-f", "<>", "nobody-null@mail.example.com", input=MESSAGE)
    assert done.returncode == 0, done.stderr
    line = system.wait_log(r"(\w+): to=<nobody-null@mail\.example\.com>, relay=local, .*status=bounced")
    system.wait_log(f"{line[1]}: removed")
    assert f"{line[1]}: sender non-delivery notification" not in system.log_text()
    assert not list((system.spool / "bounce").rglob(line[1]))


def test_the_log_tells_the_whole_story(system):
    """Each line of a message's life, in its order, in Postfix's words."""
    arrived = []
    with next_host(system.next_port, lambda content, _recipients: arrived.append(content)):
        submit(system, "story@remote.example", "teller@example.com")
        line = system.wait_log(r"(\w+): to=<story@remote\.example>, .*status=sent")
        system.wait_log(f"{line[1]}: removed")
    story = [text for text in system.log_text().splitlines() if f" {line[1]}: " in text]
    sent = (
        rf"pyfix/smtp\[\d+\]: \w+: to=<story@remote\.example>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:{system.next_port}, "
        r"(conn_use=\d+, )?delay=[\d.]+, delays=[\d./]+, dsn=2\.0\.0, status=sent \(250 2\.0\.0 Ok\)$"
    )
    patterns = [
        r"pyfix/smtpd\[\d+\]: \w+: client=\S+\[127\.0\.0\.1\]$",
        r"pyfix/cleanup\[\d+\]: \w+: message-id=<\S+>$",
        r"pyfix/qmgr\[\d+\]: \w+: from=<teller@example\.com>, size=\d+, nrcpt=1 \(queue active\)$",
        sent,
        r"pyfix/qmgr\[\d+\]: \w+: removed$",
    ]
    assert len(story) == len(patterns)
    for text, pattern in zip(story, patterns, strict=True):
        assert re.search(pattern, text), (text, pattern)
    traced = system.run("pyfix", "trace", line[1])
    assert traced.returncode == 0
    assert f"{line[1]}  from <teller@example.com>, " in traced.stdout
    assert re.search(r"^now      removed .*, after [\d.]+s in the queue$", traced.stdout, re.MULTILINE)
    assert re.search(
        r"^to       story@remote\.example  sent 2\.0\.0  [\d.]+s = [\d./]+  127\.", traced.stdout, re.MULTILINE
    )
    shown = system.run("pyfix", "top", "--once", "--prefix", str(system.directory)).stdout
    assert re.search(
        r"^per minute  received [1-9]\d*  delivered [1-9]\d*  deferred \d+  bounced \d+$", shown, re.MULTILINE
    )
    assert re.search(
        r"^messages    maildrop 0  incoming 0  active \d+  deferred \d+  hold 0  corrupt 0$", shown, re.MULTILINE
    )
    assert re.search(r"^pyfix-qmgr +1 +\d+\.\d MiB +- +\d+\.\d s$", shown, re.MULTILINE)
    assert b"Received: from " in arrived[0]
    assert b"ESMTP id " + line[1].encode() in arrived[0]


def test_a_stranger_may_not_relay(tmp_path):
    with SystemUnderTest(tmp_path / "s", "mynetworks = 192.0.2.1\n") as system:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            submit(system, "x@remote.example")
        assert next(iter(caught.value.recipients.values()))[0] == 454
        submit(system, f"{USER}@mail.example.com")
        system.wait_log("status=sent")


def test_the_system_ends_cleanly_and_starts_again(tmp_path):
    """Sockets and processes are gone after the end; deferred mail is there after the start."""
    with SystemUnderTest(tmp_path / "s", f"relayhost = [127.0.0.1]:{free_port()}\n") as system:
        submit(system, "x@remote.example")
        line = system.wait_log(r"(\w+): to=<x@remote\.example>, .*status=deferred")
        processes = system.processes()
        system.stop()
        assert not any(p.is_running() for p in processes)
        assert not [p for p in (system.directory / "run").rglob("*") if p.is_socket()]
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", system.smtp_port), timeout=5)
        system.start()
        listed = system.run("mailq")
        assert line[1] in listed.stdout
