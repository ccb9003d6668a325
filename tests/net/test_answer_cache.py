"""The cache of answers."""

from pyfix.net.answer_cache import AnswerCache


def test_answers_are_known_until_they_expire():
    cache = AnswerCache(10)
    cache.put("k", "v", 100.0)
    assert cache.get("k", 99.9) == "v"
    assert cache.get("k", 100.0) is None
    assert len(cache) == 0


def test_the_one_not_asked_for_longest_makes_room():
    cache = AnswerCache(2)
    cache.put("a", 1, 9)
    cache.put("b", 2, 9)
    assert cache.get("a", 0) == 1
    cache.put("c", 3, 9)
    assert (cache.get("a", 0), cache.get("b", 0), cache.get("c", 0)) == (1, None, 3)
    cache.clear()
    assert len(cache) == 0
