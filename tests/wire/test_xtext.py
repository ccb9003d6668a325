import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.wire.xtext import decode_unitext, decode_xtext, encode_xtext


@given(st.binary(max_size=100))
def test_what_was_encoded_is_decoded(data):
    coded = encode_xtext(data)
    assert decode_xtext(coded) == data
    assert all(0x21 <= byte <= 0x7E and byte != ord("=") for byte in coded)


@pytest.mark.parametrize("text", [b"+", b"+4", b"+4g", b"a+", b"++2B", b"+2B+"])
def test_a_plus_alone_is_an_error(text):
    with pytest.raises(ValueError, match="plus"):
        decode_xtext(text)


def test_a_plus_is_decoded_once():
    assert decode_xtext(b"user+2B2B@x") == b"user+2B@x"


def test_unicode_form():
    assert decode_unitext(r"a\x{e9}b\x{1F600}") == "aéb😀"


@pytest.mark.parametrize("text", [r"\x{D800}", r"\x{110000}"])
def test_what_is_no_character_is_an_error(text):
    with pytest.raises(ValueError, match="character"):
        decode_unitext(text)
