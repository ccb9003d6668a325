import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.rewriting.resolve import MAX_LENGTH, in_trouble
from pyfix.rewriting.settings import read_resolver
from pyfix.tables.table import TableError

MAIN_CF = {
    "myhostname": "mail.example.com",
    "mydestination": "$myhostname, localhost.$mydomain, localhost, example.com",
    "mydomain": "example.com",
    "relay_domains": "relay.example",
    "virtual_alias_domains": "alias.example",
    "virtual_mailbox_domains": "vmb.example",
    "local_recipient_maps": "inline:{root=x, user=x}",
    "recipient_delimiter": "+",
}


def config(**values):
    return Config("/x", [Assignment(name, value, "main.cf", 1) for name, value in (MAIN_CF | values).items()])


def resolver(**values):
    return read_resolver(config(**values), ["127.0.0.1", "::1"])


def resolve(address, **values):
    return resolver(**values).resolve(address)


# Address, class, recipient, transport, next hop, routed: as Postfix 3.10's trivial-rewrite answers with this main.cf,
# after it brought the address into standard form. None: bad address syntax.
FOREIGN = ("default", "user@foreign.org", "smtp", "foreign.org", False)
FORMS = {
    "user@foreign.org": FOREIGN,
    "user%foreign.org@example.com": FOREIGN,
    "user%foreign.org": FOREIGN,
    "foreign.org!user@example.com": FOREIGN,
    "foreign.org!user": FOREIGN,
    "user@foreign.org@example.com": FOREIGN,
    "user%foreign.org@localhost": FOREIGN,
    "user@foreign.org@localhost@example.com": FOREIGN,
    "a%b%foreign.org@example.com": ("default", "a%b@foreign.org", "smtp", "foreign.org", True),
    "user%foreign.org%example.com@example.com": FOREIGN,
    "example.com!foreign.org!user": FOREIGN,
    "foreign.org!user%example.com@example.com": (
        "default",
        "user%example.com@foreign.org",
        "smtp",
        "foreign.org",
        True,
    ),
    "foreign.org!user%example.com": ("default", "user%example.com@foreign.org", "smtp", "foreign.org", True),
    "user%foreign.org!example.com": None,
    "user@foreign.org@[127.0.0.1]": FOREIGN,
    "user%foreign.org@[127.0.0.1]": FOREIGN,
    "foreign.org!user@[IPv6:::1]": FOREIGN,
    "user%foreign.org@[ipv6:0:0:0:0:0:0:0:1]": FOREIGN,
    "user@foreign.org@": FOREIGN,
    "user@foreign.org@.": None,
    "user@foreign.org@example.com.": FOREIGN,
    "user%foreign.org@EXAMPLE.COM": FOREIGN,
    "user%foreign.org@mail.example.com": FOREIGN,
    "user%foreign.org@example.com@": FOREIGN,
    "@foreign.org:user@example.com": ("local", "user@mail.example.com", "local", "mail.example.com", False),
    "@example.com:user@foreign.org": ("default", "@example.com:user@foreign.org", "smtp", "foreign.org", True),
    "@@foreign.org@example.com": ("default", "@@foreign.org", "smtp", "foreign.org", True),
    "%foreign.org@example.com": ("default", "@foreign.org", "smtp", "foreign.org", False),
    "user%@example.com": None,
    "!user@example.com": None,
    "user!@example.com": ("default", "@user", "smtp", "user", False),
    "user%[192.0.2.1]@example.com": ("default", "user@[192.0.2.1]", "smtp", "[192.0.2.1]", False),
    "user@[192.0.2.1]": ("default", "user@[192.0.2.1]", "smtp", "[192.0.2.1]", False),
    "user@192.0.2.1": None,
    "user%192.0.2.1@example.com": None,
    "a b%foreign.org@example.com": ("default", "a b@foreign.org", "smtp", "foreign.org", False),
    "a b!user@example.com": None,
    "a b@foreign.org@example.com": ("default", "a b@foreign.org", "smtp", "foreign.org", False),
    "user%foreign.org@relay.example": ("relay", "user%foreign.org@relay.example", "relay", "relay.example", True),
    "foreign.org!user@relay.example": ("relay", "foreign.org!user@relay.example", "relay", "relay.example", True),
    "user@foreign.org@relay.example": ("relay", "user@foreign.org@relay.example", "relay", "relay.example", True),
    "user%foreign.org@vmb.example": (
        *("virtual_mailbox", "user%foreign.org@vmb.example", "virtual", "vmb.example", True),
    ),
    "user%foreign.org@alias.example": (
        *(
            "virtual_alias",
            "user%foreign.org@alias.example",
            "error",
            "5.1.1 User unknown in virtual alias table",
            True,
        ),
    ),
    "user%relay.example@example.com": ("relay", "user@relay.example", "relay", "relay.example", False),
    "user@relay.example%example.com": None,
    "user@foreign.org%": None,
    'user"%foreign.org@example.com': ("default", 'user"@foreign.org', "smtp", "foreign.org", False),
    "user\\%foreign.org@example.com": ("default", "user\\@foreign.org", "smtp", "foreign.org", False),
    "user+x%foreign.org@example.com": ("default", "user+x@foreign.org", "smtp", "foreign.org", False),
    "-f@foreign.org": None,
    "user%-foreign.org@example.com": None,
    "user@foreign..org": None,
    "user@.foreign.org": None,
    "user@foreign.org..": None,
    "user@example.com%foreign.org@example.com": None,
    "root": ("local", "root@mail.example.com", "local", "mail.example.com", False),
    "root@localhost": ("local", "root@localhost", "local", "mail.example.com", False),
    "root@LOCALHOST.example.com": ("local", "root@LOCALHOST.example.com", "local", "mail.example.com", False),
    "root@mail": ("default", "root@mail", "smtp", "mail", False),
    "x@sub.relay.example": ("relay", "x@sub.relay.example", "relay", "sub.relay.example", False),
    "x@sub.vmb.example": ("default", "x@sub.vmb.example", "smtp", "sub.vmb.example", False),
}


