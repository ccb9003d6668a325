import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.conf.error import ValueTrouble
from pyfix.conf.value import check_bounds, check_choice, parse_boolean, parse_integer, parse_seconds, split_words


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("007", 7), ("-5", -5), (str(2**63 - 1), 2**63 - 1)])
def test_integer(text, expected):
    assert parse_integer(text) == expected


@pytest.mark.parametrize(
    "text", ["", "-", "+5", " 7", "1_000", "\u0664", "\uff15", "5k", "0x10", "1.5", "9" * 19, "1" * 5000, "--1"]
)
def test_no_integer(text):
    with pytest.raises(ValueTrouble):
        parse_integer(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("300", 300), ("300s", 300), ("5m", 300), ("1h", 3600), ("5d", 432000), ("1w", 604800), ("0", 0), ("-1s", -1)],
)
def test_seconds(text, expected):
    assert parse_seconds(text, "s") == expected


def test_the_default_unit_counts_without_a_letter():
    assert parse_seconds("2", "h") == 7200


@pytest.mark.parametrize("text", ["", "s", "5x", "5 m", "5mm", "m5", "5M", "\u0665m", "999999999999999999w"])
def test_no_seconds(text):
    with pytest.raises(ValueTrouble):
        parse_seconds(text, "s")


@pytest.mark.parametrize(("text", "expected"), [("yes", True), ("YES", True), ("no", False), ("No", False)])
def test_boolean(text, expected):
    assert parse_boolean(text) is expected


@pytest.mark.parametrize("text", ["", "true", "1", "y", "yes ", "on"])
def test_no_boolean(text):
    with pytest.raises(ValueTrouble, match="bad truth value"):
        parse_boolean(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (" , ,", ()),
        ("a,b c\td\ne", ("a", "b", "c", "d", "e")),
        ("a, {b, c} d", ("a", "{b, c}", "d")),
        ("inline:{a=b, {c = d}} x", ("inline:{a=b, {c = d}}", "x")),
        ("a\u2028b", ("a\u2028b",)),
        ("a\u00a0b {}", ("a\u00a0b", "{}")),
    ],
)
def test_words(text, expected):
    assert split_words(text) == expected


def test_a_group_must_close():
    with pytest.raises(ValueTrouble, match='lacks its closing "}"'):
        split_words("a {b c")


@given(st.lists(st.text(alphabet="abc:!/", min_size=1), max_size=8), st.sampled_from([" ", ",", ", ", "\t\n"]))
def test_words_joined_are_words_split(words, separator):
    assert list(split_words(separator.join(words))) == words


def test_bounds():
    check_bounds(5, 5, 5, "5")
    check_bounds(10**9, 0, 0, "1000000000")
    with pytest.raises(ValueTrouble, match='"4" is too small'):
        check_bounds(4, 5, 0, "4")
    with pytest.raises(ValueTrouble, match='"6" is too large'):
        check_bounds(6, 0, 5, "6")


def test_choice():
    check_choice("a", ("a", "b"))
    with pytest.raises(ValueTrouble) as caught:
        check_choice("c", ("", "b"))
    assert (caught.value.message, caught.value.hint) == ('unknown value "c"', "known are an empty value, b")
