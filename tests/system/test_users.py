from pyfix.system.users import group_entry, passwd_entry


def test_root():
    assert passwd_entry("root").startswith("root:")
    assert passwd_entry("root").split(":")[2] == "0"
    assert group_entry("root").split(":")[2] == "0"


def test_nobody_of_that_name():
    assert passwd_entry("no-such-user-here") is None
    assert group_entry("no-such-group-here") is None


def test_a_nul_is_in_no_name():
    assert passwd_entry("root\0x") is None
    assert group_entry("root\0x") is None