@pytest.mark.parametrize(("address", "expected"), FORMS.items(), ids=FORMS)
def test_address_forms_resolve_as_in_postfix(address, expected):
    answer = resolve(address)
    if expected is None:
        assert (answer.address_class, answer.transport, answer.nexthop) == (
            "error",
            "error",
            "5.1.3 bad address syntax",
        )
    else:
        assert expected == (answer.address_class, answer.recipient, answer.transport, answer.nexthop, answer.routed)


@pytest.mark.parametrize("address", [form for form in FORMS if "foreign" in form])
def test_no_form_smuggles_a_foreign_domain_through_an_own_one(address):
    """What a stranger may send is a recipient without a route of this system's classes; none of these is one."""
    answer = resolve(address)
    own = answer.address_class in ("local", "relay", "virtual_mailbox", "virtual_alias") and not answer.routed
    assert not own or "foreign" not in answer.recipient


PIECES = [
    "user",
    "foreign.org",
    "example.com",
    "relay.example",
    "@",
    "%",
    "!",
    ":",
    ",",
    ".",
    '"',
    "\\",
    " ",
    "[127.0.0.1]",
]
ADDRESSES = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)


@given(ADDRESSES)
def test_what_is_ours_and_not_routed_names_no_other_domain(address):
    answer = resolver().resolve(address)
    if answer.address_class in ("local", "relay") and not answer.routed:
        local, _at, domain = answer.recipient.rpartition("@")
        assert not set(local) & set("@%!")
        assert domain.lower().endswith(("example.com", "relay.example", "localhost", "[127.0.0.1]"))
    if answer.address_class == "error":
        assert answer.transport == "error"


ROUTED = resolver(
    transport_maps="inline:{user@foreign.org=:hop, relay.example=slow:, .example.com=slow:there, example.com=:}"
)


@given(st.lists(ADDRESSES | st.sampled_from(["user@Foreign.org", "-user@foreign.org", "u+x@relay.example"])))
def test_recipients_of_one_call_do_not_influence_each_other(addresses):
    sites = {}
    for address in [*addresses, "user+x@foreign.org", "other@foreign.org", *addresses]:
        assert ROUTED.resolve(address, sites) == ROUTED.resolve(address)


