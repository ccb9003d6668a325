"""discard: mail that is dropped, and told to be sent."""

import pytest
from roles.idle_agent import outcomes

from pyfix.roles import discard


@pytest.mark.parametrize(
    ("nexthop", "outcome"),
    [
        ("silently", ("sent", "2.0.0", "silently")),
        ("2.1.5 gone", ("sent", "2.1.5", "gone")),
        ("5.1.1 gone", ("sent", "2.1.1", "gone")),
        ("", ("sent", "2.0.0", "discarded")),
    ],
)
def test_discard_says_sent(nexthop, outcome):
    assert outcomes(discard, "discard", nexthop) == outcome
