import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.conf.error import ConfigError
from pyfix.conf.main_cf import MAX_BYTES, parse, split_assignment


def pairs(content):
    return [(one.name, one.value, one.line) for one in parse(content, "main.cf")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b"a=b", [("a", "b", 1)], id="no newline at the end"),
        pytest.param(b"a = b \t\n", [("a", "b", 1)], id="white space around"),
        pytest.param(b"a=\n", [("a", "", 1)], id="empty value"),
        pytest.param(b"a=b=c\n", [("a", "b=c", 1)], id="second equals sign"),
        pytest.param(b"# x\n  # y\n\n a=b\n", [("a", "b", 4)], id="first line indented"),
        pytest.param(b"a=b,\n  c\n", [("a", "b,  c", 1)], id="continuation"),
        pytest.param(b"a=b\n# c\n\n\t d\ne=f\n", [("a", "b\t d", 1), ("e", "f", 5)], id="comment in a continuation"),
        pytest.param(b"a = # no comment\n", [("a", "# no comment", 1)], id="a comment only starts a line"),
        pytest.param(b"a=1\na=2\n", [("a", "1", 1), ("a", "2", 2)], id="both assignments are told"),
        pytest.param(b"a=b\r\n  c\r\n", [("a", "b\r  c", 1)], id="CR at the end is white space"),
        pytest.param("a=é\u2028b\x0bc\n".encode(), [("a", "é\u2028b\x0bc", 1)], id="only LF ends a line"),
        pytest.param(b"# \xff\na=b\n", [("a", "b", 2)], id="a comment need not be UTF-8"),
    ],
)
def test_logical_lines(content, expected):
    assert pairs(content) == expected


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"a=b\nfoo bar\n", 2, "not an assignment: 'foo bar'"),
        (b"a=b\n = 5\n\n=6\n", 4, "not an assignment: '=6'"),
        (b"a b = c\n", 1, "not an assignment: 'a b = c'"),
        (b"a=b\nc=\xff\n", 2, "not UTF-8"),
        (b"a=b\nc=\0\n", 2, "a NUL byte"),
    ],
)
def test_error_names_file_and_line(content, line, message):
    with pytest.raises(ConfigError) as caught:
        parse(content, "/etc/pyfix/main.cf")
    assert (caught.value.file, caught.value.line, caught.value.message) == ("/etc/pyfix/main.cf", line, message)
    assert str(caught.value).startswith(f"/etc/pyfix/main.cf, line {line}: {message}; ")


def test_a_huge_file_is_refused():
    with pytest.raises(ConfigError, match="larger than"):
        parse(b"#" * (MAX_BYTES + 1), "main.cf")


@given(st.binary(max_size=200))
def test_only_the_declared_error(content):
    try:
        assignments = parse(content, "main.cf")
    except ConfigError:
        return
    assert all(one.name and one.line for one in assignments)


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.from_regex(r"([!-~]{1,9}( [!-~]{1,9})?)?", fullmatch=True)
        )
    )
)
def test_round_trip(wanted):
    content = "".join(f"{name} = {value}\n" for name, value in wanted).encode()
    assert [pair[:2] for pair in pairs(content)] == wanted


def test_split_assignment_of_something_else():
    assert split_assignment("no equals sign") is None
