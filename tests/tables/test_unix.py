import pytest

from pyfix.system import account
from pyfix.tables.table import TableError, open_table


def test_names_are_looked_up_as_they_are_and_then_in_lower_case():
    table = open_table("unix:passwd.byname")
    assert table.look_up("root").split(":")[:4] == ["root", "x", "0", "0"]
    assert table.look_up("Root") == table.look_up("root")
    assert open_table("unix:group.byname").look_up("root").split(":")[2] == "0"


@pytest.mark.parametrize("name", ["no-such-user", "", "root\0"])
def test_nobody_of_that_name(name):
    assert open_table("unix:passwd.byname").look_up(name) is None
    assert open_table("unix:group.byname").look_up(name) is None


@pytest.mark.parametrize("database", ["passwd.byname", "group.byname"])
def test_a_database_in_trouble_is_not_an_unknown_name(monkeypatch, database):
    """The one defers mail, the other bounces it."""

    class Libc:
        @staticmethod
        def getpwnam_r(*_args):
            return 5

        getgrnam_r = getpwnam_r

    monkeypatch.setattr(account, "_libc", Libc)
    with pytest.raises(TableError, match="Input/output error"):
        open_table(f"unix:{database}").look_up("ada")
