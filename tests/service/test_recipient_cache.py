import asyncio

from pyfix.service.recipient_cache import RecipientCache
from pyfix.service.rewrite import Resolved, ResolveReply


class Rewrite:
    def __init__(self):
        self.asked = 0

    async def call(self, _method, parameters):
        self.asked += 1
        return ResolveReply((Resolved(parameters.recipients[0], "local", "x", "local"),))


def test_answers_are_kept_for_a_second():
    rewrite = Rewrite()
    cache = RecipientCache(rewrite)
    assert cache.get("s", "r", 10.0) is None
    resolved = asyncio.run(cache.ask("s", "r", 10.0))
    assert cache.get("s", "r", 10.9) is resolved
    assert cache.get("s", "r", 11.0) is None
    assert cache.get("other", "r", 10.0) is None


def test_the_number_of_answers_is_bounded():
    rewrite = Rewrite()
    cache = RecipientCache(rewrite)

    async def ask():
        for number in range(2500):
            await cache.ask("s", f"r{number}", 0.0)

    asyncio.run(ask())
    assert sum(cache.get("s", f"r{number}", 0.0) is not None for number in range(2500)) <= 1000
