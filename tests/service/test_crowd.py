import os

import pytest

from pyfix.service import crowd
from pyfix.service.crowd import Crowd

ADA, BOB, EVE = 1001, 1002, 1003


@pytest.fixture
def small(monkeypatch):
    """Room for two connections a user, for three in all."""
    monkeypatch.setattr(crowd, "descriptor_limit", lambda: 3 * 50)
    return Crowd(2)


def test_a_user_takes_no_more_than_his_share(small):
    assert [small.enter(ADA) for _ in range(4)] == [True, True, False, False]
    assert small.enter(BOB)
    assert small.refused() == {ADA: 2}
    assert small.refused() == {}
    small.leave(ADA)
    assert small.enter(ADA)


def test_many_users_leave_descriptors_for_the_work(small):
    assert [small.enter(uid) for uid in (ADA, ADA, BOB, EVE)] == [True, True, True, False]
    small.leave(BOB)
    assert small.enter(EVE)


def test_root_and_the_own_user_are_not_counted(small):
    for uid in (0, os.geteuid()):
        assert all(small.enter(uid) for _ in range(100))
        small.leave(uid)
    assert [small.enter(ADA) for _ in range(3)] == [True, True, False]
