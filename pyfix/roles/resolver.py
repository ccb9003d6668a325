"""resolver: looks up names in DNS and /etc/hosts for all roles.

Description
    Asks the name servers of resolv.conf, over UDP and where an answer is too long over TCP, and remembers what they
    say for as long as they allow: also that a name does not exist, and for a few seconds that nobody would answer.
    The same question asked by many is put to the servers once.

    A client's name is what /etc/hosts or DNS has for its address, if that name has the address.

    --resolv-conf PATH
        Read this file in place of /etc/resolv.conf. A name server may be given with a port, ADDRESS:PORT or
        [ADDRESS]:PORT.
    --hosts PATH
        Read this file in place of /etc/hosts.

Protocol
    Serves io.pyfix.Resolver.

Security
    Reads what strangers write into DNS: messages are parsed by dnspython, answers are bounded in number and time, and
    a name from a PTR record counts only if it has the form of a host name. Every query has a port and an ID of its own.
    That an answer is secure (DNSSEC) is believed only of a name server on this machine.

Standards
    RFC 1035 (DNS), RFC 2308 (negative caching), RFC 7505 (null MX), RFC 9520 (failures).

Diagnostics
    A warning when no name server answers.
"""

import asyncio
import socket

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.rdatatype

from pyfix.net.answer_cache import AnswerCache
from pyfix.net.client_name import name_client
from pyfix.net.dns import REASONS, Asked
from pyfix.net.hostname import address_family, reverse_name
from pyfix.net.hosts_file import Hosts
from pyfix.net.resolv_conf import NameServer, ResolvConf, parse_resolv_conf
from pyfix.net.response import Reading, read_response
from pyfix.service.dispatch import Call
from pyfix.service.options import Options
from pyfix.service.resolver import INTERFACE, Answer, Client, ClientName, Lookup, Record
from pyfix.service.role import Role, run_role
from pyfix.system.clock import monotonic
from pyfix.system.watched_file import WatchedFile

_CACHE_LIMIT = 20_000
_FAILURE_TTL = 5
_QUERIES_LIMIT = 200
_ALIAS_LIMIT = 10
_NAME_LIMIT = 255
_FILE_LIMIT = 4 * 1024 * 1024
_PAYLOAD = 1232  # bytes that cross every network in one piece


