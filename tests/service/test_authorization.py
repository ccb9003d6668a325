"""Lists of users, against the number that the kernel tells."""

import asyncio
import os

import pytest
from roles.serving import Log

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.service.authorization import QueueUsers, UserList
from pyfix.service.denied import Stranger
from pyfix.system import account
from pyfix.system.unix import Peer

NOBODY = 65534
NAMES = {0: "root", 2: "bin", 1000: "Ada", NOBODY: "nobody"}


def conf(value, **others):
    settings = {"authorized_mailq_users": value, **others}
    return Config("/", [Assignment(name, text, "main.cf", 1) for name, text in settings.items()])


@pytest.fixture(autouse=True)
def accounts(monkeypatch):
    def by_uid(uid):
        return account.Account(NAMES[uid], uid, uid, "", "/", "/bin/sh") if uid in NAMES else None

    monkeypatch.setattr(account, "by_uid", by_uid)


def check(value, uid):
    return asyncio.run(UserList(conf(value), "authorized_mailq_users").check(uid))


@pytest.mark.parametrize(
    ("value", "uid", "name"),
    [
        ("static:anyone", NOBODY, ""),
        ("static:anyone", 4711, ""),
        ("static:all", NOBODY, ""),
        ("", NOBODY, "nobody"),
        ("", 0, "root"),
        ("root, bin", 2, ""),
        ("root, bin", NOBODY, "nobody"),
        ("!nobody, static:anyone", NOBODY, "nobody"),
        ("!nobody, static:anyone", 2, ""),
        ("!unknown, static:anyone", 4711, "unknown"),
        ("root", 4711, "unknown"),
        ("unknown", 4711, ""),
        ("ada", 1000, ""),
        ("ADA", 1000, ""),
        ("inline:{nobody=ok}", NOBODY, ""),
        ("inline:{root=ok}", NOBODY, "nobody"),
        ("!inline:{nobody=ok} static:anyone", NOBODY, "nobody"),
    ],
)
def test_lists(value, uid, name):
    """As string_list and check_user_acl_byuid of Postfix have it."""
    assert check(value, uid) == (Stranger(name, uid) if name else None)


def test_names_in_a_file(tmp_path):
    (tmp_path / "users").write_text("# those who may\nbin\n!root\nnobody\n")
    value = f"{tmp_path}/users"
    assert check(value, NOBODY) is None
    assert check(value, 0) == Stranger("root", 0)


def test_the_usual_list_asks_no_user_database(monkeypatch):
    def fail(_uid):
        raise OSError(5, "down")

    monkeypatch.setattr(account, "by_uid", fail)
    assert check("static:anyone", NOBODY) is None
    with pytest.raises(OSError, match="down"):
        check("bin", NOBODY)


def test_a_list_that_cannot_be_used():
    with pytest.raises(ConfigError):
        check("nosuchtype:x", NOBODY)


def queue_users(value, uid, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 33)
    monkeypatch.setattr(account, "by_name", lambda name: {"owner": account.Account(name, 44, 44, "", "/", "")}[name])
    log = Log()
    users = QueueUsers(conf(value, mail_owner="owner"), "authorized_mailq_users", log)
    return asyncio.run(users.check(Peer(1, uid, uid))), log.lines


@pytest.mark.parametrize("uid", [0, 33, 44])
def test_root_the_mail_owner_and_the_service_need_no_entry(uid, monkeypatch):
    assert queue_users("", uid, monkeypatch) == (None, [])


def test_others_do(monkeypatch):
    assert queue_users("", 2, monkeypatch) == (Stranger("bin", 2), [])


def test_who_cannot_be_looked_up_may_not(monkeypatch):
    stranger, lines = queue_users("fail:x", NOBODY, monkeypatch)
    assert stranger == Stranger("unknown", NOBODY)
    assert [line for line in lines if line.startswith("warning: authorized_mailq_users: fail:x")]
