"""Finding hosts: MX records, addresses, this system among them, order."""

import asyncio
import random

import pytest

from pyfix.net.dns import REASONS
from pyfix.outbound.destination import Destination
from pyfix.outbound.hosts import Host, Policy, ask, find_hosts
from pyfix.service.resolver import Answer, Lookup, Record

NOT_FOUND = "Host or domain name not found. Name service error"
POLICY = Policy(
    types=("A", "AAAA"),
    preference="any",
    balance=True,
    address_limit=5,
    randomize=False,
    defer_without_address=False,
    ignore_mx_error=False,
    native=False,
    own_addresses=frozenset({"192.0.2.99", "2001:db8::99"}),
)


def find(zone, destination, policy=POLICY, shuffle=None):
    """Finds hosts in a zone: {("name", "A"): ["192.0.2.1"], ("name", "MX"): [(10, "host")] or a status}."""
    asked = []

    async def look_up(question):
        asked.append((question.name, question.type))
        found = zone.get((question.name, question.type))
        if found is None:
            known = any(name == question.name for name, _ in zone)
            found = "no_data" if known else "not_found"
        if isinstance(found, str):
            return Answer(found, (), False, REASONS[found])
        return Answer("ok", tuple(Record(r) if isinstance(r, str) else Record(r[1], r[0]) for r in found))

    found = asyncio.run(ask(find_hosts(destination, policy, shuffle or (lambda _: None)), look_up))
    return found, asked


def domain(name="d.example", port=25, *, mx=True):
    return Destination(name, port, mx)


def hosts(found):
    return [(host.name, host.address, host.preference) for host in found.hosts]


def test_exchangers_in_order_of_preference_with_all_their_addresses():
    zone = {
        ("d.example", "MX"): [(20, "b.example"), (10, "a.example")],
        ("a.example", "A"): ["192.0.2.1"],
        ("a.example", "AAAA"): ["2001:db8::1"],
        ("b.example", "A"): ["192.0.2.2"],
    }
    found, asked = find(zone, domain())
    assert hosts(found) == [
        ("a.example", "192.0.2.1", 10),
        ("a.example", "2001:db8::1", 10),
        ("b.example", "192.0.2.2", 20),
    ]
    assert asked[0] == ("d.example", "MX")
    assert found.best == 10


@pytest.mark.parametrize("mx", ["not_found", "no_data"])
def test_a_domain_without_exchangers_is_its_own(mx):
    found, _ = find({("d.example", "MX"): mx, ("d.example", "A"): ["192.0.2.1"]}, domain())
    assert hosts(found) == [("d.example", "192.0.2.1", 0)]


def test_a_host_in_brackets_is_not_asked_for_exchangers():
    zone = {("h.example", "MX"): [(1, "x")], ("h.example", "A"): ["192.0.2.1"]}
    found, asked = find(zone, domain("h.example", 26, mx=False))
    assert found.hosts == (Host("h.example", "192.0.2.1", 26),)
    assert asked == [("h.example", "A"), ("h.example", "AAAA")]


@pytest.mark.parametrize("mx", [True, False])
def test_an_address_needs_no_dns(mx):
    found, asked = find({}, domain("192.0.2.1", mx=mx))
    assert hosts(found) == [("192.0.2.1", "192.0.2.1", 0)]
    assert asked == []


@pytest.mark.parametrize(
    ("zone", "dsn", "reason"),
    [
        (
            {},
            "5.4.4",
            "Host or domain name not found. Name service error for name=d.example type=AAAA: Host not found",
        ),
        (
            {("d.example", "MX"): "again"},
            "4.4.3",
            "Host or domain name not found. Name service error for name=d.example type=MX: Host not found, try again",
        ),
        (
            {("d.example", "MX"): "fail"},
            "5.4.3",
            "Host or domain name not found. Name service error for name=d.example type=MX: Non-recoverable error",
        ),
        ({("d.example", "MX"): [(0, "")]}, "5.1.0", "Domain d.example does not accept mail (nullMX)"),
        ({("d.example", "MX"): [(0, ""), (9, "a")]}, "5.1.0", "Domain d.example does not accept mail (nullMX)"),
        (
            {("d.example", "MX"): [(0, "a b"), (5, "x\\010y")]},
            "5.4.4",
            "Name service error for name=d.example type=MX: Malformed or unexpected name server reply",
        ),
        (
            {("d.example", "MX"): [(0, "a.example")], ("a.example", "A"): "again"},
            "4.4.3",
            "Host or domain name not found. Name service error for name=a.example type=A: Host not found, try again",
        ),
        (
            {("d.example", "MX"): [(0, "a.example")], ("a.example", "TXT"): ["x"]},
            "5.4.4",
            f"{NOT_FOUND} for name=a.example type=AAAA: Host found but no data record of requested type",
        ),
        (
            {("d.example", "MX"): "not_found", ("d.example", "A"): "again", ("d.example", "AAAA"): "no_data"},
            "4.4.3",
            "Host or domain name not found. Name service error for name=d.example type=A: Host not found, try again",
        ),
        (
            {("d.example", "A"): ["not an address"]},
            "4.4.3",
            "Name service error for d.example: no usable address",
        ),
    ],
)
def test_why_there_is_no_host(zone, dsn, reason):
    found, _ = find(zone, domain())
    assert (found.trouble.dsn, found.trouble.reason, found.hosts) == (dsn, reason, ())


