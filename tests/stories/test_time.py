"""The whole system over days, and when its clock jumps: libfaketime says what time it is to all of its programs.

What the programs take for the wall clock is the real time and an offset, which is read from a file at every look. The
monotonic clock stays as it is, as it does where an administrator sets a clock; no timer runs faster.
"""

import itertools
import os
import pwd
import re
import smtplib
import time
from pathlib import Path

import pytest
from system_under_test import ROOT, SystemUnderTest, free_port

pytestmark = pytest.mark.system

USER = pwd.getpwuid(os.getuid()).pw_name
SENDER = f"{USER}@mail.example.com"
HOUR = 3600
DAY = 24 * HOUR
SETTINGS = """\
relayhost = [127.0.0.1]:{port}
delay_warning_time = 4h
maximal_backoff_time = 12h
maximal_queue_lifetime = 5d
minimal_backoff_time = 1h
queue_run_delay = 1s
transport_retry_time = 1s
"""


class TimedSystem(SystemUnderTest):
    """A system whose programs believe in another time."""

    def __init__(self, directory):
        super().__init__(directory, SETTINGS.format(port=free_port()))
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        self._offset = self.directory / "offset"
        self.offset = 0
        self.move_to(time.time())
        variables = {
            "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": self._offset, "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        }  # fmt: skip
        text = "[Service]\n" + "".join(f"Environment={name}={value}\n" for name, value in variables.items())
        for unit in (ROOT / "units").glob("*.service"):
            drop_in = self.etc / "systemd" / f"{unit.name}.d/time.conf"
            drop_in.parent.mkdir(parents=True)
            drop_in.write_text(text)

    def now(self):
        """What the system takes for the time."""
        return time.time() + self.offset

    def move_to(self, moment):
        """Sets the clock."""
        self.offset = int(moment - time.time())
        following = self._offset.with_suffix(".new")
        following.write_text(f"{self.offset:+d}\n")
        following.chmod(0o644)
        following.rename(self._offset)

    def submit(self, recipient):
        """Submits a message; its queue ID."""
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=30) as smtp:
            smtp.mail(SENDER)
            smtp.rcpt(recipient)
            return smtp.data(f"From: {SENDER}\r\nSubject: time\r\n\r\nbody\r\n")[1].split()[-1].decode()

    def next_attempt(self, queue_id, after=0.0):
        """When a deferred message will be tried, once that is later than ``after``; None when it is gone."""
        found = None

        def deferred():
            nonlocal found
            paths = list((self.spool / "deferred").rglob(queue_id))
            if paths and paths[0].stat().st_mtime > after:
                found = paths[0].stat().st_mtime
            return found or f"{queue_id}: removed" in self.log_text()

        self.wait_until(deferred, f"the next deferral of {queue_id}")
        return found

    def received(self, subject):
        """The messages in the sender's mailbox with a subject."""
        return [text for text in self.maildir(USER) if f"\nSubject: {subject}".encode() in text.partition(b"\n\n")[0]]

    def cpu(self):
        """CPU seconds that the system's processes have used."""
        return sum(process.cpu_times().user + process.cpu_times().system for process in self.processes())


@pytest.fixture
def system(tmp_path):
    tmp_path.chmod(0o755)
    with TimedSystem(tmp_path) as system:
        yield system


def test_a_message_is_tried_for_five_days(system):
    """Growing intervals, a notice after delay_warning_time, at last the message comes back."""
    arrival = system.now()
    queue_id = system.submit("nobody@remote.example")
    attempts = [arrival]
    while moment := system.next_attempt(queue_id, after=attempts[-1] + 1):
        attempts.append(moment)
        system.move_to(moment + 1)
    minutes = [round((later - earlier) / 60) for earlier, later in itertools.pairwise(attempts)]
    assert minutes == sorted(minutes)
    assert (minutes[0], minutes[-1]) == (60, 12 * 60)
    # The first attempt is at once, the others after 1, 2, 4 hours.
    before, _, _ = system.log_text().partition(f"{queue_id}: sender delay notification: ")
    assert before.count(f"{queue_id}: to=<nobody@remote.example>") == 4
    assert 5 * DAY <= system.now() - arrival <= 5 * DAY + 12 * HOUR
    system.wait_log(rf"{queue_id}: from=<{re.escape(SENDER)}>, status=expired, returned to sender")
    system.wait_until(lambda: system.received("Undelivered Mail"), "the message's return")
    system.wait_until(lambda: system.received("Delayed Mail"), "the notice of the delay")
    assert len(system.received("Delayed Mail")) == 1
    system.wait_until(lambda: not system.queue_ids(), "an empty queue")


def test_a_clock_that_jumps_does_no_harm(system):
    """A day forward, an hour back: nothing is lost or hangs, nobody spins, and what waits is tried at its time."""
    waiting = system.submit("nobody@remote.example")
    planned = system.next_attempt(waiting)
    for jump in (DAY, -HOUR):
        system.move_to(system.now() + jump)
        began = time.monotonic()
        queue_id = system.submit(SENDER)
        system.wait_log(f"{queue_id}: removed", timeout=10)
        assert time.monotonic() - began < 5
        used, began = system.cpu(), time.monotonic()
        system.wait_until(lambda began=began: time.monotonic() - began > 2, "two seconds")
        assert system.cpu() - used < 1
        if jump > 0:
            planned = system.next_attempt(waiting, after=planned)
    system.move_to(planned + 1)
    assert system.next_attempt(waiting, after=planned) > planned
    assert len(system.received("time")) == 2
