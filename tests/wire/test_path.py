import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.wire.path import PathError, parse_path


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("<>", ""),
        ("<a@b.example>", "a@b.example"),
        ("<A.b+c@B.Example>", "A.b+c@B.Example"),
        ("<postmaster>", "postmaster"),
        ('<"a b"@c.example>', "a b@c.example"),
        (r'<"a\"b\\"@c.example>', 'a"b\\@c.example'),
        (r"<a\ b@c>", "a b@c"),
        ('<"a@b"@c>', "a@b@c"),
        ('<""@c>', "@c"),
        ("<@x.example,@y.example:a@b>", "a@b"),
        ("<@x.example:a@b>", "a@b"),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
        ("<a@b.>", "a@b."),
        ("<a@b_c>", "a@b_c"),
        ("<a..b@c>", "a..b@c"),
        ("<.a.@c>", ".a.@c"),
        ("<a%b@c>", "a%b@c"),
        ("<b!a>", "b!a"),
        ("<a@b@c>", "a@b@c"),
        ("a@b", "a@b"),
        ("< a@b >", "a@b"),
        ("<(x(y))a@b>", "a@b"),
        ("<<a@b>>", "a@b"),
        ("<é@b>", "é@b"),
    ],
)
def test_paths(path, address):
    assert parse_path(path.encode(), strict=False, smtputf8=False) == address


@pytest.mark.parametrize(
    "path",
    [
        "<a@b", "<a@>", "<@>", "<a b@c>", "<a,b@c>", "<a;b@c>", "<a@b;>", "<g:a@b;>", "<a@b><c@d>", "<a@b>x", "<>x",
        "<a@b..c>", "<a@.b>", "<a@-b>", "<a@b->", "<a@b:25>", "<a@1.2.3.4>", "<a@[x]>", "<a@[]>", "<a@[1.2.3]>",
        "<a@[1.2.3.4>", "<a@[1.2.3.4].b>", '<"a@b>', '<"a"b@c>', "<a@(>", r"<a@b\>", '<a@"b">',
        "<a@" + "b" * 64 + ">", "<a@" + ".".join(["b" * 60] * 5) + ">",
        "<a\r@b>", '<"a\rb"@c>', "<a\x01@b>", "<a\x7f@b>", "<a\x85@b>", "<a@é.example>",
    ],
)  # fmt: skip
def test_what_is_no_path(path):
    with pytest.raises(PathError):
        parse_path(path.encode(), strict=False, smtputf8=False)


def test_domains_of_other_scripts_need_smtputf8():
    assert parse_path("<a@bücher.example>".encode(), strict=False, smtputf8=True) == "a@bücher.example"
    with pytest.raises(PathError):
        parse_path("<a@bü cher.example>".encode(), strict=False, smtputf8=True)


@pytest.mark.parametrize("path", ["a@b", "<(x)a@b>", "<@b>", "<a@b> "])
def test_strictness_asks_for_the_standard_form(path):
    with pytest.raises(PathError):
        parse_path(path.encode(), strict=True, smtputf8=False)


@pytest.mark.parametrize(
    ("path", "address"), [("<>", ""), ("<a@b>", "a@b"), ('<"a b"@c>', "a b@c"), ("<@x:a@b>", "a@b")]
)
def test_strictness_takes_the_standard_form(path, address):
    assert parse_path(path.encode(), strict=True, smtputf8=False) == address


@given(st.binary(max_size=40), st.booleans())
def test_nothing_but_the_declared_error(data, strict):
    try:
        address = parse_path(data, strict=strict, smtputf8=True)
    except PathError:
        return
    assert not any(ord(character) < 32 and character != "\t" for character in address)
