import os
import pwd

import pytest

from pyfix.conf.unit_kinds import Identity, SocketUnit
from pyfix.system.identity import Identities
from pyfix.system.spawn import Process, spawn

NOBODY = pwd.getpwnam("nobody")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")


def socket_unit(**settings):
    return SocketUnit(name="x.socket", service="x.service", listen=(), fd_name="x", **settings)


@root_only
def test_a_user_brings_his_group_and_the_units_groups():
    identities = Identities("nobody", change=True)
    found = identities.credentials(Identity(user="nobody", supplementary_groups=("mail", "no-such-group")))
    assert (found.uid, found.gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert set(found.groups) >= {NOBODY.pw_gid, 8}
    assert -1 not in found.groups
    assert identities.missing == {"no-such-group"}


@root_only
def test_a_dynamic_user_is_the_static_one_and_no_user_is_the_supervisors():
    identities = Identities("nobody", change=True)
    assert identities.credentials(Identity(dynamic=True)).uid == NOBODY.pw_uid
    assert identities.credentials(Identity()) is None
    assert identities.owner(socket_unit(group="mail")) == (-1, 8)


@pytest.mark.parametrize(("user", "change"), [("nobody", False), ("no-such-user", True)])
def test_without_the_static_user_or_leave_nobody_is_changed(user, change):
    identities = Identities(user, change=change)
    assert not identities.changes
    assert identities.credentials(Identity(user="nobody", group="mail", dynamic=True)) is None
    assert identities.owner(socket_unit(user="nobody", group="mail")) == (-1, -1)


@root_only
@pytest.mark.system
def test_a_process_has_the_users_rights_and_no_way_back(tmp_path):
    tmp_path.chmod(0o777)
    credentials = Identities("nobody", change=True).credentials(Identity(user="nobody", supplementary_groups=("mail",)))
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    saved = os.dup(1)
    os.dup2(out, 1)
    try:
        command = ("/bin/grep", "-E", "^(Uid|Gid|Groups|CapEff):", "/proc/self/status")
        pid = spawn(Process(command, {}, credentials=credentials))
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(out)
    status = dict(line.split(":\t") for line in (tmp_path / "out").read_text().split("\n") if line)
    assert status["Uid"].split() == [str(NOBODY.pw_uid)] * 4
    assert status["Gid"].split() == [str(NOBODY.pw_gid)] * 4
    assert set(status["Groups"].split()) == {"8", str(NOBODY.pw_gid)}
    assert int(status["CapEff"], 16) == 0
