import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.conf.error import ValueTrouble
from pyfix.tables.regexp import translate
from pyfix.tables.table import TableError, open_table

TEXT = """\
/^only$/           first
/^Case$/i          exact
!/@/               no at
if /@example\\.com$/
/^([^+]+)\\+(.*)@/  $1@${2}.$(1) costs $$5
!/^root@/          someone
endif
/^root@/           root elsewhere
"""


@pytest.fixture
def table(tmp_path):
    (tmp_path / "map").write_text(TEXT)
    return open_table(f"regexp:{tmp_path}/map")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("ONLY", "first"),
        ("Case", "exact"),
        ("case", "no at"),
        ("only\n", "no at"),
        ("user+ext@example.com", "user@ext.user costs $5"),
        ("user@example.com", "someone"),
        ("root@example.com", "root elsewhere"),
        ("root@other.example", "root elsewhere"),
        ("user@other.example", None),
    ],
)
def test_first_match(table, key, expected):
    assert table.look_up(key) == expected


@pytest.mark.parametrize(
    ("posix", "text", "matches"),
    [
        ("^[[:alpha:]]+$", "abc", True),
        ("^[[:alpha:]]+$", "ab1", False),
        ("^[^[:space:]]$", " ", False),
        (r"^[a\]$", "\\", True),
        ("^[]a]$", "]", True),
        ("^[^]a]$", "]", False),
        ("^[a&&b]$", "&", True),
        ("^a$", "a\n", False),
        (r"^a\$$", "a$", True),
        ("^(a|b)*c{2}$", "abacc", True),
    ],
)
def test_translate(posix, text, matches):
    assert (re.compile(translate(posix)).search(text) is not None) is matches


def test_multiline(tmp_path):
    (tmp_path / "map").write_text("/^b$/m yes\n")
    assert open_table(f"regexp:{tmp_path}/map").look_up("a\nb\nc") == "yes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/a/", "a pattern without result"),
        ("/a x\n", 'the closing "/" is missing'),
        ("abc x\n", "a pattern stands between slashes"),
        ("/a/q x\n", 'unknown flag "q"'),
        ("/(a/ x\n", "bad expression"),
        ("/a/ $1\n", "the pattern has no group 1"),
        ("!/(a)/ $1\n", "the pattern has no group 1"),
        ("/(a)/ $0\n", "the pattern has no group 0"),
        ("/a/ 5$\n", "a dollar sign without a group's number"),
        ("/[[:alhpa:]]/ x\n", 'unknown character class "alhpa"'),
        ("/[a/ x\n", 'a "[" is not closed'),
        ("if /a/\n/b/ x\n", "if without endif"),
        ("endif\n", "endif without if"),
    ],
)
def test_a_wrong_table(tmp_path, text, message):
    (tmp_path / "map").write_text(text)
    with pytest.raises(TableError) as caught:
        open_table(f"regexp:{tmp_path}/map")
    assert message in caught.value.message
    assert caught.value.line == 1


@given(st.text(alphabet="[]^:alph\\$()", max_size=12))
def test_translation_raises_only_the_declared_error(pattern):
    try:
        translate(pattern)
    except ValueTrouble:
        return
