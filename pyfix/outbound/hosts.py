"""The hosts to try for a destination, in their order: MX records, their addresses, and who among them is this system.

find_hosts() is a generator: it yields questions, is sent their answers, and returns the hosts. Who asks, and whom, is
the caller's business.

Source: RFC 5321 section 5, RFC 7505 (null MX).
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import NamedTuple

from pyfix.net.dns import Asked, decisive
from pyfix.net.hostname import address_family, canonical_address, is_hostname
from pyfix.outbound.destination import SMTP_PORT, Destination
from pyfix.outbound.trouble import Trouble, loops_back
from pyfix.service.resolver import Answer, Lookup, Record

_MX_LIMIT = 100

Questions = Generator[tuple[Lookup, ...], Sequence[Answer], "Found"]
Shuffle = Callable[[list["Host"]], None]


class Host(NamedTuple):
    """A host to try."""

    name: str
    address: str
    port: int
    # of its MX record; 0 without
    preference: int = 0

    @property
    def label(self) -> str:
        """``NAME[ADDRESS]``, as in logs."""
        return f"{self.name}[{self.address}]"


class Found(NamedTuple):
    """The hosts, in the order in which to try them; none: with the reason."""

    hosts: tuple[Host, ...] = ()
    trouble: Trouble | None = None
    # this system is one of the destination's mail exchangers
    own: bool = False

    @property
    def best(self) -> int:
        """The preference of the best hosts."""
        return self.hosts[0].preference if self.hosts else 0


class Policy(NamedTuple):
    """What the configuration says about finding hosts."""

    # the record types of inet_protocols: "A", "AAAA"
    types: tuple[str, ...]
    # smtp_address_preference: "any", "ipv4" or "ipv6"
    preference: str
    # smtp_balance_inet_protocols, with smtp_mx_address_limit
    balance: bool
    address_limit: int
    # smtp_randomize_addresses
    randomize: bool
    # smtp_defer_if_no_mx_address_found, ignore_mx_lookup_error
    defer_without_address: bool
    ignore_mx_error: bool
    # smtp_host_lookup has native: /etc/hosts counts
    native: bool
    # addresses of this system, in canonical form
    own_addresses: frozenset[str]


def find_hosts(destination: Destination, policy: Policy, shuffle: Shuffle) -> Questions:
    """The hosts of a destination. ``shuffle`` puts a list into random order, in place."""
    if destination.mx and not address_family(destination.name):
        found = yield from _by_mx(destination, policy)
    else:
        found = yield from _by_name(destination, policy)
    if len(found.hosts) > 1:
        return found._replace(hosts=tuple(_arrange(list(found.hosts), policy, shuffle)))
    return found


async def ask(questions: Questions, look_up: Callable[[Lookup], Awaitable[Answer]]) -> Found:
    """Puts the questions to somebody, those that come together at once."""
    try:
        asked = next(questions)
        while True:
            asked = questions.send(await asyncio.gather(*map(look_up, asked)))
    except StopIteration as stop:
        found: Found = stop.value
        return found


def _by_mx(destination: Destination, policy: Policy) -> Questions:
    name = destination.name
    if not is_hostname(name):
        reason = f"Name service error for {name}: invalid host or domain name"
        return Found(trouble=Trouble("5.4.4", reason))
    (answer,) = yield (Lookup(name, "MX"),)
    if answer.status in {"not_found", "no_data"}:
        return (yield from _by_name(destination, policy))
    if answer.status != "ok":
        if policy.ignore_mx_error:
            return (yield from _by_name(destination, policy))
        return Found(trouble=_lookup_trouble(Asked(name, "MX", answer.status, answer.reason)))
    records = sorted(answer.records, key=lambda record: record.preference)
    if any(record.value == "" for record in records):
        return Found(trouble=Trouble("5.1.0", f"Domain {name} does not accept mail (nullMX)"))
    exchangers = [r for r in records if is_hostname(r.value) or address_family(r.value)][:_MX_LIMIT]
    if not exchangers:
        reason = f"Name service error for name={name} type=MX: Malformed or unexpected name server reply"
        return Found(trouble=Trouble("5.4.4", reason))
    hosts, trouble = yield from _addresses(exchangers, destination.port, policy)
    if not hosts:
        assert trouble is not None
        if policy.defer_without_address and not trouble.soft:
            trouble = trouble.softened(trouble.dsn[2:])
        return Found(trouble=trouble)
    return _without_own(name, hosts, exchangers[0].preference, _own(hosts, destination, policy))


def _by_name(destination: Destination, policy: Policy) -> Questions:
    hosts, trouble = yield from _addresses((Record(destination.name),), destination.port, policy)
    if _own(hosts, destination, policy):
        return Found(trouble=loops_back(destination.name), own=True)
    return Found(tuple(hosts), None if hosts else trouble)


def _addresses(
    records: Sequence[Record], port: int, policy: Policy
) -> Generator[tuple[Lookup, ...], Sequence[Answer], tuple[list[Host], Trouble | None]]:
    """The addresses of all names, in the order of the names; with the last name's trouble."""
    questions = tuple(
        Lookup(record.value, kind, policy.native)  # type: ignore[arg-type] # Policy.types are among the types
        for record in records
        if is_hostname(record.value)
        for kind in policy.types
    )
    answers = iter((yield questions) if questions else ())
    hosts: list[Host] = []
    trouble: Trouble | None = None
    for record in records:
        name = record.value
        if family := address_family(name):
            if ("A" if family == 4 else "AAAA") in policy.types:
                hosts.append(Host(name, name, port, record.preference))
            else:
                trouble = Trouble("5.4.4", f"address family of host {name} is disabled by inet_protocols")
            continue
        if not is_hostname(name):
            trouble = Trouble("5.4.4", f"Name service error for {name}: invalid host or domain name")
            continue
        asked = []
        for kind in policy.types:
            answer = next(answers)
            asked.append(Asked(name, kind, answer.status, answer.reason))
            hosts += [Host(name, r.value, port, record.preference) for r in answer.records if address_family(r.value)]
        if not (final := decisive(asked)).found:
            trouble = _lookup_trouble(final)
    if not hosts and trouble is None:
        trouble = Trouble("4.4.3", f"Name service error for {records[0].value}: no usable address")
    return hosts, trouble