def test_a_name_that_is_none_is_not_asked_for():
    found, asked = find({}, domain("-x"))
    assert found.trouble == ("5.4.4", "Name service error for -x: invalid host or domain name", "", "")
    found, asked = find({}, domain("-x", mx=False))
    assert found.trouble.dsn == "5.4.4"
    assert asked == []


def test_dns_trouble_may_be_ignored_or_made_temporary():
    zone = {("d.example", "MX"): "again", ("d.example", "A"): ["192.0.2.1"]}
    assert hosts(find(zone, domain(), POLICY._replace(ignore_mx_error=True))[0]) == [("d.example", "192.0.2.1", 0)]
    zone = {("d.example", "MX"): [(1, "a.example")]}
    assert find(zone, domain(), POLICY._replace(defer_without_address=True))[0].trouble.dsn == "4.4.4"


def test_an_exchanger_that_cannot_be_found_is_passed_over():
    zone = {("d.example", "MX"): [(1, "a.example"), (2, "b.example")], ("a.example", "A"): "again"}
    zone["b.example", "A"] = ["192.0.2.2"]
    assert hosts(find(zone, domain())[0]) == [("b.example", "192.0.2.2", 2)]


def test_disabled_protocols():
    zone = {("d.example", "MX"): [(1, "2001:db8::5"), (2, "192.0.2.5")]}
    assert hosts(find(zone, domain(), POLICY._replace(types=("A",)))[0]) == [("192.0.2.5", "192.0.2.5", 2)]
    found, _ = find({}, domain("2001:db8::5", mx=False), POLICY._replace(types=("A",)))
    assert "disabled by inet_protocols" in found.trouble.reason


MIDDLE = {
    ("d.example", "MX"): [(10, "a.example"), (20, "me.example"), (20, "peer.example"), (30, "c.example")],
    ("a.example", "A"): ["192.0.2.1"],
    ("me.example", "AAAA"): ["2001:DB8:0::99"],
    ("peer.example", "A"): ["192.0.2.3"],
    ("c.example", "A"): ["192.0.2.4"],
}


def test_a_backup_exchanger_sends_only_to_better_ones():
    found, _ = find(MIDDLE, domain())
    assert hosts(found) == [("a.example", "192.0.2.1", 10)]
    assert found.own


def test_on_another_port_it_is_another_program():
    found, _ = find(MIDDLE, domain(port=26))
    assert len(found.hosts) == 4
    assert not found.own


def test_the_best_exchanger_is_this_system():
    zone = {("d.example", "MX"): [(10, "me.example"), (20, "b.example")], ("me.example", "A"): ["192.0.2.99"]}
    zone["b.example", "A"] = ["192.0.2.2"]
    found, _ = find(zone, domain())
    assert found.trouble == ("5.4.6", "mail for d.example loops back to myself", "", "")
    assert found.own


def test_a_better_exchanger_without_address_is_no_loop():
    zone = {("d.example", "MX"): [(10, "gone.example"), (20, "me.example")], ("me.example", "A"): ["192.0.2.99"]}
    found, _ = find(zone, domain())
    assert found.trouble == ("4.4.4", "unable to find primary relay for d.example", "", "")


@pytest.mark.parametrize("destination", [domain("me.example", mx=False), domain("me.example"), domain("192.0.2.99")])
def test_a_host_that_is_this_system(destination):
    found, _ = find({("me.example", "A"): ["192.0.2.99"]}, destination)
    assert found.trouble.dsn == "5.4.6"


MANY = {
    ("d.example", "MX"): [(1, "a.example"), (2, "b.example")],
    ("a.example", "A"): [f"192.0.2.{i}" for i in range(1, 9)],
    ("a.example", "AAAA"): [f"2001:db8::{i}" for i in range(1, 4)],
    ("b.example", "A"): ["198.51.100.1"],
}


def test_equals_are_shuffled_but_preferences_hold():
    orders = set()
    for seed in range(20):
        policy = POLICY._replace(randomize=True, balance=False)
        found, _ = find(MANY, domain(), policy, random.Random(seed).shuffle)
        orders.add(found.hosts)
        assert found.hosts[-1].address == "198.51.100.1"
        assert len(found.hosts) == 12
    assert len(orders) > 15


@pytest.mark.parametrize(("preference", "families"), [("ipv4", "44444444666"), ("ipv6", "66644444444")])
def test_a_preferred_protocol_comes_first(preference, families):
    found, _ = find(MANY, domain(), POLICY._replace(preference=preference, balance=False))
    assert "".join("6" if ":" in host.address else "4" for host in found.hosts[:11]) == families


def test_no_protocol_takes_all_places():
    found, _ = find(MANY, domain(), POLICY._replace(preference="ipv4"))
    assert [":" in host.address for host in found.hosts[:5]] == [False, False, False, True, True]
    assert len(found.hosts) == 12
    assert len(set(found.hosts)) == 12


def test_hosts_file_is_asked_where_the_system_s_own_look_up_is_wanted():
    steps = find_hosts(domain("h.example", mx=False), POLICY._replace(native=True), lambda _: None)
    assert next(steps) == (Lookup("h.example", "A", hosts=True), Lookup("h.example", "AAAA", hosts=True))


def test_so_many_exchangers_are_bounded():
    zone = {("d.example", "MX"): [(i, f"h{i}.example") for i in range(500)]}
    _, asked = find(zone, domain())
    assert len(asked) == 201
