"""A local recipient's name: the user, and the address extension behind the recipient delimiter.

Source: Postfix's postconf(5), recipient_delimiter; local(8), ADDRESS EXTENSION.
"""

from typing import NamedTuple

_RESERVED = ("postmaster", "mailer-daemon", "double-bounce")
"""These are never split: their mail must arrive whatever the delimiter is."""


class LocalRecipient(NamedTuple):
    """A recipient's local part, taken apart. The user is in lower case; no extension: ``None``."""

    user: str
    extension: str | None


def local_recipient(local_part: str, delimiters: str, *, owner_request_special: bool = True) -> LocalRecipient:
    """Takes a local part (internal form) apart at the first of the delimiters.

    Nothing is cut off where no user would be left. With ``owner_request_special`` and ``-`` among the delimiters,
    ``owner-list`` and ``list-request`` are whole names. An extension with a ``/`` is dropped: it may end up in file
    names.
    """
    local = fold(local_part)
    if not delimiters or local in _RESERVED:
        return LocalRecipient(local, None)
    if owner_request_special and "-" in delimiters and (local.startswith("owner-") or local.endswith("-request")):
        return LocalRecipient(local, None)
    cut = min((i for i in map(local.find, delimiters) if i >= 0), default=-1)
    if cut <= 0:
        return LocalRecipient(local, None)
    extension = local[cut + 1 :]
    return LocalRecipient(local[:cut], None if "/" in extension else extension)


def fold(text: str) -> str:
    """A text with ASCII letters in lower case. Others stay: U+212A must not become a ``k``."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")
