"""What postmaster is told of an SMTP session."""

import pytest

from pyfix.access.transcript import faults, lines
from pyfix.wire.reply import Reply


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ((250, "2.1.0", "Ok"), None),
        ((354, "", "End data with <CR><LF>.<CR><LF>"), None),
        ((421, "4.4.2", "mx Error: timeout exceeded"), None),
        ((451, "4.3.0", "Error: queue file write error"), "resource"),
        ((452, "4.3.1", "Insufficient system storage"), "resource"),
        ((451, "4.3.0", "<x>: Temporary lookup failure"), "data"),
        ((450, "4.3.2", "<x>: Recipient address rejected: Come back later"), "policy"),
        ((451, "4.3.5", "Server configuration error"), "software"),
        ((452, "4.5.3", "Error: too many recipients"), "policy"),
        ((454, "4.7.1", "<x>: Relay access denied"), "policy"),
        ((500, "5.5.2", "Error: command not recognized"), "protocol"),
        ((501, "5.1.7", "Bad sender address syntax"), "protocol"),
        ((503, "5.5.1", "Error: need MAIL command"), "protocol"),
        ((554, "5.5.1", "Error: no valid recipients"), "protocol"),
        ((550, "5.1.1", "<x>: Recipient address rejected"), "policy"),
        ((552, "5.3.4", "Message size exceeds fixed limit"), "policy"),
        ((552, "5.3.4", "Error: message file too big"), "bounce"),
        ((554, "5.4.0", "Error: too many hops"), "bounce"),
        ((554, "5.7.1", "<x>: Relay access denied"), "policy"),
    ],
)
def test_what_kind_of_trouble_a_reply_tells_of(reply, fault):
    assert faults([b"RCPT", Reply(250, "2.0.0", "Ok"), Reply(*reply)]) == ({fault} if fault else set())


def test_what_was_said():
    history = [Reply(220, "", "mx"), b"EHLO \x07\xff x", Reply(250, "", "mx\nSIZE"), b"QUIT"]
    assert list(lines(history)) == ["Out: 220 mx", "In:  EHLO ?\ufffd x", "Out: 250-mx", "Out: 250 SIZE", "In:  QUIT"]
