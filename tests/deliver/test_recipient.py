"""Local parts taken apart."""

import pytest

from pyfix.deliver.recipient import LocalRecipient, fold, local_recipient


@pytest.mark.parametrize(
    ("local_part", "delimiters", "user", "extension"),
    [
        ("Ada", "", "ada", None),
        ("ada+Lists", "+", "ada", "lists"),
        ("ada+a+b", "+", "ada", "a+b"),
        ("ada-a+b", "+-", "ada", "a+b"),
        ("ada+", "+", "ada", ""),
        ("+ext", "+", "+ext", None),
        ("ada+../x", "+", "ada", None),
        ("Postmaster", "o", "postmaster", None),
        ("MAILER-DAEMON", "-", "mailer-daemon", None),
        ("double-bounce", "-", "double-bounce", None),
        ("owner-list", "-", "owner-list", None),
        ("list-request", "-", "list-request", None),
        ("list-x", "-", "list", "x"),
        ("", "+", "", None),
    ],
)
def test_user_and_extension(local_part: str, delimiters: str, user: str, extension: str | None) -> None:
    assert local_recipient(local_part, delimiters) == LocalRecipient(user, extension)


def test_owner_names_split_where_they_are_not_special() -> None:
    assert local_recipient("owner-list", "-", owner_request_special=False) == LocalRecipient("owner", "list")


def test_only_ascii_letters_fold() -> None:
    """The Kelvin sign must not become the k of a user's name."""
    assert fold("\u212aEVIN") == "\u212aevin"
