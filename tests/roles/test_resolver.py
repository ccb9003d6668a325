"""The resolver against a real DNS server: statuses, caching, aliases, TCP, hostile answers, clients' names."""

import asyncio
from time import monotonic

import dns.flags
import dns.message
import dns.name
import pytest
from dns_server import dns_server
from system_under_test import free_port

from pyfix.roles.resolver import Resolver
from pyfix.service.dispatch import Call
from pyfix.service.resolver import Answer, Client, ClientName, Lookup, Record


class Journal:
    def __init__(self):
        self.lines = []

    def warning(self, line):
        self.lines.append(line)


class Role:
    def __init__(self):
        self.journal = Journal()


class Bench:
    """A resolver with its files, and a loop to ask it in."""

    def __init__(self, directory, servers, hosts="", options=""):
        self.role = Role()
        self.resolv_conf = directory / "resolv.conf"
        lines = [f"nameserver 127.0.0.1:{port}\n" for port in servers]
        self.resolv_conf.write_text("".join(lines) + f"options timeout:1 attempts:1 {options}\n")
        self.hosts = directory / "hosts"
        self.hosts.write_text(hosts)
        self.resolver = Resolver(self.role, str(self.resolv_conf), str(self.hosts))
        self.loop = asyncio.new_event_loop()

    def ask(self, name, kind="A", *, hosts=False):
        async def call():
            answer = self.resolver.lookup(Call(Lookup(name, kind, hosts), (), None))
            return answer if isinstance(answer, Answer) else await answer

        return self.loop.run_until_complete(call())

    def name(self, address):
        return self.loop.run_until_complete(self.resolver.name_client(Call(Client(address), (), None)))


@pytest.fixture
def server():
    with dns_server() as server:
        yield server


@pytest.fixture
def bench(tmp_path, server):
    bench = Bench(tmp_path, [server.port])
    yield bench
    bench.loop.close()


def values(answer):
    return [record.value for record in answer.records]


def test_answers_of_each_type(bench, server):
    server.zone |= {
        ("d.example", "MX"): ["20 B.example.", "10 a.example."],
        ("d.example", "A"): ["192.0.2.1", "192.0.2.2"],
        ("d.example", "AAAA"): ["2001:db8::1"],
        ("d.example", "TXT"): ['"one" "two"'],
        ("d.example", "NS"): ["ns.example."],
        ("d.example", "SRV"): ["5 0 25 s.example."],
        ("d.example", "TLSA"): ["3 1 1 " + "ab" * 32],
    }
    answer = bench.ask("D.example", "MX")
    assert answer.status == "ok"
    assert set(answer.records) == {Record("B.example", 20), Record("a.example", 10)}
    assert sorted(values(bench.ask("d.example", "A"))) == ["192.0.2.1", "192.0.2.2"]
    assert values(bench.ask("d.example", "AAAA")) == ["2001:db8::1"]
    assert values(bench.ask("d.example", "TXT")) == ["onetwo"]
    assert values(bench.ask("d.example", "NS")) == ["ns.example"]
    assert bench.ask("d.example", "SRV").records == (Record("s.example:25", 5),)
    assert values(bench.ask("d.example", "TLSA")) == ["3 1 1 " + "ab" * 32]


def test_a_null_mx_is_an_empty_name(bench, server):
    server.zone["d.example", "MX"] = ["0 ."]
    assert bench.ask("d.example", "MX").records == (Record("", 0),)


@pytest.mark.parametrize(
    ("found", "status", "reason"),
    [
        (None, "no_data", "Host found but no data record of requested type"),
        ("SERVFAIL", "again", "Host not found, try again"),
        ("REFUSED", "again", "Host not found, try again"),
        ("DROP", "again", "Host not found, try again"),
        ("JUNK", "fail", "Non-recoverable error"),
    ],
)
def test_statuses(bench, server, found, status, reason):
    server.zone["d.example", "TXT"] = ['"x"']
    if found:
        server.zone["d.example", "MX"] = found
    assert bench.ask("d.example", "MX") == Answer(status, (), False, reason)


def test_a_name_that_does_not_exist(bench):
    assert bench.ask("no.example", "MX") == Answer("not_found", (), False, "Host not found")


@pytest.mark.parametrize(
    "name", ["", "a" * 256, "x\\.example", "x\n.example", "\u00e4.example", "a..b", "a" * 64 + ".b"]
)
def test_what_cannot_be_a_name_is_not_asked_for(bench, server, name):
    assert bench.ask(name).status == "not_found"
    assert server.queries == []


