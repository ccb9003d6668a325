import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.conf.edit import comment_out, remove, set_values

BEFORE = b"""\
# top
mydestination = a,
  b,
# mid
  c
mail_name = x

own = 6
# myorigin = zz
mail_name = y   z
foo="""


def test_set_values():
    """The result is Postfix 3.10's for the same edit."""
    assert set_values(BEFORE, {"mydestination": "q r", "new": "1", "mail_name": ""}) == (
        b"# top\nmydestination = q r\n# mid\nmail_name = \n\nown = 6\n# myorigin = zz\nmail_name = \nfoo=\nnew = 1\n"
    )


def test_comment_out():
    """The result is Postfix 3.10's for the same edit."""
    assert comment_out(BEFORE, {"mydestination", "mail_name", "nosuch"}) == (
        b"# top\n#mydestination = a,\n#  b,\n# mid\n#  c\n#mail_name = x\n"
        b"\nown = 6\n# myorigin = zz\n#mail_name = y   z\nfoo=\n"
    )


def test_remove():
    """The result is Postfix 3.10's for the same edit."""
    assert remove(BEFORE, {"mydestination", "mail_name", "nosuch"}) == (
        b"# top\n# mid\n\nown = 6\n# myorigin = zz\nfoo=\n"
    )


def test_an_empty_file():
    assert set_values(b"", {"a": "b"}) == b"a = b\n"
    assert remove(b"", {"a"}) == b""


@pytest.mark.parametrize("text", [b"# \xff\r\na=b\r\n", b"  indented = first\n", b"no assignment\n", b"a=\xff\n"])
def test_other_lines_stay_byte_for_byte(text):
    assert set_values(text, {"new": "1"}) == text + b"new = 1\n"


@given(st.binary(max_size=120), st.sampled_from([comment_out, remove]))
def test_without_names_nothing_changes(content, change):
    assert change(content, set()) == (content + b"\n" if content and not content.endswith(b"\n") else content)
