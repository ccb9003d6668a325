"""The mail that the programs send: the system they send it to, its clients, and the hosts that it goes on to."""

import asyncio
import contextlib
import random
import re
import smtplib
import subprocess
import threading

import load
from durability import mutant as mutants
from system_under_test import ROOT, SystemUnderTest, free_port

LOCAL = "root@mail.example.com"
EX_OK, EX_TEMPFAIL = 0, 75
SIZES = (100, 1000, 4000, 20_000, 150_000)
"""Bytes, about."""
RESTARTS = "[Service]\nRestartSec=20ms\nRestartMaxDelaySec=100ms\n"
"""After ten kills a role would wait for seconds: right for a role that cannot live, too long for hundreds of kills."""


def content(key, size=None):
    """A message with LF line ends, as sendmail reads it."""
    size = size or random.Random(key).choice(SIZES)
    return load.message(key, size).replace(b"\r\n", b"\n")


def recipients(key, *kinds):
    """Recipients of the kinds named: local, relay (goes on), grey (refused at first), error (is refused for good)."""
    return [LOCAL if kind == "local" else f"{key}@{kind}.example" for kind in kinds]


class Hosts:
    """Two next hosts, in a thread: one takes all, one takes recipients when they come again, and some never."""

    def __init__(self, ledger):
        self.ledger = ledger
        self.relay, self.picky = free_port(), free_port()
        self._seen = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def _receive(self, content, recipients):
        self.ledger.receive(content, recipients)

    def start(self):
        for port, protocol in ((self.relay, load.SinkProtocol), (self.picky, self._pick)):
            made = self._loop.create_server(lambda kind=protocol: kind(self._receive), "127.0.0.1", port, backlog=1000)
            self._loop.run_until_complete(made)
        self._thread.start()

    def _pick(self, on_message):
        return _Picky(on_message, self._seen)

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


class _Picky(load.SinkProtocol):
    def __init__(self, on_message, seen):
        super().__init__(on_message)
        self._seen = seen

    def recipient_reply(self, recipient):
        if recipient.endswith("@error.example"):
            return b"550 5.7.1 never\r\n"
        if recipient not in self._seen:
            self._seen.add(recipient)
            return b"450 4.2.0 later\r\n"
        return super().recipient_reply(recipient)


def make_system(directory, hosts, mutant=None, main_cf=""):
    """A system, not started, that relays to the hosts, is quick to try again, and tells postmaster nothing."""
    picky = f"smtp:[127.0.0.1]:{hosts.picky}"
    settings = (
        f"relayhost = [127.0.0.1]:{hosts.relay}\nsmtpd_error_sleep_time = 0\nnotify_classes =\n"
        "minimal_backoff_time = 1s\nmaximal_backoff_time = 2s\nqueue_run_delay = 1s\ntransport_retry_time = 1s\n"
        f"transport_maps = inline:{{error.example={picky}, grey.example={picky}, sender.example={picky}}}\n"
    )
    system = SystemUnderTest(directory, settings + main_cf)
    for unit in (ROOT / "units").glob("pyfix-*.service"):
        dropin = system.etc / "systemd" / f"{unit.name}.d"
        dropin.mkdir(parents=True)
        (dropin / "restart.conf").write_text(RESTARTS)
    if mutant:
        mutants.install(system, mutant)
    return system


class Client:
    """Sends messages one after the other, and notes in a ledger what came of them."""

    def __init__(self, system, ledger):
        self._system = system
        self._ledger = ledger
        self._smtp = None

    def send(self, key, recipients, way="smtp", size=None):
        """Sends a message by SMTP or sendmail; whether it was acknowledged."""
        text = content(key, size)
        self._ledger.send(key, text, recipients)
        sender = f"{key}@sender.example"
        send = self._by_sendmail if way == "sendmail" else self._by_smtp
        try:
            done, queue_id = send(text, sender, recipients)
        except smtplib.SMTPResponseException:
            done, queue_id = False, ""
        except (OSError, subprocess.TimeoutExpired):
            # no answer: nobody knows
            self.close()
            return False
        if done:
            self._ledger.acknowledge(key, queue_id)
        else:
            self._ledger.refuse(key)
        return done

    def _by_smtp(self, text, sender, recipients):
        if self._smtp is None:
            self._smtp = smtplib.SMTP("127.0.0.1", self._system.smtp_port, "client.example.com", timeout=60)
        smtp = self._smtp
        smtp.ehlo_or_helo_if_needed()
        replies = [smtp.mail(sender), *(smtp.rcpt(recipient) for recipient in recipients)]
        if any(code != 250 for code, _ in replies):
            smtp.rset()
            return False, ""
        data = text.replace(b"\n", b"\r\n")
        if smtp.has_extn("chunking"):
            smtp.send(b"BDAT %d LAST\r\n%s" % (len(data), data))
            code, answer = smtp.getreply()
        else:
            code, answer = smtp.data(data)
        found = re.search(rb"queued as (\w+)", answer)
        return code == 250, found[1].decode() if found else ""

    def _by_sendmail(self, text, sender, recipients):
        command = self._system.command("sendmail", "-i", "-f", sender, *recipients)
        done = subprocess.run(command, env=self._system.environment, input=text, stderr=subprocess.DEVNULL, timeout=60)
        if done.returncode == EX_TEMPFAIL:
            raise ConnectionError("postdrop's answer is not known")
        return done.returncode == EX_OK, ""

    def close(self):
        if self._smtp is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._smtp.close()
            self._smtp = None
