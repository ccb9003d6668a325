"""rewrite: rewrites addresses to standard form, and resolves them to a transport and a next hop.

Description
    The rewrite role answers two questions. *Rewrite*: what is the standard form of these addresses, in the local
    ruleset or in the remote one. *Resolve*: to which class does a recipient belong, by which transport and to which
    next hop is it sent, does its class's recipient table list it. smtpd asks before it accepts a recipient, qmgr
    before it hands a message to a delivery agent.

    The lists and tables of the configuration are opened at the start. LMDB files that are replaced are noticed; a
    change of other tables needs a reload.

Protocol
    io.pyfix.Rewrite.

Security
    The role gets addresses from strangers and runs no part of them. It needs the configuration directory and the user
    database, read-only, and no network. A wrong answer can open a relay: see pyfix.rewriting.resolve for the law.

Standards
    RFC 5321 (source routes are ignored, address literals), RFC 6531 (UTF-8 addresses).

Diagnostics
    A table in trouble is reported as a warning; the recipients that it decides on are answered with transport
    ``retry`` and class ``error``, so that their mail waits.
"""

from typing import NoReturn

from pyfix.conf.config import Config
from pyfix.rewriting.resolve import Site, in_trouble
from pyfix.rewriting.settings import read_resolver
from pyfix.rewriting.standard import read_ruleset, standard_form
from pyfix.service.dispatch import Call
from pyfix.service.rewrite import INTERFACE, Resolve, Resolved, ResolveReply, Rewrite, Rewritten
from pyfix.service.role import Role, run_role
from pyfix.system.configuration import own_addresses
from pyfix.tables.table import TableError


class Rewriter:
    """The answers, from one configuration."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self.configure(role.conf)

    def configure(self, conf: Config) -> None:
        """Begins to answer from another configuration; ConfigError, and no change, when that cannot be used."""
        rulesets = {"local": read_ruleset(conf, "local"), "remote": read_ruleset(conf, "remote")}
        self._resolver = read_resolver(conf, own_addresses(conf))
        self._rulesets = rulesets

    def rewrite(self, call: Call[Rewrite]) -> Rewritten:
        """Brings addresses into standard form."""
        ruleset = self._rulesets[call.parameters.ruleset]
        return Rewritten(tuple(standard_form(address, ruleset) for address in call.parameters.addresses))

    def resolve(self, call: Call[Resolve]) -> ResolveReply:
        """Finds transport and next hop of recipients."""
        sites: dict[str, Site] = {}
        return ResolveReply(tuple([self._resolved(recipient, sites) for recipient in call.parameters.recipients]))

    def _resolved(self, recipient: str, sites: dict[str, Site]) -> Resolved:
        try:
            return self._resolver.resolve(recipient, sites)
        except TableError as error:
            self._role.journal.warning(str(error))
            return in_trouble(recipient)


async def start(role: Role) -> None:
    """Serves io.pyfix.Rewrite."""
    rewriter = Rewriter(role)
    role.on_reload.append(rewriter.configure)
    role.implement(INTERFACE, {"Rewrite": rewriter.rewrite, "Resolve": rewriter.resolve})


def main() -> NoReturn:
    """The role's main function."""
    run_role("rewrite", start, __doc__)


if __name__ == "__main__":
    main()
