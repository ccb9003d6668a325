"""The logs of fast flush as files, in Postfix's format."""

import os

import pytest

from pyfix.spool import flush_log
from pyfix.spool.directories import Spool
from pyfix.spool.flush_log import FlushLogs, LogStatus

LONG, SHORT = "4jXZyg57fwzFGn9", "6316C1AE697"
NAME = "example_com"


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path))
    spool.make_directories(("flush",))
    yield spool
    spool.close()


def path(spool, name=NAME):
    return f"{spool.root}/flush/{name}"


def read(spool):
    with open(path(spool)) as file:
        return file.read()


def test_a_log_is_continued_and_emptied(spool):
    logs = FlushLogs(spool)
    logs.add(NAME, [LONG])
    logs.add(NAME, [SHORT, LONG])
    assert read(spool) == f"{LONG}\n{SHORT}\n{LONG}\n"
    assert os.stat(path(spool)).st_mode & 0o777 == 0o600
    assert logs.take(NAME, 1000.0) == ([LONG, SHORT], False)
    assert list(logs.scan()) == [LogStatus(NAME, 0, 1000.0, 1000.0)]
    assert logs.take(NAME, 1001.0) == ([], False)


def test_no_log_holds_nothing(spool):
    assert FlushLogs(spool).take(NAME, 1000.0) == ((), False)
    assert list(FlushLogs(spool).scan()) == []


def test_the_time_of_use_stays_when_a_log_is_continued(spool):
    logs = FlushLogs(spool)
    logs.add(NAME, [LONG])
    logs.take(NAME, 1000.0)
    logs.add(NAME, [LONG])
    [status] = logs.scan()
    assert status.used == 1000.0
    assert status.written > 1000.0


def test_what_is_no_queue_id_is_passed_over(spool):
    with open(path(spool), "wb") as file:
        file.write(f"../x\n\xff\n\n{LONG}\n{'9' * 5000}\n{SHORT}".encode("latin-1"))
    assert FlushLogs(spool).take(NAME, 1000.0) == ([LONG, SHORT], False)


def test_a_log_does_not_grow_beyond_its_limit(spool, monkeypatch):
    monkeypatch.setattr(flush_log, "SIZE_LIMIT", 30)
    logs = FlushLogs(spool)
    for _ in range(5):
        logs.add(NAME, [LONG])
    assert len(read(spool)) == 2 * (len(LONG) + 1)
    assert logs.take(NAME, 1000.0).full
    assert read(spool) == ""


def test_a_link_is_not_followed(spool, tmp_path):
    (tmp_path / "target").write_text(f"{LONG}\n")
    os.symlink(tmp_path / "target", path(spool))
    with pytest.raises(OSError, match="Too many levels"):
        FlushLogs(spool).take(NAME, 1000.0)
    with pytest.raises(OSError, match="Too many levels"):
        FlushLogs(spool).add(NAME, [LONG])
    assert list(FlushLogs(spool).scan()) == []


def test_removal(spool):
    logs = FlushLogs(spool)
    logs.add(NAME, [LONG])
    logs.remove(NAME)
    logs.remove(NAME)
    assert list(logs.scan()) == []
