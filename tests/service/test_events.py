"""The log lines are Postfix's."""

import pytest

from pyfix.service import events


def test_delivery():
    event = events.delivery(
        "4bXyz", "a@b.example", "c@b.example", "mx[192.0.2.1]:25", (0.01, 0, 0.2, 1.234), "2.0.0", "sent", "250 ok",
        connection_use=3,
    )  # fmt: skip
    assert event.message == (
        "4bXyz: to=<a@b.example>, orig_to=<c@b.example>, relay=mx[192.0.2.1]:25, conn_use=3, "
        "delay=1.4, delays=0.01/0/0.2/1.2, dsn=2.0.0, status=sent (250 ok)"
    )
    assert event.fields["PYFIX_STATUS"] == "sent"
    assert event.fields["PYFIX_DELAY_USEC"] == "1444000"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (0.004, "0"), (0.012, "0.01"), (0.2, "0.2"), (0.999, "1"), (1.25, "1.2"), (9.94, "9.9"), (9.96, "10"),
     (13.4, "13"), (123, "120"), (3678, "3700")],
)  # fmt: skip
def test_delays_have_two_significant_digits(seconds, text):
    assert events.format_delay(seconds) == text


def test_reject():
    facts = {"from": "a@x", "to": "b@y", "proto": "ESMTP", "helo": "h"}
    event = events.reject("NOQUEUE", "reject: RCPT from n[192.0.2.1]", "554 5.7.1 <b@y>: Relay access denied", facts)
    assert event.message == (
        "NOQUEUE: reject: RCPT from n[192.0.2.1]: 554 5.7.1 <b@y>: Relay access denied; "
        "from=<a@x> to=<b@y> proto=ESMTP helo=<h>"
    )
