"""Match lists: the values of mydestination, relay_domains, mynetworks and their like.

A list is searched from left to right, and the first pattern that matches decides; ``!pattern`` decides for "no".
``/file/name`` stands for the patterns in that file. ``type:table`` matches what the table has a value for, whatever
that is.

Source: postconf(5) mydestination, mynetworks, parent_domain_matches_subdomains.
"""

import ipaddress
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from pyfix.conf.config import Config
from pyfix.conf.error import ValueTrouble
from pyfix.conf.value import split_words
from pyfix.tables.cidr import parse_network
from pyfix.tables.key import fold
from pyfix.tables.table import Table, TableError, open_table, read_text

S = TypeVar("S")
Test = Callable[[S], bool]

_MAX_FILES = 50


class MatchList(Generic[S]):
    """Patterns as tests of a subject, each with what it decides."""

    def __init__(self, parameter: str, tests: list[tuple[Test[S], bool]]) -> None:
        self.parameter = parameter
        self._tests = tests

    def __bool__(self) -> bool:
        return bool(self._tests)

    def matches(self, subject: S) -> bool:
        """Whether the list has the subject; TableError when a table of the list is in trouble."""
        for test, verdict in self._tests:
            if test(subject):
                return verdict
        return False


class Client:
    """A host for network lists: its address, and its name if it has one."""

    __slots__ = ("address", "name", "text")

    def __init__(self, address: str, name: str = "") -> None:
        self.text = fold(address)
        self.name = fold(name)
        self.address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return
        # An IPv4 client on an IPv6 socket is an IPv4 client.
        self.address = (parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None) or parsed


def string_list(conf: Config, parameter: str) -> MatchList[str]:
    """A list of whole strings, such as mydestination; subjects must be folded (pyfix.tables.key)."""
    return _open(conf, parameter, _string_test)


def domain_list(conf: Config, parameter: str) -> MatchList[str]:
    """A list of domains, such as relay_domains; subjects must be folded.

    A domain matches its subdomains too where parent_domain_matches_subdomains names the list; else ``.domain`` matches
    the subdomains.
    """
    parents = parameter in conf.words("parent_domain_matches_subdomains")
    return _open(conf, parameter, lambda pattern: _domain_test(pattern, parents=parents))


def network_list(conf: Config, parameter: str) -> MatchList[Client]:
    """A list of networks, addresses and host names, such as mynetworks."""
    parents = parameter in conf.words("parent_domain_matches_subdomains")
    return _open(conf, parameter, lambda pattern: _client_test(pattern, parents=parents))


def _open(conf: Config, parameter: str, test: Callable[[str], Test[S]]) -> MatchList[S]:
    """The list that a parameter describes; ConfigError when a pattern is malformed or cannot be used."""
    try:
        patterns = list(_patterns(conf.words(parameter), [0]))
        return MatchList(parameter, [(test(pattern), verdict) for pattern, verdict in patterns])
    except TableError as error:
        raise conf.error(parameter, str(error)) from None
    except ValueTrouble as trouble:
        raise conf.error(parameter, trouble.message, trouble.hint) from None


def _patterns(words: tuple[str, ...], files: list[int], *, verdict: bool = True) -> Iterator[tuple[str, bool]]:
    """The patterns with what they decide; ``files`` counts the files read so far."""
    for word in words:
        pattern = word.lstrip("!")
        decides = verdict if (len(word) - len(pattern)) % 2 == 0 else not verdict
        if not pattern:
            raise ValueTrouble("a ! without a pattern", "write !pattern without a space")
        if pattern.startswith("/"):
            files[0] += 1
            if files[0] > _MAX_FILES:
                raise ValueTrouble(f"more than {_MAX_FILES} files", "does a file name itself?")
            yield from _patterns(_file_words(pattern), files, verdict=decides)
        else:
            yield pattern, decides


def _file_words(path: str) -> tuple[str, ...]:
    content = read_text(path, path)
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        raise TableError(path, "not UTF-8") from None
    return split_words("\n".join(line for line in lines if not line.lstrip(" \t").startswith("#")))


def _is_table(pattern: str) -> bool:
    return not pattern.startswith("[") and ":" in pattern


def _string_test(pattern: str) -> Test[str]:
    if _is_table(pattern):
        return _in_table(open_table(pattern))
    return fold(pattern).__eq__


def _in_table(table: Table) -> Test[str]:
    return lambda subject: table.look_up(subject) is not None


def _domain_test(pattern: str, *, parents: bool) -> Test[str]:
    if _is_table(pattern):
        table = open_table(pattern)
        return lambda subject: any(table.look_up(name) is not None for name in _names(subject, parents=parents))
    folded = fold(pattern)
    if parents:
        ending = "." + folded
        return lambda subject: subject == folded or (subject.endswith(ending) and subject != ending)
    if folded.startswith("."):
        return lambda subject: subject.endswith(folded)
    return folded.__eq__


def _names(domain: str, *, parents: bool) -> Iterator[str]:
    """The domain and its parents, the parents with a leading dot unless they stand for their subdomains."""
    yield domain
    at = domain.find(".", 1)
    while at > 0:
        yield domain[at + 1 :] if parents else domain[at:]
        at = domain.find(".", at + 1)


def _client_test(pattern: str, *, parents: bool) -> Test[Client]:
    if _is_table(pattern) and not _is_address(pattern):
        table = open_table(pattern)
        return lambda client: any(
            table.look_up(key) is not None for key in (*_names(client.name, parents=parents), client.text) if key
        )
    if "/" in pattern or pattern.startswith("[") or _is_address(pattern):
        network = parse_network(pattern)
        return lambda client: (
            client.address is not None and client.address.version == network.version and client.address in network
        )
    by_name = _domain_test(pattern, parents=parents)
    return lambda client: by_name(client.name)


def _is_address(pattern: str) -> bool:
    try:
        ipaddress.ip_address(pattern)
    except ValueError:
        return False
    return True
