"""Who may use a public service: the lists authorized_mailq_users, authorized_flush_users and authorized_submit_users.

The service checks them, against the number that the kernel tells (SO_PEERCRED); a check in the command would bind only
those who use the command.

Source: postconf(5), postqueue(1) SECURITY.
"""

import asyncio
import os

from pyfix.conf.config import Config
from pyfix.service.denied import Stranger
from pyfix.system import account
from pyfix.system.journal import Journal
from pyfix.system.unix import Peer
from pyfix.tables.key import fold
from pyfix.tables.match import string_list
from pyfix.tables.table import TableError

_NO_ACCOUNT = "unknown"


class UserList:
    """One of the lists. Raises ConfigError for one that cannot be used."""

    def __init__(self, conf: Config, parameter: str) -> None:
        words = conf.words(parameter)
        # As in Postfix the user database is not asked then: the usual case works whatever the database does.
        self.everyone = bool(words) and words[0].startswith("static:")
        self._users = string_list(conf, parameter)

    async def check(self, uid: int) -> Stranger | None:
        """None for a user who is on the list. Raises TableError, and OSError when the user database cannot tell."""
        if self.everyone:
            return None
        # Database and tables may be on the network: nobody else waits for them.
        return await asyncio.to_thread(self._check, uid)

    def _check(self, uid: int) -> Stranger | None:
        found = account.by_uid(uid)
        name = found.name if found else _NO_ACCOUNT
        return None if self._users.matches(fold(name)) else Stranger(name, uid)


class QueueUsers:
    """A list that root, the mail owner and the service's own user need not stand on. Trouble goes to the log."""

    def __init__(self, conf: Config, parameter: str, journal: Journal) -> None:
        self._parameter = parameter
        self._journal = journal
        self._users = UserList(conf, parameter)
        owner = account.by_name(conf.text("mail_owner"))
        self._privileged = {0, os.geteuid(), *([owner.uid] if owner else [])}

    async def check(self, peer: Peer) -> Stranger | None:
        """None for a caller who may; whoever cannot be looked up may not."""
        if peer.uid in self._privileged:
            return None
        try:
            return await self._users.check(peer.uid)
        except (TableError, OSError) as error:
            self._journal.warning(f"{self._parameter}: {error}")
            return Stranger(_NO_ACCOUNT, peer.uid)
