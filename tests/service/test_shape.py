import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.service.shape import TOTAL, Ages, Shape, legend, level, name_cell

MINUTE = 60
DOMAINS = st.sampled_from(
    [b"a.example", b"b.example", b"x.a.example", b"y.a.example", b"localhost", b"MAILER-DAEMON", b""]
)
MESSAGES = st.lists(st.tuples(st.dictionaries(DOMAINS, st.integers(1, 50), min_size=1), st.integers(-100, 10**6)))
AGES = st.builds(Ages, st.integers(1, 20), st.integers(1, 30), st.booleans())


@pytest.mark.parametrize(
    ("ages", "seconds", "bucket"),
    [
        (Ages(), -5, 1), (Ages(), 0, 1), (Ages(), 5 * MINUTE - 1, 1), (Ages(), 5 * MINUTE, 2),
        (Ages(), 10 * MINUTE - 1, 2), (Ages(), 10 * MINUTE, 3), (Ages(), 20 * MINUTE, 4),
        (Ages(), 40 * MINUTE, 5), (Ages(), 1280 * MINUTE - 1, 9), (Ages(), 1280 * MINUTE, 10),
        (Ages(), 10**9, 10), (Ages(buckets=3), 10**9, 3), (Ages(buckets=1), 10**9, 1),
        (Ages(linear=True), 10 * MINUTE - 1, 2), (Ages(linear=True), 15 * MINUTE, 4),
        (Ages(minutes=0.5), 29, 1), (Ages(minutes=0.5), 30, 2),
    ],
)  # fmt: skip
def test_a_bucket_begins_where_the_one_before_ends(ages, seconds, bucket):
    assert ages.bucket(seconds) == bucket


@pytest.mark.parametrize(
    ("ages", "heads"),
    [
        (Ages(), "5 10 20 40 80 160 320 640 1280 1280+"),
        (Ages(buckets=4, linear=True), "5 10 15 15+"),
        (Ages(buckets=4, minutes=0.5), "0.5 1 2 2+"),
        (Ages(buckets=1), "0+"),
        (Ages(buckets=66, minutes=1), None),
    ],
)
def test_heads_are_the_ends_in_minutes(ages, heads):
    found = b" ".join(ages.heads()).decode()
    if heads is None:
        assert found.endswith("9223372036854775808 1.84467440737096e+19 1.84467440737096e+19+")
    else:
        assert found == heads


@given(MESSAGES, AGES, st.booleans())
def test_buckets_sum_up_to_the_totals(messages, ages, parents):
    shape = Shape(ages, parents=parents)
    for domains, age in messages:
        shape.add(domains.items(), age)
    rows = {row.domain: row.counts for row in shape.rows(min_children=1)}
    expected = sum(sum(domains.values()) for domains, _ in messages)
    assert rows[TOTAL][0] == expected
    assert all(counts[0] == sum(counts[1:]) and len(counts) == ages.buckets + 1 for counts in rows.values())
    leaves = [counts for domain, counts in rows.items() if domain != TOTAL and not domain.startswith(b".")]
    assert [sum(column) for column in zip(*leaves, strict=True)] == (rows[TOTAL] if leaves else [])


@given(MESSAGES, AGES)
def test_every_line_is_as_wide_as_the_first_and_the_sums_fall(messages, ages):
    shape = Shape(ages, parents=True)
    for domains, age in messages:
        shape.add(domains.items(), age)
    head, *lines = shape.lines(80, 1)
    assert {len(line) for line in lines} == {len(head)}
    assert len(head) >= 80
    sums = [row.counts[0] for row in shape.rows(1)]
    assert sums == sorted(sums, reverse=True)
    assert list(shape.lines(80, 1, limit=2)) == [head, *lines][:3]


def test_parents_have_the_sums_of_their_domains_but_for_the_highest():
    shape = Shape(Ages(), parents=True)
    shape.add([(b"a.b.example.com", 2), (b"c.example.com", 1), (b"example.org", 1), (b"localhost", 1)], 0)
    shape.add([(b"d.b.example.com", 1)], 3600)
    assert [(row.domain, row.counts[0]) for row in shape.rows(1)] == [
        (TOTAL, 6), (b".example.com", 4), (b".b.example.com", 3), (b"a.b.example.com", 2),
        (b"localhost", 1), (b"example.org", 1), (b"c.example.com", 1), (b"d.b.example.com", 1),
    ]  # fmt: skip
    assert [row.domain for row in shape.rows(2) if row.domain.startswith(b".")] == [b".example.com", b".b.example.com"]
    assert not [row for row in shape.rows(3) if row.domain.startswith(b".")]


@pytest.mark.parametrize(
    ("domain", "cell"),
    [(b"a.example", b"         a.example"), (b"eighteen.bytes.org", b"eighteen.bytes.org"),
     (b"a.domain.with-19.by", b"+domain.with-19.by"), (b".parents.with-20.org", b".+ents.with-20.org")],
)  # fmt: skip
def test_what_is_too_long_shows_its_end(domain, cell):
    assert name_cell(domain, 18) == cell.rjust(18)


@given(st.integers(1, 10**9), st.integers(1, 12))
def test_levels_rise_with_counts(greatest, levels):
    assert level(0, greatest, levels) == 0
    counts = sorted({1, 2, greatest, math.isqrt(greatest), max(greatest // 2, 1)})
    found = [level(count, greatest, levels) for count in counts]
    assert found == sorted(found)
    assert all(1 <= number <= levels for number in found)


@given(st.integers(1, 3000), st.integers(1, 12))
def test_the_legend_tells_where_each_level_begins(greatest, levels):
    expected = {}
    for count in range(1, greatest + 1):
        expected.setdefault(level(count, greatest, levels), count)
    assert legend(greatest, levels) == expected