class Resolver:
    """The answers, and where they come from."""

    def __init__(self, role: Role, resolv_conf: str, hosts: str) -> None:
        self._journal = role.journal
        self._cache: AnswerCache[Answer] = AnswerCache(_CACHE_LIMIT)
        self._asking: dict[tuple[str, str], asyncio.Task[Answer]] = {}
        self._places = asyncio.Semaphore(_QUERIES_LIMIT)
        self._resolv_conf_file = WatchedFile(resolv_conf, _FILE_LIMIT)
        self._hosts_file = WatchedFile(hosts, _FILE_LIMIT)
        self._resolv_conf = ResolvConf()
        self._hosts = Hosts()

    def lookup(self, call: Call[Lookup]) -> Answer | asyncio.Task[Answer]:
        """Serves Lookup."""
        question = call.parameters
        if question.hosts and question.type in _FAMILIES:
            self._read_files()
            found = self._from_hosts(question.name, question.type)
            if found is not None:
                return found
        return self._look_up(question.name, question.type)

    async def name_client(self, call: Call[Client]) -> ClientName:
        """Serves NameClient."""
        address = call.parameters.address
        if not address_family(address):
            return ClientName("unknown", "unknown", "not_found")
        self._read_files()
        names = [self._hosts.name(address)] if self._hosts.name(address) else []
        reverse = Asked(address, "PTR", "ok")
        if not names:
            answer = await self._answer(reverse_name(address), "PTR")
            reverse, names = Asked(address, "PTR", answer.status), [record.value for record in answer.records]
        judge = name_client(address, reverse, names)
        try:
            name = next(judge)
            kind = "A" if address_family(address) == 4 else "AAAA"
            judge.send(await self._addresses(name, kind))
        except StopIteration as stop:
            return ClientName(*stop.value)
        raise AssertionError("name_client() asks once")

    async def _addresses(self, name: str, kind: str) -> tuple[list[Asked], list[str]]:
        answer = self._from_hosts(name, kind) or await self._answer(name, kind)
        return [Asked(name, kind, answer.status)], [record.value for record in answer.records]

    def _from_hosts(self, name: str, kind: str) -> Answer | None:
        addresses = [a for a in self._hosts.addresses(name) if address_family(a) == _FAMILIES[kind]]
        return Answer("ok", tuple(Record(address) for address in addresses)) if addresses else None

    async def _answer(self, name: str, kind: str) -> Answer:
        found = self._look_up(name, kind)
        return found if isinstance(found, Answer) else await asyncio.shield(found)

    def _look_up(self, name: str, kind: str) -> Answer | asyncio.Task[Answer]:
        """The answer, or the task that will have it: one for all who ask."""
        if not name or len(name) > _NAME_LIMIT or not name.isascii() or not name.isprintable() or "\\" in name:
            return _empty("not_found")
        key = (name.lower(), kind)
        known = self._cache.get(key, monotonic())
        if known is not None:
            return known
        task = self._asking.get(key)
        if task is None:
            self._read_files()
            task = asyncio.get_running_loop().create_task(self._resolve(*key))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _resolve(self, name: str, kind: str) -> Answer:
        async with self._places:
            reading, secure = await self._follow(name, kind)
        records = tuple(Record(data.value, data.preference) for data in reading.records)
        answer = Answer(reading.status, records, secure, REASONS[reading.status])
        ttl = _FAILURE_TTL if reading.status in {"again", "fail"} else reading.ttl
        if ttl > 0:
            self._cache.put((name, kind), answer, monotonic() + ttl)
        return answer

    async def _follow(self, name: str, kind: str) -> tuple[Reading, bool]:
        """Asks, and goes after aliases that a server leaves to us."""
        ttl, secure = 86_400, True
        for _ in range(_ALIAS_LIMIT):
            try:
                question = dns.name.from_text(name)
            except dns.exception.DNSException:
                return Reading("not_found"), False
            reading, trusted = await self._ask(question, dns.rdatatype.from_text(kind))
            ttl, secure = min(ttl, reading.ttl), secure and trusted and reading.authentic
            if not reading.alias:
                return reading._replace(ttl=ttl), secure
            name = reading.alias
        return Reading("fail"), False

    async def _ask(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> tuple[Reading, bool]:
        """The first useful answer of a server; with whether that server is trusted."""
        conf = self._resolv_conf
        reading = Reading("again")
        for _ in range(conf.attempts):
            for server in conf.servers:
                reading = await self._ask_server(server, name, kind, conf.timeout)
                if reading.status not in {"again", "fail"}:
                    return reading, server.trusted
        if reading.status == "again":
            self._journal.warning(f"no answer for name={name.to_text(omit_final_dot=True)} type={kind.name}")
        return reading, False

    async def _ask_server(
        self, server: NameServer, name: dns.name.Name, kind: dns.rdatatype.RdataType, patience: int
    ) -> Reading:
        query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
        query.flags |= dns.flags.AD
        try:
            async with asyncio.timeout(patience):
                response = await _exchange(query, server)
                if response.rcode() == dns.rcode.FORMERR:
                    query.use_edns(False)
                    response = await _exchange(query, server)
        except (OSError, EOFError, dns.exception.Timeout):
            return Reading("again")
        except dns.exception.DNSException:
            return Reading("fail")
        return read_response(response, name, kind)

    def _read_files(self) -> None:
        resolv_conf = self._resolv_conf_file.changed()
        if resolv_conf is not None:
            self._resolv_conf = parse_resolv_conf(resolv_conf)
            self._cache.clear()
        hosts = self._hosts_file.changed()
        if hosts is not None:
            self._hosts = Hosts(hosts)


_FAMILIES = {"A": 4, "AAAA": 6}


async def _exchange(query: dns.message.Message, server: NameServer) -> dns.message.Message:
    """A server's response. The socket is connected, so that it is known at once that nobody listens there."""
    family = dns.inet.af_for_address(server.address)
    make = dns.asyncbackend.get_default_backend().make_socket
    made = make(family, socket.SOCK_DGRAM, 0, None, (server.address, server.port))  # type: ignore[no-untyped-call]
    async with await made as sock:
        response, _ = await dns.asyncquery.udp_with_fallback(
            query, server.address, port=server.port, ignore_unexpected=True, udp_sock=sock
        )
    return response


def _empty(status: str) -> Answer:
    return Answer(status, (), False, REASONS[status])  # type: ignore[arg-type] # a key of REASONS


def main() -> None:
    """The executable."""
    options = Options("resolver", __doc__ or "", ("resolv-conf", "hosts"))

    async def start(role: Role) -> None:
        files = options.extra.get("resolv-conf", "/etc/resolv.conf"), options.extra.get("hosts", "/etc/hosts")
        resolver = Resolver(role, *files)
        role.implement(INTERFACE, {"Lookup": resolver.lookup, "NameClient": resolver.name_client})

    run_role("resolver", start, __doc__ or "", options)


if __name__ == "__main__":
    main()
