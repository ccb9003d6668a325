"""Hosts that find fault with the protocol."""

from collections import deque
from types import SimpleNamespace

import pytest

from pyfix.outbound.transcript import report
from pyfix.wire.response import Response
from pyfix.wire.smtp_client import Envelope, Limits, Recipient, Replied, SmtpClient, Stage


class Postmaster:
    def __init__(self):
        self.told = []

    def tell(self, faults, subject, transcript, *, intro):
        self.told.append((faults, subject, list(transcript), intro))


@pytest.mark.parametrize(
    ("code", "told"),
    [(250, False), (354, False), (450, False), (500, True), (501, True), (509, True), (510, False), (550, False),
     (554, False), (555, True), (199, True), (600, True)],
)  # fmt: skip
def test_which_replies_are_faults(code, told):
    postmaster = Postmaster()
    replied = Replied(Stage.RCPT, Response(code, f"{code} x"), 0)
    machine = SmtpClient("me", Limits(100, 100, 100), fold=0)
    report(postmaster, SimpleNamespace(replies=[replied], relay="h[192.0.2.1]:25", machine=machine))
    assert bool(postmaster.told) is told


def test_what_was_said():
    machine = SmtpClient("me", Limits(2048, 2048, 100), fold=0)
    for data in (b"220 h\r\n", b"250-h\r\n250 DSN\r\n"):
        machine.receive(data)
        assert machine.next_event()
    machine.begin(Envelope("s@x", [Recipient("r@y")]))
    machine.receive(b"501 5.5.4 what\x07?\r\n")
    replied = machine.next_event()
    postmaster = Postmaster()
    report(postmaster, SimpleNamespace(replies=[replied], relay="h[192.0.2.1]:25", machine=machine))
    transcript = ["In:  220 h", "Out: EHLO me", "In:  250-h", "In:  250 DSN", "Out: MAIL FROM:<s@x>",
                  "In:  501 5.5.4 what??"]  # fmt: skip
    subject, intro = "SMTP client: errors from h[192.0.2.1]:25", "Unexpected response from h[192.0.2.1]:25."
    assert postmaster.told == [({"protocol"}, subject, transcript, intro)]
    assert not machine.history


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (("250 a", "550 b", "503 c"), False),
        (("550 a", "503 b", "503 c"), False),
        (("503 a", "250 b", "250 c"), True),
        (("250 a", "250 b", "503 c"), True),
    ],
)
def test_replies_to_what_was_sent_ahead_mean_nothing(texts, told):
    stages = [(Stage.MAIL, -1), (Stage.RCPT, 0), (Stage.DATA, -1)]
    replies = [Replied(stage, Response(int(text[:3]), text), i) for (stage, i), text in zip(stages, texts, strict=True)]
    accepted = [0] if texts[1].startswith("250") else []
    postmaster = Postmaster()
    machine = SimpleNamespace(accepted=accepted, history=deque())
    report(postmaster, SimpleNamespace(replies=replies, relay="h[192.0.2.1]:25", machine=machine))
    assert bool(postmaster.told) is told
