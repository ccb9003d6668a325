import pytest

from pyfix.tables.table import TableError, open_table

TEXT = """\
# comment
 # comment
Key value
other   two  words
  continued
"quoted key" x
"a\\"b" y
key second
"""


@pytest.fixture
def table(tmp_path):
    (tmp_path / "map").write_text(TEXT)
    return open_table(f"texthash:{tmp_path}/map")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("key", "value"),
        ("KEY", "value"),
        ("other", "two  words  continued"),
        ("quoted key", "x"),
        ('a"b', "y"),
        ("comment", None),
        ("", None),
    ],
)
def test_look_up(table, key, expected):
    assert table.look_up(key) == expected


@pytest.mark.parametrize(("text", "line"), [("a b\nlonely\n", 2), ('"" x\n', 1), ('"k"\n', 1), ("a \xff\n", 1)])
def test_a_line_that_is_no_entry(tmp_path, text, line):
    (tmp_path / "map").write_bytes(text.encode("latin-1"))
    with pytest.raises(TableError) as caught:
        open_table(f"texthash:{tmp_path}/map")
    assert caught.value.line == line


def test_a_missing_file(tmp_path):
    with pytest.raises(TableError, match="No such file"):
        open_table(f"texthash:{tmp_path}/nothing")
