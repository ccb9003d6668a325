"""What is judged before a message is sent; the rest is tested with the SMTP client at work."""

import pytest

from pyfix.outbound.hosts import Host
from pyfix.outbound.judgement import judge_greeting, may_keep, suspected_parameter
from pyfix.outbound.trouble import Trouble
from pyfix.service.delivery import Deliver
from pyfix.wire.smtp_client import State


class Settings:
    myhostname = "me.example"
    relayhost = "[relay.example]"
    reuse_time_limit = 300
    reuse_count_limit = 0


class Machine:
    state = State.READY

    def __init__(self, name):
        self.hello_name = name


class Session:
    trouble = None
    reusable = True
    born = 0.0
    uses = 9

    def __init__(self, name="other.example", port=25):
        self.machine = Machine(name)
        self.host = Host("h.example", "192.0.2.1", port)


@pytest.mark.parametrize(
    ("name", "port", "best", "dsn"),
    [
        ("ME.example", 25, True, "5.4.6"),
        ("me.example", 25, False, "4.4.6"),
        ("me.example", 26, True, None),
        ("other.example", 25, True, None),
    ],
)
def test_a_host_with_our_name_is_this_system(name, port, best, dsn):
    found = judge_greeting(Session(name, port), Settings, "d.example", best=best)
    assert (found and found.dsn) == dsn


@pytest.mark.parametrize(
    ("nexthop", "dsn", "fallback", "parameter"),
    [
        ("[relay.example]", "5.4.4", False, "relayhost"),
        ("[relay.example]", "4.4.4", False, ""),
        ("d.example", "5.4.4", False, ""),
        ("d.example", "5.4.4", True, "smtp_fallback_relay"),
    ],
)
def test_parameters_that_may_be_wrong(nexthop, dsn, fallback, parameter):
    request = Deliver("Q", 0, 0, 0, "smtp", nexthop, "", (), 0, 0)
    assert suspected_parameter(request, Settings, Trouble(dsn, "x"), fallback=fallback) == parameter
    assert suspected_parameter(request, Settings, None, fallback=fallback) == ""


def test_connections_are_kept_for_some_time():
    assert may_keep(Session(), Settings, 299.0)
    assert not may_keep(Session(), Settings, 300.0)
