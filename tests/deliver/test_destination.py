"""Where mail goes, and with whose rights."""

import pytest

from pyfix.deliver.destination import Destination, Rights, destination, spool_rights


@pytest.mark.parametrize(
    ("home_mailbox", "spool", "expected"),
    [
        ("Maildir/", "/var/mail", Destination("maildir", "/home/ada/Maildir", in_home=True)),
        ("Mail/inbox", "/var/mail/", Destination("mbox", "/home/ada/Mail/inbox", in_home=True)),
        ("", "/var/mail", Destination("mbox", "/var/mail/ada", in_home=False)),
        ("", "/var/mail/", Destination("maildir", "/var/mail/ada", in_home=False)),
    ],
)
def test_destination(home_mailbox: str, spool: str, expected: Destination) -> None:
    assert expected == destination("ada", "/home/ada", home_mailbox, spool)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (None, Rights(1000, 1001, give_away=False)),
        (0o41777, Rights(1000, 1001, give_away=False)),
        (0o42775, Rights(1000, 8, give_away=False)),
        (0o40755, Rights(0, 0, give_away=True)),
    ],
    ids=["not there", "all may write", "its group may write", "only root may write"],
)
def test_spool_rights(mode: int | None, expected: Rights) -> None:
    assert expected == spool_rights(mode, 8, 1000, 1001)
