"""Errors of the system and what they mean for mail."""

import errno

import pytest

from pyfix.deliver.failure import mailbox_status


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EDQUOT, "5.2.2"),
        (errno.EFBIG, "5.2.2"),
        (errno.EISDIR, "5.2.0"),
        (errno.EAGAIN, "4.2.0"),
        (errno.EACCES, "4.2.0"),
        (errno.EPERM, "4.2.0"),
        (errno.EMLINK, "5.2.0"),
        (errno.ENOSPC, "4.3.0"),
        (errno.EIO, "4.3.0"),
        (errno.EROFS, "4.3.0"),
        (99999, "4.3.0"),
    ],
)
def test_mailbox_status(number: int, expected: str) -> None:
    assert expected == mailbox_status(number)
