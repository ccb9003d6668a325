"""Results as outcomes."""

import pytest

from pyfix.deliver.outcome import Result, outcome
from pyfix.service.delivery import Recipient


@pytest.mark.parametrize(("dsn", "status"), [("2.0.0", "sent"), ("4.3.0", "deferred"), ("5.1.1", "bounced")])
def test_the_class_of_the_status_decides(dsn: str, status: str) -> None:
    found = outcome(Recipient(17, "ada@example.org"), Result(dsn, "because"))
    assert (found.offset, found.status, found.dsn, found.reason, found.relay) == (17, status, dsn, "because", "local")
