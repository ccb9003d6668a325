import asyncio
import threading

import pytest

from pyfix.system.flusher import Flusher


@pytest.fixture
def flushers():
    started = []

    def start(threads):
        started.append(Flusher(asyncio.get_running_loop(), threads))
        return started[-1]

    yield start
    for flusher in started:
        flusher.close()


def test_functions_run_in_other_threads_and_all_end(flushers):
    async def scenario():
        flusher = flushers(3)
        seen = []
        futures = [flusher.run(lambda n=n: seen.append((n, threading.get_ident()))) for n in range(500)]
        await asyncio.wait_for(asyncio.gather(*futures), 10)
        assert sorted(n for n, _ in seen) == list(range(500))
        assert threading.get_ident() not in {thread for _, thread in seen}

    asyncio.run(scenario())


def test_what_a_function_raises_is_raised_where_it_is_awaited(flushers):
    def fail():
        raise ValueError("x")

    async def scenario():
        flusher = flushers(1)
        with pytest.raises(ValueError, match="x"):
            await flusher.run(fail)
        await flusher.run(lambda: None)

    asyncio.run(scenario())


def test_a_future_that_nobody_waits_for_any_more_does_no_harm(flushers):
    async def scenario():
        flusher = flushers(1)
        go_on = threading.Event()
        future = flusher.run(go_on.wait)
        future.cancel()
        go_on.set()
        await flusher.run(lambda: None)

    asyncio.run(scenario())


def test_the_loop_is_not_held_up(flushers):
    async def scenario():
        flusher = flushers(2)
        go_on = threading.Event()
        waiting = flusher.run(go_on.wait)
        await flusher.run(lambda: None)
        assert not waiting.done()
        go_on.set()
        await asyncio.wait_for(waiting, 10)

    asyncio.run(scenario())


def test_close_ends_the_threads_and_loses_nothing(flushers):
    async def scenario():
        before = threading.active_count()
        flusher = flushers(3)
        seen = []
        futures = [flusher.run(lambda n=n: seen.append(n)) for n in range(50)]
        flusher.close()
        await asyncio.wait_for(asyncio.gather(*futures), 10)
        assert sorted(seen) == list(range(50))
        assert threading.active_count() == before

    asyncio.run(scenario())
