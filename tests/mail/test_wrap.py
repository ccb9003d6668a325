import re

from hypothesis import given
from hypothesis import strategies as st

from pyfix.mail.wrap import wrap


@given(st.text(max_size=2000))
def test_wrapped_text_keeps_its_words_and_fits(text):
    wrapped = wrap(text)
    for line in wrapped.split("\n"):
        assert len(line) <= 79 or " " not in line.strip(" ")
        assert len(line.encode("utf-8", "replace")) <= 990
    if all(len(word) <= 200 for word in text.split()):
        assert wrapped.split() == re.sub(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+", " ", text).split()


@given(st.text(st.sampled_from("ab \n\t"), max_size=400))
def test_no_line_behind_the_first_is_empty(text):
    assert all(line.strip(" ") for line in wrap(text).split("\n")[1:])


def test_a_line_is_as_long_as_it_may_be():
    assert wrap("a " * 5 + "b", 11) == "a a a a a b"
    assert wrap("a " * 5 + "b", 10) == "a a a a a\n    b"