def _lookup_trouble(asked: Asked) -> Trouble:
    status = "5.4.4" if asked.absent else "5.4.3" if asked.status == "fail" else "4.4.3"
    return Trouble(status, asked.text())


def _own(hosts: Sequence[Host], destination: Destination, policy: Policy) -> list[Host]:
    """The hosts that are this system: only on the standard port, for another port may be another program."""
    if destination.port != SMTP_PORT:
        return []
    return [host for host in hosts if canonical_address(host.address) in policy.own_addresses]


def _without_own(name: str, hosts: list[Host], best_preference: int, own: list[Host]) -> Found:
    """Only hosts that are preferred to this system may be tried: the others would send the mail here."""
    if not own:
        return Found(tuple(hosts))
    better = tuple(host for host in hosts if host.preference < own[0].preference)
    if better:
        return Found(better, own=True)
    if hosts[0].preference != best_preference:
        # A better exchanger exists, but has no address now.
        return Found(trouble=Trouble("4.4.4", f"unable to find primary relay for {name}"), own=True)
    return Found(trouble=loops_back(name), own=True)


def _arrange(hosts: list[Host], policy: Policy, shuffle: Shuffle) -> list[Host]:
    """By preference; equals in random order, or the preferred address family first."""
    if policy.randomize:
        shuffle(hosts)
    first = {"ipv4": 4, "ipv6": 6}.get(policy.preference, 0)
    hosts.sort(key=lambda host: (host.preference, bool(first) and address_family(host.address) != first))
    return _balance(hosts, policy.address_limit) if policy.balance and policy.address_limit else hosts


def _balance(hosts: list[Host], limit: int) -> list[Host]:
    """Lets no address family fill all the places that will be tried: the one that is left out gets half of them."""
    if len(hosts) <= limit or limit < 2:
        return hosts
    families = [address_family(host.address) for host in hosts]
    seen = set(families[:limit])
    if len(seen) == 2 or len(set(families)) == 1:
        return hosts
    (major,) = seen
    others = [host for host, family in zip(hosts, families, strict=True) if family != major][: limit // 2]
    kept = hosts[: limit - len(others)]
    return kept + others + [host for host in hosts[limit - len(others) :] if host not in others]
