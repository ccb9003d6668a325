"""Requests as envelopes."""

import pytest

from pyfix.outbound.envelope import make_envelope, needs_smtputf8
from pyfix.service.delivery import Deliver, Recipient
from pyfix.wire.smtp_client import Limits, SmtpClient


def request(*recipients, sender="s@example.com", smtputf8=False):
    return Deliver("Q", 0, 0, 9, "smtp", "d", sender, recipients, 0, 0, "8bit", smtputf8, "e", "FULL")


def machine(*keywords):
    made = SmtpClient("c", Limits(2048, 2048, 50), fold=998)
    made.capabilities = dict.fromkeys(keywords, "")
    return made


@pytest.mark.parametrize(
    ("recipient", "smtputf8", "address", "orcpt"),
    [
        (Recipient(1, "a@example"), False, "a@example", "rfc822;a@example"),
        (Recipient(1, "a b@example"), False, '"a b"@example', 'rfc822;"a b"@example'),
        (Recipient(1, "a@example", original="o@example"), False, "a@example", "rfc822;o@example"),
        (Recipient(1, "a@example", "o@example", "x400;x"), False, "a@example", "x400;x"),
        (Recipient(1, "\u00e4@example"), True, "\u00e4@example", "utf-8;\u00e4@example"),
    ],
)
def test_recipients(recipient, smtputf8, address, orcpt):
    made = make_envelope(request(recipient, smtputf8=smtputf8), [recipient], machine("DSN"))
    assert (made.recipients[0].address, made.recipients[0].orcpt) == (address, orcpt)
    assert make_envelope(request(recipient), [recipient], machine()).recipients[0].orcpt == ""


def test_the_rest():
    made = make_envelope(request(Recipient(1, "a", notify=4), sender='x"y@example'), [Recipient(1, "a")], machine())
    assert (made.sender, made.size, made.encoding, made.envid, made.ret) == ('"x\\"y"@example', 9, "8bit", "e", "FULL")


@pytest.mark.parametrize(
    ("made", "content", "needed"),
    [
        (request(Recipient(1, "\u00e4")), ["\u00e4".encode()], False),
        (request(Recipient(1, "a"), smtputf8=True), [b"A: b\n\n", "\u00e4".encode()], False),
        (request(Recipient(1, "a"), smtputf8=True), [b"A: b\n", "\n\u00e4".encode()], False),
        (request(Recipient(1, "a"), smtputf8=True), [b"A: b\n", "B: \u00e4\n\n".encode()], True),
        (request(Recipient(1, "a"), smtputf8=True), [], False),
        (request(Recipient(1, "\u00e4"), smtputf8=True), [], True),
        (request(Recipient(1, "a"), sender="\u00e4", smtputf8=True), [], True),
    ],
)
def test_smtputf8_is_needed_for_addresses_and_headers_only(made, content, needed):
    assert needs_smtputf8(made, lambda: iter(content)) is needed
