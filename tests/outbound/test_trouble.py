"""Postfix's words for what goes wrong."""

import pytest

from pyfix.outbound import trouble
from pyfix.wire.response import Response
from pyfix.wire.smtp_client import Stage

LABEL = "h.example[192.0.2.1]"


@pytest.mark.parametrize(
    ("text", "stage", "dsn", "reason"),
    [
        (
            "550 5.1.1 No such user",
            Stage.RCPT,
            "5.1.1",
            f"host {LABEL} said: 550 5.1.1 No such user (in reply to RCPT TO command)",
        ),
        ("450-a\n450 b", Stage.MAIL, "4.0.0", f"host {LABEL} said: 450-a 450 b (in reply to MAIL FROM command)"),
        ("554 x", Stage.END_OF_DATA, "5.0.0", f"host {LABEL} said: 554 x (in reply to end of DATA command)"),
        (
            "250 ok",
            Stage.DATA,
            "5.5.0",
            f"Protocol error: host {LABEL} said: 250 ok (in reply to DATA command)",
        ),
    ],
)
def test_refusals(text, stage, dsn, reason):
    found = trouble.said(Response(int(text[:3]), text), stage, "h.example", LABEL)
    assert found == (dsn, reason, "h.example", text.replace("\n", " "))


@pytest.mark.parametrize(("soften", "dsn"), [(True, "4.7.1"), (False, "5.7.1")])
def test_refusals_to_talk(soften, dsn):
    found = trouble.refused_to_talk(Response(554, "554 5.7.1 no"), "h.example", LABEL, soften=soften)
    assert found[:2] == (dsn, f"host {LABEL} refused to talk to me: 554 5.7.1 no")


def test_connections_that_break():
    assert trouble.lost_connection(Stage.MAIL, LABEL) == (
        "4.4.2", f"lost connection with {LABEL} while sending MAIL FROM", "", "",
    )  # fmt: skip
    assert trouble.timed_out(Stage.END_OF_DATA, LABEL).reason == (
        f"conversation with {LABEL} timed out while sending end of data -- message may be sent more than once"
    )
    assert trouble.no_connection(LABEL, 25, "Connection refused") == (
        "4.4.1", f"connect to {LABEL}:25: Connection refused", "", "",
    )  # fmt: skip


def test_loops():
    assert trouble.loops_back("d").loops
    assert trouble.loops_back("d", soft=True).loops
    assert trouble.loops_back("d", soft=True).soft
    assert not trouble.UNAVAILABLE.loops


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_has_words(stage):
    assert trouble.lost_connection(stage, LABEL).reason.startswith("lost connection with")
