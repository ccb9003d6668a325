"""Users and groups that units name, as numbers, for ``pyfix up``."""

import grp
import os
import pwd

from pyfix.conf.unit_kinds import Identity, SocketUnit
from pyfix.system.listening import Owner
from pyfix.system.spawn import Credentials


class Identities:
    """Whom services run as.

    Users are changed only by root, and only where the static user exists; services with DynamicUser=, which only
    systemd can give, then run as the static user. ``missing`` collects names that units ask for in vain.
    """

    def __init__(self, static_user: str, *, change: bool) -> None:
        """``change``: whether to change users at all."""
        self.missing: set[str] = set()
        self._static_user = static_user
        if change and not _has_user(static_user):
            self.missing.add(static_user)
        self.changes = change and os.geteuid() == 0 and not self.missing

    def credentials(self, identity: Identity) -> Credentials | None:
        """Numbers for a service; None: as the supervisor."""
        name = identity.user or (self._static_user if identity.dynamic else "")
        if not self.changes or not name:
            return None
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            self.missing.add(name)
            return None
        gid = self._group(identity.group) if identity.group else user.pw_gid
        extra = [self._group(group) for group in identity.supplementary_groups]
        groups = {gid, *(group for group in extra if group >= 0), *os.getgrouplist(name, user.pw_gid)}
        return Credentials(user.pw_uid, gid if gid >= 0 else user.pw_gid, tuple(sorted(groups - {-1})))

    def owner(self, unit: SocketUnit) -> Owner:
        """Owner and group of a socket file."""
        if not self.changes:
            return Owner()
        return Owner(self._user(unit.user) if unit.user else -1, self._group(unit.group) if unit.group else -1)

    def _user(self, name: str) -> int:
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            self.missing.add(name)
            return -1

    def _group(self, name: str) -> int:
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            self.missing.add(name)
            return -1


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
