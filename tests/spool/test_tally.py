import os

import pytest

from pyfix.spool.queue_id import QueueIds
from pyfix.spool.tally import SAMPLE, Tallies

USEC = 1_000_000_000_000_000
LATER = 1 << 62  # nanoseconds; long after every change


@pytest.fixture
def ids():
    return QueueIds()


def put(spool, queue, *names):
    for name in names:
        path = f"{spool.root}/{spool.path(queue, name)}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()


def named(tally):
    return sorted(path.rpartition("/")[2] for path in tally.sample)


@pytest.mark.parametrize("queue", ["incoming", "deferred"])
def test_a_tally_has_the_number_the_oldest_and_all_names_of_a_small_queue(spool, ids, queue):
    names = [ids.new(USEC + number * 1_234_567) for number in range(50)]
    put(spool, queue, *reversed(names))
    tally = Tallies(spool).look(queue, LATER)
    assert (tally.size, tally.oldest, tally.oldest_usec, tally.estimated) == (50, names[0], USEC, False)
    assert named(tally) == sorted(names)
    assert all(os.path.exists(f"{spool.root}/{path}") for path in tally.sample)


def test_an_empty_queue_and_one_that_is_missing(spool):
    for queue in ("active", "nonesuch"):
        tally = Tallies(spool).look(queue, LATER)
        assert tally == (0, "", (), False)
        assert tally.oldest_usec == 0


def test_short_ids_count_and_tell_no_time(spool):
    put(spool, "hold", "3053A190708", "3053A190709")
    tally = Tallies(spool).look("hold", LATER)
    assert (tally.size, tally.oldest_usec) == (2, 0)


def test_a_big_queue_is_sampled_and_the_sample_stays(spool, ids):
    names = [ids.new(USEC + number) for number in range(6 * SAMPLE)]
    put(spool, "active", *names)
    tallies = Tallies(spool)
    before = tallies.look("active", LATER)
    assert (before.size, len(before.sample), before.oldest) == (6 * SAMPLE, SAMPLE, names[0])
    put(spool, "active", *(ids.new(USEC * 2 + number) for number in range(100)))
    after = tallies.look("active", LATER)
    assert after.size == 6 * SAMPLE + 100
    assert len(set(before.sample) & set(after.sample)) > SAMPLE * 0.9


def test_only_what_has_changed_is_read_again(spool, ids, monkeypatch):
    put(spool, "deferred", *(ids.new(USEC + number * 7_654_321) for number in range(100)))
    tallies = Tallies(spool)
    tallies.look("deferred", LATER)
    read = []
    monkeypatch.setattr(Tallies, "_read", lambda self, path, now: read.append(path) or original(self, path, now))
    assert tallies.look("deferred", LATER).size == 100
    assert read == []
    name = ids.new(USEC)
    put(spool, "deferred", name)
    assert tallies.look("deferred", LATER).size == 101
    assert read == [os.path.dirname(spool.path("deferred", name))]


original = Tallies._read


def test_a_directory_that_changed_just_now_is_read_again(spool, ids):
    """Two changes within a tick of the clock have the same mtime."""
    put(spool, "hold", ids.new(USEC))
    status = os.stat(f"{spool.root}/hold")
    tallies = Tallies(spool)
    assert tallies.look("hold", status.st_mtime_ns).size == 1
    put(spool, "hold", ids.new(USEC))
    os.utime(f"{spool.root}/hold", ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert tallies.look("hold", LATER).size == 2


def test_what_costs_too_much_at_once_is_estimated_and_made_up_for_later(spool, ids):
    put(spool, "deferred", *(ids.new(USEC + number * 7_654_321) for number in range(100)))
    tallies = Tallies(spool, budget=10)
    assert not tallies.look("deferred", LATER).estimated  # what was never read is read
    for directory in os.listdir(f"{spool.root}/deferred"):
        for number in range(3):
            open(f"{spool.root}/deferred/{directory}/ABCDEF{number}", "w").close()
    expected = len([name for _, _, names in os.walk(f"{spool.root}/deferred") for name in names])
    looks = 1
    while (tally := tallies.look("deferred", LATER + looks)).estimated:
        assert tally.size < expected
        looks += 1
    assert looks > 2
    assert tally.size == expected


def test_a_subdirectory_that_is_gone_does_not_count(spool, ids):
    name = ids.new(USEC)
    put(spool, "deferred", name)
    tallies = Tallies(spool)
    assert tallies.look("deferred", LATER).size == 1
    path = f"{spool.root}/{spool.path('deferred', name)}"
    os.unlink(path)
    os.rmdir(os.path.dirname(path))
    assert tallies.look("deferred", LATER).size == 0


def test_links_lead_nowhere(spool, ids, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ids.new(USEC)).touch()
    os.symlink(tmp_path / "elsewhere", f"{spool.root}/active/A")
    assert Tallies(spool).look("active", LATER).size == 0
