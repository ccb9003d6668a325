"""io.pyfix.Flush and io.pyfix.Register: early attempts for deferred mail, and what is deferred for whom.

io.pyfix.Flush is for people's commands: anyone may connect, and the service decides by SO_PEERCRED (root, the mail
owner, authorized_flush_users). io.pyfix.Register is for roles.
"""

from typing import Literal

from msgspec import Struct

from pyfix.service import denied
from pyfix.service.interface import Interface, Method, Nothing


class Message(Struct, frozen=True):
    """A message to try now, if it is deferred."""

    queue_id: str


class Site(Struct, frozen=True):
    """A destination: the domain of recipients, or an address literal with its brackets."""

    site: str


class Add(Struct, frozen=True):
    """A message that is deferred for these destinations."""

    queue_id: str
    sites: tuple[str, ...]


class Denied(denied.Denied):
    """The caller may not have mail tried early (authorized_flush_users)."""

    name = "io.pyfix.Flush.Denied"


class Done(Struct, frozen=True):
    """What came of a request.

    ``bad``: this cannot be a destination; ``deny``: fast_flush_domains does not have it; ``fail``: not now, and the log
    says why.
    """

    status: Literal["ok", "bad", "deny", "fail"] = "ok"


FLUSH = Interface(
    "io.pyfix.Flush",
    "Has deferred mail tried early",
    (
        Method("FlushAll", Nothing, Done, "Tries all mail"),
        Method("FlushMessage", Message, Done, "Tries a deferred message; any other is left alone"),
        Method("FlushSite", Site, Done, "Tries what is deferred for a destination"),
    ),
    (Denied,),
)
REGISTER = Interface(
    "io.pyfix.Register",
    "Keeps a record of which mail is deferred for which destination",
    (
        Method("Add", Add, Done, "Notes a message; destinations of which no record is kept are passed over"),
        Method("Send", Site, Done, "Tries what is deferred for a destination, for a client that may ask (ETRN)"),
    ),
)
