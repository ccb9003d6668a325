import pytest

from pyfix.conf.error import ValueTrouble
from pyfix.tables.cidr import parse_network
from pyfix.tables.table import TableError, open_table

TEXT = """\
192.0.2.1      one
192.0.2.0/24   net
!10.0.0.0/8    not ten
if 10.1.0.0/16
10.1.2.0/24    inner
endif
[2001:db8::]/32  six
2001:db9::1    six too
"""


@pytest.fixture
def table(tmp_path):
    (tmp_path / "map").write_text(TEXT)
    return open_table(f"cidr:{tmp_path}/map")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("192.0.2.1", "one"),
        ("192.0.2.2", "net"),
        ("203.0.113.1", "not ten"),
        ("10.1.2.3", "inner"),
        ("10.1.3.3", None),
        ("10.2.2.3", None),
        ("2001:db8::5", "not ten"),
        ("mail.example", None),
        ("", None),
    ],
)
def test_first_match(table, key, expected):
    assert table.look_up(key) == expected


def test_ipv6(tmp_path):
    (tmp_path / "map").write_text("[2001:db8::]/32 six\n2001:db9::1 seven\n")
    table = open_table(f"cidr:{tmp_path}/map")
    assert [table.look_up(key) for key in ("2001:0db8:0::1", "2001:db9::1", "2001:db9::2")] == ["six", "seven", None]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3",
        "1.2.3.4/33",
        "1.2.3.4/24",
        "1.2.3.4/255.255.255.255",
        "[::1",
        "[::1]x",
        "host.example",
        "1.2.3.4/+8",
    ],
)
def test_no_network(text):
    with pytest.raises(ValueTrouble):
        parse_network(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1.2.3.4\n", 1),
        ("1.2.3.4/24 x\n", 1),
        ("\n# c\nif 10.0.0.0/8\n1.2.3.4 x\n", 3),
        ("endif\n", 1),
        ("if 10.0.0.0/8 x\nendif\n", 1),
    ],
)
def test_a_wrong_line(tmp_path, text, line):
    (tmp_path / "map").write_text(text)
    with pytest.raises(TableError) as caught:
        open_table(f"cidr:{tmp_path}/map")
    assert caught.value.line == line
