"""error and retry: mail returned or deferred without a try."""

import pytest
from roles.idle_agent import outcomes

from pyfix.roles import error


@pytest.mark.parametrize(
    ("transport", "nexthop", "outcome"),
    [
        ("error", "no mail here", ("bounced", "5.0.0", "no mail here")),
        ("error", "5.1.1 unknown user", ("bounced", "5.1.1", "unknown user")),
        ("error", "4.1.1 odd class", ("bounced", "5.0.0", "odd class")),
        ("error", "", ("bounced", "5.0.0", "no reason given")),
        ("error", "5.7.1", ("bounced", "5.7.1", "no reason given")),
        ("retry", "mail system is down", ("deferred", "4.0.0", "mail system is down")),
        ("retry", "4.3.2 later", ("deferred", "4.3.2", "later")),
        ("retry", "5.3.2 later", ("deferred", "4.0.0", "later")),
        ("hold-all", "odd name", ("bounced", "5.0.0", "odd name")),
    ],
)
def test_the_next_hop_is_the_reason(transport, nexthop, outcome):
    assert outcomes(error, transport, nexthop) == outcome
