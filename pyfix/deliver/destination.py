"""Where a user's mail goes: home_mailbox, else mail_spool_directory; a trailing ``/`` makes it a Maildir.

Source: Postfix's postconf(5), home_mailbox, mail_spool_directory; local(8), MAILBOX DELIVERY.
"""

from typing import Literal, NamedTuple


class Destination(NamedTuple):
    """A mailbox."""

    kind: Literal["maildir", "mbox"]
    # absolute; a Maildir without its trailing slash
    path: str
    # below the user's home directory: everything about it is done with the user's rights
    in_home: bool


class Rights(NamedTuple):
    """With whose rights a mailbox file in the spool directory is made and locked, and whether it is given away."""

    uid: int
    gid: int
    # a new file is given to the user, because it was not made with the user's rights
    give_away: bool


def destination(user: str, home: str, home_mailbox: str, mail_spool_directory: str) -> Destination:
    """The mailbox of a user. ``user`` is a name from the user database, so it is no path."""
    if home_mailbox:
        path, in_home = f"{home}/{home_mailbox}", True
    else:
        path, in_home = f"{mail_spool_directory.rstrip('/')}/{user}", False
    # A spool directory that ends in / holds a Maildir for each user; one that does not, a file.
    if (home_mailbox or mail_spool_directory).endswith("/"):
        return Destination("maildir", path.rstrip("/"), in_home)
    return Destination("mbox", path, in_home)


def spool_rights(mode: int | None, directory_gid: int, uid: int, gid: int) -> Rights:
    """Least privilege for a file in a spool directory of that mode (None: it could not be looked at).

    Everyone may write there: the user's own rights. Its group may: the user with the directory's group. Nobody but
    root may: root's rights, and the file is given to the user.
    """
    if mode is None or mode & 0o002:
        return Rights(uid, gid, give_away=False)
    if mode & 0o020:
        return Rights(uid, directory_gid, give_away=False)
    return Rights(0, 0, give_away=uid != 0)
