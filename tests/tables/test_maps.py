import pytest

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.tables.maps import Maps, find_address, open_maps, user_part
from pyfix.tables.table import TableError, open_table


def maps(*names):
    return Maps("test_maps", [open_table(name) for name in names])


def is_local(domain):
    return domain == "here.example"


def test_the_first_table_with_a_value_counts():
    both = maps("inline:{a=1}", "inline:{a=2, b=3}")
    assert (both.look_up("a"), both.look_up("b"), both.look_up("c"), both.look_up("")) == ("1", "3", None, None)


def test_trouble_is_not_passed_over():
    with pytest.raises(TableError):
        maps("fail:x", "inline:{a=2}").look_up("a")
    assert maps("inline:{a=2}", "fail:x").look_up("a") == "2"


def test_an_empty_value_is_trouble():
    with pytest.raises(TableError, match="an empty value"):
        maps("inline:{a=}").look_up("a")


@pytest.mark.parametrize(
    ("table", "address", "expected"),
    [
        ("inline:{u+x@a.example=1, u@a.example=2, @a.example=3}", "u+x@a.example", "1"),
        ("inline:{u@a.example=2, @a.example=3}", "u+x@a.example", "2"),
        ("inline:{@a.example=3}", "u+x@a.example", "3"),
        ("inline:{u=4}", "u+x@a.example", None),
        ("inline:{u+x=4, u=5}", "u+x@here.example", "4"),
        ("inline:{u=5, @here.example=6}", "u+x@here.example", "5"),
        ("inline:{@here.example=6}", "u@here.example", "6"),
        ("inline:{u=5}", "u", "5"),
        ("inline:{u=5}", "u+x", "5"),
        ('inline:{ {"a b"@a.example = 7} }', "a b@a.example", "7"),
        ("inline:{ {a b@a.example = 8} }", "a b@a.example", "8"),
        ("inline:{postmaster=9}", "postmaster+x@here.example", "9"),
        ("inline:{+x@a.example=10}", "+x@a.example", "10"),
    ],
)
def test_find_address(table, address, expected):
    assert find_address(maps(table), address, "+", is_local) == expected


def test_pattern_tables_see_only_the_whole_address(tmp_path):
    (tmp_path / "map").write_text("/^u@/ found\n/^@/ domain\n")
    table = maps(f"regexp:{tmp_path}/map")
    assert find_address(table, "u@a.example", "+", is_local) == "found"
    assert find_address(table, "u+x@a.example", "+", is_local) is None


def test_no_tables():
    assert not maps()
    assert find_address(maps(), "u@a.example", "+", is_local) is None


@pytest.mark.parametrize(
    ("local", "delimiters", "expected"),
    [
        ("user+ext", "+", "user"),
        ("user+a-b", "-+", "user"),
        ("user-a+b", "+-", "user"),
        ("user+ext", "", "user+ext"),
        ("+ext", "+", "+ext"),
        ("user+", "+", "user"),
        ("Mailer-Daemon", "-", "Mailer-Daemon"),
        ("double-bounce", "-", "double-bounce"),
        ("owner-list", "-", "owner-list"),
        ("list-request", "-", "list-request"),
        ("owner-list", "+", "owner-list"),
    ],
)
def test_user_part(local, delimiters, expected):
    assert user_part(local, delimiters) == expected


def test_owner_is_no_name_when_not_wanted():
    assert user_part("owner-list", "-", owner_request_special=False) == "owner"


def config(**values):
    return Config("/x", [Assignment(name, value, "main.cf", 3) for name, value in values.items()])


def test_open_maps():
    conf = config(virtual_alias_maps="inline:{a=1 b=2}, proxy:inline:{c=3}", transport_maps="")
    assert open_maps(conf, "virtual_alias_maps").look_up("c") == "3"
    assert not open_maps(conf, "transport_maps")


def test_a_wrong_table_is_a_mistake_in_main_cf():
    with pytest.raises(ConfigError) as caught:
        open_maps(config(transport_maps="mysql:/x"), "transport_maps")
    assert str(caught.value).startswith("main.cf, line 3: parameter transport_maps: mysql:/x: unsupported table type")
