import pytest

from pyfix.mail.status import split_status, with_class


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.7.1 no relaying", ("5.7.1", "no relaying")),
        ("4.2.2", ("4.2.2", "")),
        ("2.0.999 fine", ("2.0.999", "fine")),
        ("5.7.1x", ("5.0.0", "5.7.1x")),
        ("5.1.1\nx", ("5.0.0", "5.1.1\nx")),
        ("5.1 x", ("5.0.0", "5.1 x")),
        ("5.1.1234 x", ("5.0.0", "5.1.1234 x")),
        ("5.1.\u0661 x", ("5.0.0", "5.1.\u0661 x")),
        ("3.0.0 x", ("5.0.0", "3.0.0 x")),
        (" 5.1.1 x", ("5.0.0", " 5.1.1 x")),
        ("no status", ("5.0.0", "no status")),
        ("", ("5.0.0", "")),
    ],
)
def test_a_text_may_begin_with_a_status(text, expected):
    assert split_status(text, "5.0.0") == expected


def test_the_class_changes_alone():
    assert with_class("5.1.1", "4") == "4.1.1"
