import asyncio
import errno
import os
import threading

import pytest

from pyfix.system import flusher as flusher_module
from pyfix.system.durable import DurableFile, WriteError
from pyfix.system.flusher import Flusher


@pytest.fixture(params=["kernel", "threads"])
def flushers(request):
    started = []

    def start():
        started.append(Flusher(asyncio.get_running_loop(), kernel=request.param == "kernel"))
        return started[-1]

    yield start
    for flusher in started:
        flusher.close()


@pytest.fixture
def new_file(tmp_path):
    def make(name, content=b"x"):
        file = DurableFile(str(tmp_path / name))
        file.write(content)
        return file

    return make


class Unsyncable:
    """A file that is none: syncing it fails."""

    def __init__(self):
        self.descriptor, self._other = os.pipe()
        self.told = []

    def seal(self):
        return self.descriptor

    def settle(self, error):
        self.told.append(error.errno)
        os.close(self.descriptor)
        os.close(self._other)
        raise error


def test_files_are_committed(flushers, new_file, tmp_path):
    async def scenario():
        flusher = flushers()
        files = [new_file(str(number)) for number in range(600)]
        await asyncio.wait_for(asyncio.gather(*map(flusher.commit, files)), 30)
        for file in files:
            assert file.fileno() == -1
            assert (tmp_path / file.name).stat().st_mode & 0o777 == 0o700

    asyncio.run(scenario())


def test_nothing_is_committed_before_it_is_synced(flushers, new_file):
    async def scenario():
        flusher = flushers()
        file = new_file("x")
        committed = flusher.commit(file)
        assert not committed.done()
        assert file.fileno() >= 0
        await committed
        assert file.fileno() == -1

    asyncio.run(scenario())


def test_a_file_that_cannot_be_synced_is_told_apart(flushers, new_file):
    async def scenario():
        flusher = flushers()
        bad, good = Unsyncable(), [new_file(str(number)) for number in range(10)]
        committed = [flusher.commit(file) for file in (*good[:5], bad, *good[5:])]
        results = await asyncio.gather(*committed, return_exceptions=True)
        assert [result.errno if result else 0 for result in results] == [0] * 5 + [errno.EINVAL] + [0] * 5
        assert bad.told == [errno.EINVAL]

    asyncio.run(scenario())


def test_what_fails_before_the_sync_fails_at_once(flushers, new_file, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    async def scenario():
        flusher = flushers()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fchmod", full)
            with pytest.raises(WriteError):
                flusher.commit(new_file("x"))
        assert list(tmp_path.iterdir()) == []

    asyncio.run(scenario())


def test_who_waits_no_longer_changes_nothing(flushers, new_file, tmp_path):
    async def scenario():
        flusher = flushers()
        bad = Unsyncable()
        for file in (new_file("x"), bad):
            flusher.commit(file).cancel()
        await flusher.commit(new_file("y"))
        # What was asked for first may end last.
        async with asyncio.timeout(10):
            while not bad.told or (tmp_path / "x").stat().st_mode & 0o777 != 0o700:  # noqa: ASYNC110 -- no event for it
                await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_close_ends_all_and_loses_nothing(flushers, new_file):
    async def scenario():
        before = threading.active_count()
        flusher = flushers()
        files = [new_file(str(number)) for number in range(600)]
        committed = [flusher.commit(file) for file in files]
        flusher.close()
        assert all(file.fileno() == -1 for file in files)
        await asyncio.wait_for(asyncio.gather(*committed), 10)
        assert threading.active_count() == before
        flusher.close = lambda: None

    asyncio.run(scenario())


def test_a_kernel_that_takes_nothing_leaves_it_to_threads(new_file, monkeypatch):
    class Unwilling(flusher_module.KernelSync):
        def begin(self, _syncs):
            raise OSError(errno.EAGAIN, "busy")

    async def scenario():
        monkeypatch.setattr(flusher_module, "KernelSync", Unwilling)
        flusher = Flusher(asyncio.get_running_loop())
        await asyncio.wait_for(asyncio.gather(*(flusher.commit(new_file(str(n))) for n in range(300))), 30)
        flusher.close()

    asyncio.run(scenario())


def test_a_kernel_without_it_leaves_it_to_threads(new_file, monkeypatch):
    def refuse(_room):
        raise OSError(errno.EPERM, "not permitted")

    async def scenario():
        monkeypatch.setattr(flusher_module, "KernelSync", refuse)
        flusher = Flusher(asyncio.get_running_loop())
        await asyncio.wait_for(flusher.commit(new_file("x")), 10)
        assert any(thread.name.startswith("flusher-") for thread in threading.enumerate())
        flusher.close()

    asyncio.run(scenario())
