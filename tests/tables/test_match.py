import pytest

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.tables.match import Client, domain_list, network_list, string_list
from pyfix.tables.table import TableError


def config(**values):
    return Config("/x", [Assignment(name, value, "main.cf", 7) for name, value in values.items()])


@pytest.mark.parametrize(
    ("value", "subject", "expected"),
    [
        ("", "a.example", False),
        ("a.example, B.example", "b.example", True),
        ("a.example", "sub.a.example", False),
        ("!a.example, static:all", "a.example", False),
        ("!a.example, static:all", "b.example", True),
        ("!!a.example", "a.example", True),
        ("a.example !a.example", "a.example", True),
        ("inline:{b.example=anything}", "b.example", True),
        ("inline:{b.example=anything}", "c.example", False),
        ("[127.0.0.1]", "[127.0.0.1]", True),
    ],
)
def test_string_list(value, subject, expected):
    assert string_list(config(mydestination=value), "mydestination").matches(subject) is expected


@pytest.mark.parametrize(
    ("parents", "value", "subject", "expected"),
    [
        ("relay_domains", "a.example", "a.example", True),
        ("relay_domains", "a.example", "x.y.a.example", True),
        ("relay_domains", "a.example", "xa.example", False),
        ("relay_domains", "a.example", ".a.example", False),
        ("relay_domains", "!x.a.example a.example", "y.x.a.example", False),
        ("relay_domains", "inline:{a.example=1}", "x.a.example", True),
        ("", "a.example", "x.a.example", False),
        ("", ".a.example", "x.a.example", True),
        ("", ".a.example", "a.example", False),
        ("", "inline:{a.example=1}", "x.a.example", False),
        ("", "inline:{.a.example=1}", "x.a.example", True),
        ("", "inline:{.a.example=1}", "a.example", False),
    ],
)
def test_domain_list(parents, value, subject, expected):
    conf = config(parent_domain_matches_subdomains=parents, relay_domains=value)
    assert domain_list(conf, "relay_domains").matches(subject) is expected


@pytest.mark.parametrize(
    ("value", "address", "name", "expected"),
    [
        ("127.0.0.0/8", "127.1.2.3", "", True),
        ("127.0.0.0/8", "128.0.0.1", "", False),
        ("192.0.2.1", "192.0.2.1", "", True),
        ("[::1]/128", "::1", "", True),
        ("[::1]", "0:0:0:0:0:0:0:1", "", True),
        ("::1", "::1", "", True),
        ("[2001:db8::]/32", "2001:db8::5", "", True),
        ("127.0.0.0/8", "::ffff:127.0.0.1", "", True),
        ("[::ffff:127.0.0.0]/104", "127.0.0.1", "", False),
        ("0.0.0.0/0", "::1", "", False),
        ("!192.0.2.5 192.0.2.0/24", "192.0.2.5", "", False),
        ("!192.0.2.5 192.0.2.0/24", "192.0.2.6", "", True),
        ("host.example", "192.0.2.9", "Host.Example", True),
        ("example", "192.0.2.9", "host.example", True),
        ("host.example", "192.0.2.9", "unknown", False),
        ("inline:{192.0.2.9=x}", "192.0.2.9", "", True),
        ("inline:{host.example=x}", "192.0.2.9", "host.example", True),
        ("192.0.2.0/24", "unknown", "unknown", False),
        ("", "127.0.0.1", "localhost", False),
    ],
)
def test_network_list(value, address, name, expected):
    assert network_list(config(mynetworks=value), "mynetworks").matches(Client(address, name)) is expected


def test_cidr_tables_match_addresses(tmp_path):
    (tmp_path / "nets").write_text("192.0.2.0/24 x\n")
    nets = network_list(config(mynetworks=f"cidr:{tmp_path}/nets"), "mynetworks")
    assert nets.matches(Client("192.0.2.1", "host.example"))
    assert not nets.matches(Client("203.0.113.1", "host.example"))


def test_files(tmp_path):
    (tmp_path / "domains").write_text("# comment\na.example, b.example\n  !c.example\n")
    domains = string_list(config(mydestination=f"{tmp_path}/domains"), "mydestination")
    assert [domains.matches(name) for name in ("a.example", "b.example", "c.example", "d.example")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_negated_file_decides_the_other_way(tmp_path):
    (tmp_path / "domains").write_text("a.example !b.example\n")
    domains = string_list(config(mydestination=f"!{tmp_path}/domains, static:all"), "mydestination")
    assert [domains.matches(name) for name in ("a.example", "b.example", "c.example")] == [False, True, True]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mysql:/x", "unsupported table type"),
        ("/no/such/file", "No such file"),
        ("! a", "a ! without a pattern"),
    ],
)
def test_a_wrong_list_is_a_mistake_in_main_cf(value, message):
    with pytest.raises(ConfigError) as caught:
        string_list(config(mydestination=value), "mydestination")
    assert str(caught.value).startswith("main.cf, line 7: parameter mydestination: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["192.0.2.1/24", "192.0.2.0/33", "[::1", "192.0.2.0/x"])
def test_a_wrong_network(value):
    with pytest.raises(ConfigError, match="parameter mynetworks: bad network"):
        network_list(config(mynetworks=value), "mynetworks")


def test_a_file_that_names_itself(tmp_path):
    (tmp_path / "domains").write_text(f"{tmp_path}/domains\n")
    with pytest.raises(ConfigError, match="does a file name itself"):
        string_list(config(mydestination=f"{tmp_path}/domains"), "mydestination")


def test_trouble_in_a_table():
    with pytest.raises(TableError):
        string_list(config(mydestination="a.example fail:x"), "mydestination").matches("b.example")
