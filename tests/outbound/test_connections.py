"""Connections that are kept, and the demand for them."""

from pyfix.outbound.connections import ConnectionCache, Demand


def test_a_session_is_found_under_each_key_once():
    cache = ConnectionCache(10)
    assert cache.put("s1", ("d", 1)) is None
    assert cache.put("s2", ("d", 2)) is None
    assert cache.take(1) == "s1"
    assert cache.take("d") == "s2"
    assert cache.take("d") is None
    assert cache.take(2) is None
    assert len(cache) == 0


def test_the_oldest_makes_room():
    cache = ConnectionCache(2)
    assert [cache.put(s, ("d",)) for s in ("s1", "s2", "s3")] == [None, None, "s1"]
    assert [cache.take("d"), cache.take("d"), cache.take("d")] == ["s3", "s2", None]


def test_sessions_may_be_forgotten():
    cache = ConnectionCache(2)
    cache.put("s1", ("d", 1))
    cache.put("s2", ("d", 2))
    cache.drop("s1")
    cache.drop("s1")
    assert cache.clear() == ["s2"]
    assert cache.take("d") is None


def test_demand_is_another_delivery_now_or_of_late():
    demand = Demand(2.0)
    demand.begin("d")
    assert not demand.felt("d", 0.0)
    demand.begin("d")
    assert demand.felt("d", 0.0)
    demand.end("d", 1.0)
    assert demand.felt("d", 2.9)
    assert not demand.felt("d", 3.0)
    assert not demand.felt("e", 1.0)


def test_what_is_remembered_of_destinations_is_bounded():
    demand = Demand(2.0)
    for second in range(5000):
        demand.begin(str(second))
        demand.end(str(second), float(second))
    assert len(demand._ended) <= 1001
    assert demand._active == {}