@pytest.mark.parametrize("name", ["d.example", "no.example", "nodata.example"])
def test_answers_are_remembered_also_negative_ones(bench, server, name):
    server.zone |= {("d.example", "A"): ["192.0.2.1"], ("nodata.example", "TXT"): ['"x"']}
    first = bench.ask(name)
    assert bench.ask(name.upper()) == first
    assert len(server.queries) == 1


def test_failures_are_remembered_for_a_moment(bench, server):
    server.zone["d.example", "A"] = "SERVFAIL"
    assert bench.ask("d.example").status == "again"
    assert bench.ask("d.example").status == "again"
    assert len(server.queries) == 1
    assert bench.role.journal.lines == ["no answer for name=d.example type=A"]


def test_an_answer_without_lifetime_is_asked_for_again(tmp_path):
    with dns_server({("d.example", "A"): ["192.0.2.1"]}, ttl=0) as server:
        bench = Bench(tmp_path, [server.port])
        assert bench.ask("d.example") == bench.ask("d.example")
        assert len(server.queries) == 2
        bench.loop.close()


def test_many_who_ask_the_same_cause_one_question(bench, server):
    server.zone["d.example", "A"] = ["192.0.2.1"]

    async def crowd():
        call = Call(Lookup("d.example", "A"), (), None)
        return await asyncio.gather(*[bench.resolver.lookup(call) for _ in range(50)])

    answers = bench.loop.run_until_complete(crowd())
    assert {answer.status for answer in answers} == {"ok"}
    assert len(server.queries) == 1


@pytest.mark.parametrize("chase", [True, False], ids=["the server follows", "we follow"])
def test_aliases_are_followed(tmp_path, chase):
    zone = {
        ("a.example", "CNAME"): ["b.example."],
        ("b.example", "CNAME"): ["c.example."],
        ("c.example", "A"): ["192.0.2.1"],
    }
    with dns_server(zone, chase=chase) as server:
        bench = Bench(tmp_path, [server.port])
        assert values(bench.ask("a.example")) == ["192.0.2.1"]
        assert values(bench.ask("a.example", "CNAME")) == ["b.example"]
        bench.loop.close()


@pytest.mark.parametrize("chase", [True, False])
def test_aliases_in_a_circle_end(tmp_path, chase):
    zone = {("a.example", "CNAME"): ["b.example."], ("b.example", "CNAME"): ["a.example."]}
    with dns_server(zone, chase=chase) as server:
        bench = Bench(tmp_path, [server.port])
        assert bench.ask("a.example").status == "fail"
        bench.loop.close()


def test_long_answers_come_by_tcp_and_are_bounded(bench, server):
    server.zone["d.example", "MX"] = [f"{i} mx{i}.d.example." for i in range(300)]
    answer = bench.ask("d.example", "MX")
    assert answer.status == "ok"
    assert len(answer.records) == 100
    assert [transport for _, _, transport in server.queries] == ["udp", "tcp"]


def test_a_server_that_does_not_know_edns(bench, server):
    server.zone |= {("d.example", "A"): "FORMERR", ("d.example", "PLAIN"): ["192.0.2.1"]}
    assert values(bench.ask("d.example")) == ["192.0.2.1"]


def test_the_next_server_is_asked_where_one_fails(tmp_path):
    with dns_server({("d.example", "A"): "SERVFAIL"}) as bad, dns_server({("d.example", "A"): ["192.0.2.1"]}) as good:
        bench = Bench(tmp_path, [bad.port, good.port])
        assert values(bench.ask("d.example")) == ["192.0.2.1"]
        assert (len(bad.queries), len(good.queries)) == (1, 1)
        bench.loop.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_server_that_is_not_there_is_not_waited_for(tmp_path, address):
    bench = Bench(tmp_path, [])
    bench.resolv_conf.write_text(f"nameserver [{address}]:{free_port()}\noptions timeout:30 attempts:3\n")
    began = monotonic()
    assert bench.ask("d.example").status == "again"
    assert monotonic() - began < 15
    assert bench.role.journal.lines == ["no answer for name=d.example type=A"]
    bench.loop.close()


def test_a_new_resolv_conf_counts_at_once(tmp_path):
    with dns_server({("d.example", "A"): ["192.0.2.1"]}) as one, dns_server({("d.example", "A"): ["192.0.2.2"]}) as two:
        bench = Bench(tmp_path, [one.port])
        assert values(bench.ask("d.example")) == ["192.0.2.1"]
        bench.resolv_conf.write_text(f"nameserver [127.0.0.1]:{two.port}\n")
        assert values(bench.ask("e.example")) == []
        assert values(bench.ask("d.example")) == ["192.0.2.2"]
        bench.loop.close()


