"""The users and groups of this machine."""

import grp
import pwd


def passwd_entry(name: str) -> str | None:
    """A user's line as in passwd(5), looked up by name; None when there is no such user."""
    if "\0" in name:
        return None
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return None
    fields = (user.pw_name, user.pw_passwd, user.pw_uid, user.pw_gid, user.pw_gecos, user.pw_dir, user.pw_shell)
    return ":".join(str(field) for field in fields)


def group_entry(name: str) -> str | None:
    """A group's line as in group(5), looked up by name; None when there is no such group."""
    if "\0" in name:
        return None
    try:
        group = grp.getgrnam(name)
    except KeyError:
        return None
    return ":".join((group.gr_name, group.gr_passwd or "", str(group.gr_gid), ",".join(group.gr_mem)))