@pytest.mark.parametrize(
    ("address", "listed", "table"),
    [
        ("root@example.com", "yes", ""),
        ("Root+x@example.com", "yes", ""),
        ("nobody-here@example.com", "no", "local recipient table"),
        ("a@vmb.example", "yes", ""),
        ("b@vmb.example", "no", "virtual mailbox table"),
        ("c@alias.example", "yes", ""),
        ("d@alias.example", "no", "virtual alias table"),
        ("e@relay.example", "yes", ""),
        ("f@relay.example", "no", "relay recipient table"),
        ("alias@relay.example", "yes", ""),
        ("canonical@vmb.example", "yes", ""),
        ("anyone@foreign.org", "unknown", ""),
    ],
)
def test_listing(address, listed, table):
    answer = resolve(
        address,
        virtual_mailbox_maps="inline:{a@vmb.example=a/}",
        virtual_alias_maps="inline:{c@alias.example=x@example.com, alias@relay.example=y@foreign.org}",
        relay_recipient_maps="inline:{e@relay.example=x}",
        canonical_maps="inline:{canonical@vmb.example=z@example.com}",
    )
    assert (answer.listed, answer.table) == (listed, table)


@pytest.mark.parametrize("address", ["x@example.com", "x@vmb.example", "x@relay.example"])
def test_without_table_every_recipient_may_exist(address):
    assert resolve(address, local_recipient_maps="").listed == "unknown"
    assert resolve(address, local_recipient_maps="").table == ""


def test_a_recipient_table_in_trouble_is_named():
    answer = resolve("x@example.com", local_recipient_maps="fail:x")
    assert (answer.address_class, answer.listed, answer.table) == ("local", "unknown", "local recipient table")


def test_an_address_of_myorigin_is_looked_up_by_its_user():
    values = {"relay_domains": "origin.example", "myorigin": "origin.example"}
    assert resolve("user+x@origin.example", relay_recipient_maps="inline:{user=x}", **values).listed == "yes"


@pytest.mark.parametrize(
    ("values", "address", "transport", "nexthop"),
    [
        ({"relayhost": "[smart.example]:587"}, "x@foreign.org", "smtp", "[smart.example]:587"),
        ({"relayhost": "smart.example"}, "x@relay.example", "relay", "smart.example"),
        ({"relayhost": "smart.example"}, "x@example.com", "local", "mail.example.com"),
        ({"relayhost": "smart.example"}, "x@vmb.example", "virtual", "vmb.example"),
        ({"default_transport": "smtp:[gate.example]"}, "x@foreign.org", "smtp", "[gate.example]"),
        ({"relay_transport": "lmtp:unix:/run/x"}, "x@relay.example", "lmtp", "unix:/run/x"),
        ({"default_transport": "error:no mail"}, "x@foreign.org", "error", "no mail"),
        ({"local_transport": "local"}, "x@Example.COM", "local", "example.com"),
        ({"virtual_transport": "lmtp"}, "x@VMB.example", "lmtp", "vmb.example"),
    ],
)
def test_routes(values, address, transport, nexthop):
    answer = resolve(address, **values)
    assert (answer.transport, answer.nexthop) == (transport, nexthop)


@pytest.mark.parametrize(
    ("address", "transport", "nexthop"),
    [
        ("x@t1.example", "relay", "[host.example]:2525"),
        ("u@t2.example", "smtp", "other"),
        ("v@t2.example", "smtp", "t2.example"),
        ("x@sub.t3.example", "error", "no mail"),
        ("x@t3.example", "smtp", "t3.example"),
        ("x@t4.example", "smtp", "t4.example"),
        ("x@t5.example", "smtp", "smart.example"),
        ("u+e@t6.example", "a", "b"),
        ("u+x@t6.example", "c", "d"),
        ("x@example.com", "local", "mail.example.com"),
        ("x@alias.example", "error", "5.1.1 User unknown in virtual alias table"),
    ],
)
def test_transport_table(tmp_path, address, transport, nexthop):
    """As Postfix 3.10 answers with this table."""
    (tmp_path / "transport").write_text(
        "t1.example relay:[host.example]:2525\nu@t2.example :other\n.t3.example error:no mail\nt4.example smtp:\n"
        "t5.example :\nu+e@t6.example a:b\nu@t6.example c:d\nalias.example smtp:\n"
    )
    relayhost = "smart.example" if "t5" in address or "t4" in address else ""
    answer = resolve(address, transport_maps=f"texthash:{tmp_path}/transport", relayhost=relayhost)
    assert (answer.transport, answer.nexthop) == (transport, nexthop)


