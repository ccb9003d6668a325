import asyncio

import pytest

from pyfix.service.calling import Unavailable
from pyfix.service.client_names import ClientNames
from pyfix.service.resolver import ClientName


class Resolver:
    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    async def call(self, _method, parameters):
        self.asked.append(parameters.address)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def look_up(answer, address="192.0.2.1", *, wanted=True):
    resolver, warnings = Resolver(answer), []
    names = ClientNames(resolver, warnings.append)
    names.wanted = wanted
    found = asyncio.run(names.look_up(address))
    return found.name, found.reverse_name, resolver.asked, warnings


def test_the_resolver_is_asked():
    answer = ClientName("a.example", "a.example", "ok")
    assert look_up(answer) == ("a.example", "a.example", ["192.0.2.1"], [])


def test_its_warning_is_passed_on():
    answer = ClientName("unknown", "a.example", "forged", "hostname a.example does not resolve to address 192.0.2.1")
    assert look_up(answer) == ("unknown", "a.example", ["192.0.2.1"], [answer.warning])


def test_without_resolver_there_is_no_name():
    assert look_up(Unavailable("gone")) == ("unknown", "unknown", ["192.0.2.1"], ["name of 192.0.2.1: gone"])


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_this_host_is_not_asked_for(address):
    assert look_up(None, address) == ("localhost", "localhost", [], [])


def test_no_name_is_wanted():
    assert look_up(None, wanted=False) == ("unknown", "unknown", [], [])


def test_an_answer_is_good_for_a_moment(monkeypatch):
    now = 100.0
    monkeypatch.setattr("pyfix.service.client_names.monotonic", lambda: now)
    answer = ClientName("a.example", "a.example", "ok")
    resolver = Resolver(answer)
    names = ClientNames(resolver, pytest.fail)
    assert names.known("192.0.2.1") is None
    asyncio.run(names.look_up("192.0.2.1"))
    assert names.known("192.0.2.1") == answer
    assert names.known("192.0.2.2") is None
    now += 1.0
    assert names.known("192.0.2.1") is None
    asyncio.run(names.look_up("192.0.2.1"))
    assert resolver.asked == ["192.0.2.1", "192.0.2.1"]


def test_an_answer_with_a_warning_is_not_kept():
    names = ClientNames(Resolver(ClientName("unknown", "a.example", "forged", "does not resolve")), lambda _: None)
    asyncio.run(names.look_up("192.0.2.1"))
    assert names.known("192.0.2.1") is None
