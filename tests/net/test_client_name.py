"""Judging a client's name; the resolver's own tests have the rest."""

from pyfix.net.client_name import ClientName, name_client
from pyfix.net.dns import Asked


def judge(reverse, names, asked=(), addresses=()):
    steps = name_client("192.0.2.1", reverse, names)
    try:
        next(steps)
        steps.send((asked, addresses))
    except StopIteration as stop:
        return stop.value
    return None


def test_only_the_first_name_counts():
    found = judge(Asked("x", "PTR", "ok"), ["a.example", "b.example"], [Asked("a.example", "A", "ok")], ["192.0.2.1"])
    assert found == ClientName("a.example", "a.example", "ok")


def test_an_address_in_another_form_is_the_same():
    found = judge(Asked("x", "PTR", "ok"), ["a.example"], [Asked("a", "AAAA", "ok")], ["::ffff:192.0.2.1"])
    assert found.status == "ok"


def test_no_name_at_all():
    assert judge(Asked("x", "PTR", "no_data"), []) == ClientName("unknown", "unknown", "not_found")
    assert judge(Asked("x", "PTR", "again"), []) == ClientName("unknown", "unknown", "again")
