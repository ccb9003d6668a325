"""rewrite: both rulesets, the classes, a table in trouble, and a reload."""

import pytest
from roles.serving import run

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.roles import rewrite
from pyfix.service.rewrite import INTERFACE, Resolve, Rewrite

PARAMETERS = {
    "mydomain": "example.org",
    "mydestination": "example.org",
    "inet_interfaces": "127.0.0.1",
    "local_recipient_maps": "inline:{ada=x}",
    "remote_header_rewrite_domain": "invalid.example",
}


async def rewritten(role, ruleset, *addresses):
    return (await role.client(INTERFACE).call("Rewrite", Rewrite(ruleset, addresses))).addresses


async def resolved(role, *recipients):
    return (await role.client(INTERFACE).call("Resolve", Resolve("", recipients))).resolved


def test_addresses_are_answered_in_their_order(tmp_path):
    async def scenario(role):
        await rewrite.start(role)
        assert await rewritten(role, "local", "ada", "", "x%a.example") == ("ada@mx.example.org", "", "x@a.example")
        assert await rewritten(role, "remote", "ada", "x@host") == ("ada@invalid.example", "x@host.invalid.example")
        assert await rewritten(role, "local") == ()

    run(tmp_path, scenario, **PARAMETERS)


def test_recipients_are_resolved(tmp_path):
    async def scenario(role):
        await rewrite.start(role)
        ada, bob, far, literal = await resolved(
            role, "Ada@Example.Org", "bob@example.org", "x@far.example", "ada@[127.0.0.1]"
        )
        assert (ada.address_class, ada.transport, ada.nexthop, ada.listed) == (
            "local",
            "local",
            "mx.example.org",
            "yes",
        )
        assert (bob.listed, bob.table) == ("no", "local recipient table")
        assert (far.address_class, far.transport, far.nexthop) == ("default", "smtp", "far.example")
        assert literal.address_class == "local"

    run(tmp_path, scenario, **PARAMETERS)


def test_a_table_in_trouble_makes_mail_wait(tmp_path):
    async def scenario(role):
        await rewrite.start(role)
        far, ada = await resolved(role, "x@far.example", "ada@example.org")
        assert (far.transport, far.nexthop) == ("retry", "4.3.0 address resolver failure")
        assert ada.transport == "local"

    role = run(tmp_path, scenario, **PARAMETERS, relay_domains="fail:relays")
    assert role.journal.lines == ["warning: fail:relays: fails always"]


def test_a_wrong_main_cf_stops_the_start(tmp_path):
    async def scenario(role):
        with pytest.raises(ConfigError, match="parameter mydestination"):
            await rewrite.start(role)

    run(tmp_path, scenario, mydestination="nonsense:x")


def test_a_reload_changes_the_answers_and_a_broken_one_does_not(tmp_path):
    async def scenario(role):
        await rewrite.start(role)
        (reload,) = role.on_reload
        with pytest.raises(ConfigError):
            reload(Config("/x", [Assignment("relay_domains", "nonsense:x", "main.cf", 1)]))
        assert (await resolved(role, "x@far.example"))[0].address_class == "default"
        new = PARAMETERS | {"relay_domains": "far.example", "myorigin": "new.example"}
        reload(Config("/x", [Assignment(name, value, "main.cf", 1) for name, value in new.items()]))
        assert (await resolved(role, "x@far.example"))[0].address_class == "relay"
        assert await rewritten(role, "local", "ada") == ("ada@new.example",)

    run(tmp_path, scenario, **PARAMETERS)
