"""Outcomes as agents log and answer them, and soft_bounce, which changes both."""

import pytest
from msgspec.structs import replace
from roles.serving import Log

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.service.delivery import Deliver, Outcome, Recipient
from pyfix.service.outcomes import OutcomeLog

RECIPIENT = Recipient(7, "r@example.net")
REQUEST = Deliver("Q", 0, 0, 9, "smtp", "d", "s@example.com", (RECIPIENT,), 0, 0)


def conf(**parameters):
    return Config("/etc/pyfix", [Assignment(name, value, "main.cf", 1) for name, value in parameters.items()])


def settle(log, status, dsn):
    return log.settle(REQUEST, RECIPIENT, Outcome(7, status, dsn, "said so"), (0, 0, 0))


@pytest.mark.parametrize(
    ("soft_bounce", "status", "dsn", "expected", "line"),
    [
        ("no", "bounced", "5.1.1", ("bounced", "5.1.1"), "dsn=5.1.1, status=bounced (said so)"),
        ("yes", "bounced", "5.1.1", ("deferred", "4.1.1"), "dsn=4.1.1, status=SOFTBOUNCE (said so)"),
        ("yes", "deferred", "4.2.0", ("deferred", "4.2.0"), "dsn=4.2.0, status=deferred (said so)"),
        ("yes", "sent", "2.0.0", ("sent", "2.0.0"), "dsn=2.0.0, status=sent (said so)"),
    ],
)
def test_soft_bounce_makes_deferrals_of_bounces(soft_bounce, status, dsn, expected, line):
    journal = Log()
    settled = settle(OutcomeLog(journal, conf(soft_bounce=soft_bounce)), status, dsn)
    assert (settled.status, settled.dsn) == expected
    assert settled.reason == "said so"
    assert journal.lines[0].endswith(line)


def test_a_reload_changes_it_unless_it_is_wrong():
    log = OutcomeLog(Log(), conf(soft_bounce="yes"))
    with pytest.raises(ConfigError):
        log.configure(conf(soft_bounce="maybe"))
    assert settle(log, "bounced", "5.0.0").status == "deferred"
    log.configure(conf())
    assert settle(log, "bounced", "5.0.0").status == "bounced"


@pytest.mark.parametrize(
    ("status", "dsn", "shown"),
    [("sent", "2.1.5", "deliverable"), ("deferred", "4.4.1", "undeliverable"), ("bounced", "5.1.1", "undeliverable")],
)
def test_what_is_found_out_only_is_logged_so(status, dsn, shown):
    journal = Log()
    log = OutcomeLog(journal, conf(soft_bounce="yes"))
    outcome = Outcome(7, status, dsn, "said so")
    assert log.settle(replace(REQUEST, verify=True), RECIPIENT, outcome, (0, 0, 0)) == outcome
    assert journal.lines[0].endswith(f"dsn={dsn}, status={shown} (said so)")
