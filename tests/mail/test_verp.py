import pytest

from pyfix.mail.verp import check_delimiters, verp_sender


@pytest.mark.parametrize(
    ("delimiters", "sender", "recipient", "expected"),
    [
        ("+=", "list@example.com", "ada@example.org", "list+ada=example.org@example.com"),
        ("-+", "list@example.com", "ada@example.org", "list-ada+example.org@example.com"),
        ("+=", "list", "ada@example.org", "list+ada=example.org"),
        ("+=", "list@example.com", "ada", "list+ada@example.com"),
        ("+=", "a@b@example.com", "c@d@example.org", "a@b+c@d=example.org@example.com"),
    ],
)
def test_verp_sender(delimiters, sender, recipient, expected):
    assert verp_sender(delimiters, sender, recipient) == expected


@pytest.mark.parametrize(
    ("delimiters", "good"), [("+=", True), ("==", True), ("+", False), ("+=-", False), ("+x", False)]
)
def test_check_delimiters(delimiters, good):
    assert check_delimiters(delimiters, "-=+") is good