def test_a_server_on_this_machine_may_vouch_for_an_answer(tmp_path):
    with dns_server({("d.example", "A"): ["192.0.2.1"]}, authentic=True) as server:
        bench = Bench(tmp_path, [server.port])
        assert bench.ask("d.example").secure
        assert bench.ask("no.example").secure
        bench.loop.close()


def test_an_answer_to_another_question_is_no_answer(bench, server):
    def other(response):
        response.question = dns.message.make_query("evil.example.", "A").question
        return response.to_wire()

    server.zone["d.example", "A"] = other
    assert bench.ask("d.example").status in {"again", "fail"}


def test_hosts_file_comes_first_where_it_is_wanted(tmp_path, server):
    server.zone |= {("h.example", "A"): ["192.0.2.9"], ("h.example", "AAAA"): ["2001:db8::9"]}
    bench = Bench(tmp_path, [server.port], hosts="192.0.2.1 h.example alias\n")
    assert values(bench.ask("h.example", hosts=True)) == ["192.0.2.1"]
    assert values(bench.ask("ALIAS", hosts=True)) == ["192.0.2.1"]
    assert values(bench.ask("h.example", "AAAA", hosts=True)) == ["2001:db8::9"]
    assert values(bench.ask("h.example")) == ["192.0.2.9"]
    bench.loop.close()


# names of clients


def test_a_client_whose_name_has_its_address(bench, server):
    server.zone |= {("1.2.0.192.in-addr.arpa", "PTR"): ["c.example."], ("c.example", "A"): ["192.0.2.7", "192.0.2.1"]}
    assert bench.name("192.0.2.1") == ClientName("c.example", "c.example", "ok")


def test_a_client_of_ipv6(bench, server):
    name = dns.name.from_text("1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa").to_text(omit_final_dot=True)
    server.zone |= {(name, "PTR"): ["c.example."], ("c.example", "AAAA"): ["2001:DB8:0::1"]}
    assert bench.name("2001:db8::1") == ClientName("c.example", "c.example", "ok")


def test_a_client_in_the_hosts_file(tmp_path, server):
    bench = Bench(tmp_path, [server.port], hosts="127.0.0.1 localhost l\n")
    assert bench.name("127.0.0.1") == ClientName("localhost", "localhost", "ok")
    assert server.queries == []
    bench.loop.close()


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ({}, ClientName("unknown", "unknown", "not_found")),
        ({("1.2.0.192.in-addr.arpa", "PTR"): "SERVFAIL"}, ClientName("unknown", "unknown", "again")),
        (
            {("1.2.0.192.in-addr.arpa", "PTR"): ["c.example."], ("c.example", "A"): ["192.0.2.2"]},
            ClientName("unknown", "c.example", "forged", "hostname c.example does not resolve to address 192.0.2.1"),
        ),
        (
            {("1.2.0.192.in-addr.arpa", "PTR"): ["c.example."]},
            ClientName(
                "unknown",
                "c.example",
                "forged",
                "hostname c.example does not resolve to address 192.0.2.1: Name or service not known",
            ),
        ),
        (
            {("1.2.0.192.in-addr.arpa", "PTR"): ["c.example."], ("c.example", "A"): "SERVFAIL"},
            ClientName(
                "unknown",
                "c.example",
                "again",
                "hostname c.example does not resolve to address 192.0.2.1: Temporary failure in name resolution",
            ),
        ),
    ],
)
def test_clients_without_a_name_that_holds(bench, server, zone, expected):
    server.zone |= zone
    assert bench.name("192.0.2.1") == expected


@pytest.mark.parametrize(
    "name",
    [
        r"a\010b.example.",
        r"a\000.example.",
        r"a\032b.example.",
        r"\[192\.0\.2\.1\].",
        "192.0.2.1.",
        r"x\]:\ y.example.",
        r"\195\164.example.",
        r"-a.example.",
        ".",
    ],
)
def test_hostile_names_of_clients_are_unknown(bench, server, name):
    server.zone["1.2.0.192.in-addr.arpa", "PTR"] = [name]
    assert bench.name("192.0.2.1") == ClientName("unknown", "unknown", "not_found")


def test_what_is_no_address_has_no_name(bench):
    assert bench.name("unix") == ClientName("unknown", "unknown", "not_found")


def test_a_server_that_ends_the_tcp_connection(bench, server):
    def truncated(response):
        response.flags |= dns.flags.TC
        return response.to_wire()[:12] if server.queries[-1][2] == "tcp" else response.to_wire()

    server.zone["d.example", "A"] = truncated
    assert bench.ask("d.example").status in {"again", "fail"}
