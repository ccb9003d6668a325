import pytest

from pyfix.tables.table import MODULES, TableError, open_table


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("static:all", "anything", "all"),
        ("static:{two words}", "", "two words"),
        ("inline:{a=b}", "a", "b"),
        ("inline:{A=b}", "a", "b"),
        ("inline:{{a key = b}}", "A key", "b"),
        ("inline:{a=b}", "A", "b"),
        ("inline:{a=b}", "c", None),
        ("inline:{ a=b, c=d=e, {x = two words} }", "c", "d=e"),
        ("inline:{ a=b, {x = two words} }", "x", "two words"),
        ("environ:", "NO_SUCH_VARIABLE", None),
        ("environ:x", "MAIL_TEST", "from outside"),
        ("proxy:inline:{a=b}", "a", "b"),
    ],
)
def test_look_up(name, key, expected, monkeypatch):
    monkeypatch.setenv("MAIL_TEST", "from outside")
    assert open_table(name).look_up(key) == expected


@pytest.mark.parametrize("name", ["unix:passwd.byname", "proxy:unix:passwd.byname"])
def test_users(name):
    table = open_table(name)
    assert table.look_up("root").startswith("root:")
    assert table.look_up("ROOT").startswith("root:")
    assert table.look_up("no-such-user-here") is None
    assert table.name == "unix:passwd.byname"


def test_groups():
    assert open_table("unix:group.byname").look_up("root").startswith("root:")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "a table is written type:name"),
        (":x", "a table is written type:name"),
        ("mysql:/etc/x", "unsupported table type 'mysql'; known are btree, cidr, environ"),
        ("../evil:x", "unsupported table type '../evil'"),
        ("unix:shadow", "unknown database"),
        ("inline:", "write inline:"),
        ("inline:{}", "the table is empty"),
        ("inline:{a = b}", "not key=value: 'a'"),
        ("inline:{=b}", "not key=value: '=b'"),
        ("inline:{a}", "not key=value: 'a'"),
        ("inline:{a={b}", "lacks its closing"),
    ],
)
def test_a_name_that_opens_no_table(name, message):
    with pytest.raises(TableError) as caught:
        open_table(name)
    assert message in caught.value.message
    assert caught.value.table == name


def test_fail_fails_at_every_look_up():
    table = open_table("fail:x")
    with pytest.raises(TableError, match="fail:x: fails always"):
        table.look_up("a")


@pytest.mark.parametrize("type_name", sorted(MODULES))
def test_every_type_has_its_module(type_name, tmp_path):
    source = tmp_path / "empty"
    source.write_text("")
    argument = {"inline": "{a=b}", "unix": "group.byname"}.get(type_name, str(source))
    table = open_table(f"{type_name}:{argument}")
    assert table.name == f"{type_name}:{argument}"
    assert table.partial is (type_name not in ("cidr", "regexp"))
