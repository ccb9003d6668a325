"""Accounts, and acting as one."""

import grp
import os
import pwd
import subprocess
import sys

import pytest

from pyfix.system import account


def test_every_user_of_this_machine_is_found_as_pwd_finds_them() -> None:
    for entry in pwd.getpwall()[:20]:
        expected = account.Account(
            entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_gecos, entry.pw_dir, entry.pw_shell, entry.pw_passwd
        )
        found = account.by_name(entry.pw_name)
        assert expected == found
        assert found.line == ":".join(str(field) for field in entry)


def test_every_group_of_this_machine_is_found_as_grp_finds_them() -> None:
    for entry in grp.getgrall():
        expected = f"{entry.gr_name}:{entry.gr_passwd}:{entry.gr_gid}:{','.join(entry.gr_mem)}"
        assert expected == account.group_line(entry.gr_name)


@pytest.mark.parametrize("name", ["no-such-user", "", "root\0", "x" * 100_000, "\udcff"])
def test_unknown_names_are_none(name: str) -> None:
    assert account.by_name(name) is None
    assert account.group_line(name) is None


def test_numbers() -> None:
    root = account.by_uid(0)
    assert root is not None
    assert root.name == "root"
    assert account.by_uid(4_294_967_290) is None


@pytest.mark.parametrize(
    ("gecos", "expected"),
    [
        ("Ada Lovelace,Room 1,555", "Ada Lovelace"),
        ("& Lovelace (office)", "Ada Lovelace"),
        ("Ada%host", "Ada"),
        ("", ""),
    ],
)
def test_full_name(gecos: str, expected: str) -> None:
    assert expected == account.Account("ada", 1, 1, gecos, "/", "/").full_name


def test_a_database_in_trouble_is_not_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        @staticmethod
        def getpwnam_r(*_args: object) -> int:
            return 5

        getgrnam_r = getpwnam_r

    monkeypatch.setattr(account, "_libc", Libc)
    with pytest.raises(OSError, match="Input/output error"):
        account.group_line("ada")
    with pytest.raises(OSError, match="Input/output error"):
        account.by_name("ada")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as others")
def test_root_acts_as_another_user_and_comes_back() -> None:
    program = """
import os
from pyfix.system import account
before = os.geteuid(), os.getegid(), os.getgroups()
with account.acting_as(65534, 65533):
    print(os.geteuid(), os.getegid(), os.getgroups())
print(before == (os.geteuid(), os.getegid(), os.getgroups()))
try:
    with account.acting_as(65534, 65533):
        raise KeyError
except KeyError:
    print(before == (os.geteuid(), os.getegid(), os.getgroups()))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["65534 65533 [65533]", "True", "True"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as others")
def test_an_actor_changes_only_when_it_must_and_comes_back_when_a_change_fails() -> None:
    program = """
import os
from pyfix.system import account
def now():
    return os.geteuid(), os.getegid(), os.getgroups()
before, calls, seteuid = now(), [], os.seteuid
def noted(uid):
    calls.append(uid)
    seteuid(uid)
os.seteuid = noted
actor = account.Actor()
for uid in (65534, 65534, 65533, 65534):
    actor.act_as(uid, 65532)
    print(now())
print(os.getresuid()[0], os.getresuid()[2], calls)
actor.be_itself()
print(before == now())
def refused(uid):
    if uid:
        raise PermissionError
    seteuid(uid)
os.seteuid = refused
for attempt in range(2):
    try:
        actor.act_as(65534, 65532)
    except PermissionError:
        print(before == now())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [
        "(65534, 65532, [65532])",
        "(65534, 65532, [65532])",
        "(65533, 65532, [65532])",
        "(65534, 65532, [65532])",
        "0 0 [65534, 0, 65533, 0, 65534]",
        "True",
        "True",
        "True",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as others")
def test_an_actor_that_cannot_come_back_ends_the_process() -> None:
    program = """
import os, sys
from pyfix.system import account
actor = account.Actor()
actor.act_as(65534, 65534)
os.seteuid = lambda uid: None
try:
    actor.act_as(65533, 65533)
finally:
    sys.exit(3)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ran.returncode == os.EX_OSERR


def test_others_than_root_act_only_as_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with account.acting_as(1000, 1000):
        pass
    with pytest.raises(PermissionError), account.acting_as(1001, 1001):
        pass
    assert account.may_act_as(1000)
    assert not account.may_act_as(1001)
