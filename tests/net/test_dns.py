"""DNS answers as values."""

import pytest

from pyfix.net.dns import Asked, decisive


@pytest.mark.parametrize(
    ("statuses", "index"),
    [
        (["ok", "again"], 0),
        (["again", "ok"], 1),
        (["not_found", "no_data"], 1),
        (["no_data", "not_found"], 1),
        (["again", "not_found"], 0),
        (["fail", "again"], 1),
        (["fail", "no_data"], 0),
        (["ok", "ok"], 1),
    ],
)
def test_which_answer_speaks_for_all(statuses, index):
    asked = [Asked("n", str(place), status) for place, status in enumerate(statuses)]
    assert decisive(asked) is asked[index]


def test_the_words_for_a_failure():
    assert Asked("d", "MX", "again").text() == (
        "Host or domain name not found. Name service error for name=d type=MX: Host not found, try again"
    )
    assert Asked("d", "A", "not_found", "my words").text().endswith("name=d type=A: my words")
