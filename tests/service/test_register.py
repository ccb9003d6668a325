"""What the queue manager tells the flush service of, and what it does not."""

import asyncio

import pytest

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.service.calling import Unavailable
from pyfix.service.flush import Add, Done
from pyfix.service.register import Register

ID = "4jXZyg57fwzFGn9"


class FakeClient:
    """A flush service; ``answer`` is its status, or an exception."""

    def __init__(self, answer):
        self.answer = answer
        self.calls = []

    async def call(self, method, parameters):
        self.calls.append((method, parameters))
        if isinstance(self.answer, Exception):
            raise self.answer
        return Done(self.answer)


def add(domains, *recipients, answer="ok"):
    """What was called, and the trouble that there was."""
    client = FakeClient(answer)
    register = Register(client)
    register.configure(Config("/", [Assignment("fast_flush_domains", domains, "main.cf", 1)]))
    trouble = asyncio.run(register.add(ID, recipients))
    return client.calls, trouble


@pytest.mark.parametrize(
    ("domains", "recipients", "sites"),
    [
        ("", ("a@example.com",), ()),
        ("example.com", (), ()),
        ("example.com", ("a@example.org", "b", "c@", ""), ()),
        ("example.com", ("a@example.com", "b@example.com", "c@EXAMPLE.com"), ("example.com", "EXAMPLE.com")),
        ("example.com", ("a@sub.example.com", "b@notexample.com"), ("sub.example.com",)),
        ("!sub.example.com, example.com", ("a@sub.example.com", "b@example.com"), ("example.com",)),
        ("[192.0.2.1], static:all", ("a@[192.0.2.1]", '"x@y"@example.com'), ("[192.0.2.1]", "example.com")),
    ],
)
def test_destinations_of_which_a_record_is_kept(domains, recipients, sites):
    assert add(domains, *recipients) == ([("Add", Add(ID, sites))] if sites else [], "")


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        ("fail", "flush service failure"),
        ("deny", ""),
        (Unavailable("connect to x: no"), "flush service failure: connect to x: no"),
    ],
)
def test_trouble_is_told(answer, trouble):
    assert add("example.com", "a@example.com", answer=answer)[1] == trouble


def test_a_table_in_trouble_is_told():
    assert add("fail:x", "a@example.com")[1].startswith("flush service failure: fail:x")


def test_without_a_configuration_nothing_is_noted():
    client = FakeClient("ok")
    assert asyncio.run(Register(client).add(ID, ["a@example.com"])) == ""
    assert client.calls == []


def test_a_list_that_cannot_be_used():
    with pytest.raises(ConfigError):
        add("nosuchtype:x")