def test_transport_wildcard_and_parents():
    values = {"transport_maps": "inline:{*=smtp:[all.example], up.example=smtp:[up]}"}
    assert resolve("x@any.example", **values).nexthop == "[all.example]"
    assert resolve("x@a.up.example", **values).nexthop == "[all.example]"
    parents = {"parent_domain_matches_subdomains": "transport_maps"}
    assert resolve("x@a.up.example", **values, **parents).nexthop == "[up]"


VIA = {"virtual_alias_maps": "inline:{via.example=x}", "virtual_alias_domains": "$virtual_alias_maps"}


@pytest.mark.parametrize(
    ("values", "address", "recipient", "address_class"),
    [
        ({}, "", "MAILER-DAEMON@mail.example.com", "local"),
        ({"empty_address_recipient": "nobody@foreign.org"}, "", "nobody@foreign.org", "default"),
        ({"empty_address_recipient": "@"}, "", "", "error"),
        ({"resolve_null_domain": "yes"}, "user@", "user@mail.example.com", "local"),
        ({"resolve_numeric_domain": "yes"}, "user@192.0.2.1", "user@[192.0.2.1]", "default"),
        ({"resolve_numeric_domain": "yes"}, "user@127.0.0.1", "user@[127.0.0.1]", "local"),
        ({"allow_min_user": "yes"}, "-f@foreign.org", "-f@foreign.org", "default"),
        ({"allow_percent_hack": "no"}, "user%foreign.org@example.com", "user%foreign.org@example.com", "local"),
        ({"swap_bangpath": "no"}, "a!b@example.com", "a!b@example.com", "local"),
        ({"resolve_dequoted_address": "no"}, "a@b.example@example.com", "a@b.example@example.com", "local"),
        ({"mydestination": ""}, "user@example.com", "user@example.com", "default"),
        ({"virtual_alias_maps": "inline:{v.example=x}"}, "u@example.com", "u@example.com", "local"),
        (VIA, "u@via.example", "u@via.example", "virtual_alias"),
        ({}, "user@bücher.example", "user@bücher.example", "default"),
        ({}, "x" * MAX_LENGTH + "@a.example", "x" * MAX_LENGTH + "@a.example", "error"),
    ],
)
def test_settings(values, address, recipient, address_class):
    answer = resolve(address, **values)
    assert (answer.recipient, answer.address_class) == (recipient, address_class)


def test_a_local_part_that_stays_routed_is_said_so():
    assert resolve("user%foreign.org@example.com", allow_percent_hack="no").routed


def test_the_table_name_can_be_kept_back():
    assert resolve("x@alias.example", show_user_unknown_table_name="no").nexthop == "5.1.1 User unknown"


def test_a_deep_route_ends():
    assert resolve("%example.com" * 300 + "@example.com").address_class in ("local", "error")
    assert resolve("@example.com" * 340).address_class == "local"


def test_a_list_in_trouble_raises():
    with pytest.raises(TableError):
        resolve("x@foreign.org", relay_domains="fail:x")


def test_the_answer_in_trouble_waits():
    answer = in_trouble("x@foreign.org")
    assert (answer.transport, answer.nexthop) == ("retry", "4.3.0 address resolver failure")
    assert answer.address_class == "error"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"relayhost": "a b"}, "parameter relayhost: more than one value"),
        ({"relayhost": "$myhostname"}, "parameter relayhost: the same as myhostname"),
        ({"myorigin": "a, b"}, "parameter myorigin: more than one value"),
        ({"default_transport": ":x"}, "parameter default_transport: the transport is missing"),
        ({"mydestination": "mysql:/x"}, "parameter mydestination: mysql:/x: unsupported table type"),
        (
            {"relay_recipient_maps": "nonsense"},
            "parameter relay_recipient_maps: nonsense: a table is written type:name",
        ),
    ],
)
def test_a_wrong_main_cf(values, message):
    with pytest.raises(ConfigError) as caught:
        resolver(**values)
    assert message in str(caught.value)
