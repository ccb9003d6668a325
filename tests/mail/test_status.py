import pytest

from pyfix.mail.status import is_status, split_status, status_of_reply, with_class


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.0.0", True),
        ("5.7.999", True),
        ("1.0.0", False),
        ("3.0.0", False),
        ("5.1", False),
        ("5.1.1\n", False),
        ("5.1.1234", False),
        ("5.1.\u0661", False),
        (" 5.1.1", False),
    ],
)
def test_what_is_a_status(text, expected):
    assert is_status(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.7.1 no relaying", ("5.7.1", "no relaying")),
        ("4.2.2", ("4.2.2", "")),
        ("5.7.1x", ("5.0.0", "5.7.1x")),
        ("no status", ("5.0.0", "no status")),
        ("", ("5.0.0", "")),
    ],
)
def test_a_text_may_begin_with_a_status(text, expected):
    assert split_status(text, "5.0.0") == expected


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (550, "5.1.1 unknown", "5.1.1"),
        (450, "4.2.0 later", "4.2.0"),
        (550, "unknown", "5.0.0"),
        (450, "5.1.1 confused", "4.0.0"),
        (250, "ok", "2.0.0"),
    ],
)
def test_a_reply_has_a_status(code, text, expected):
    assert status_of_reply(code, text) == expected


def test_the_class_changes_alone():
    assert with_class("5.1.1", "4") == "4.1.1"
