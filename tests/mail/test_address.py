import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfix.mail.address import (
    AddressError,
    parse_address,
    parse_addresses,
    quote_address,
    quote_local,
    rewrite_addresses,
    split_address,
)

LIMIT = 10240
fields = st.text(alphabet=st.sampled_from('ab.@<>(),;:"[]\\ \t\n\x00é!%'), max_size=40)
locals_ = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", codec="utf-8"), min_size=1, max_size=20)
domains = st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5}){0,2}", fullmatch=True)


def complete(address):
    """What local rewriting does to addresses without a domain."""
    return address if "@" in address else f"{address}@test.example"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("user@example.com", ("user", "example.com")),
        ("a@b@example.com", ("a@b", "example.com")),
        ("user", ("user", "")),
        ("user@", ("user", "")),
        ("@example.com", ("", "example.com")),
        ("", ("", "")),
    ],
)
def test_the_local_part_ends_at_the_last_at_sign(address, expected):
    assert split_address(address) == expected


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("user", "user"),
        ("first.last", "first.last"),
        ("user+ext", "user+ext"),
        ("jürgen", "jürgen"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a..b", '"a..b"'),
        (".a", '".a"'),
        ("a.", '"a."'),
        ("a@b", '"a@b"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("a\r\nRCPT TO:<x>", '"a??RCPT TO:<x>"'),
        ("user\n", '"user?"'),
    ],
)
def test_a_local_part_is_quoted_where_it_must_be(local, expected):
    assert quote_local(local) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", ""),
        ("user@example.com", "user@example.com"),
        ("a b@example.com", '"a b"@example.com'),
        ("@example.com", '""@example.com'),
        ("a b", '"a b"'),
        ("a@b\r\nX: y", "a@b??X: y"),
    ],
)
def test_an_address_is_quoted(address, expected):
    assert quote_address(address) == expected


# What a Postfix 3.10 read from To: by "sendmail -t", and how its To: looked afterwards.
POSTFIX = [
    ("foo bar", ["foo", "bar"], "foo@test.example, bar@test.example"),
    (
        "Foo Bar foo@bar.com",
        ["Foo", "Bar", "foo@bar.com"],
        "Foo@test.example, Bar@test.example, foo@bar.com",
    ),
    ("a@b.c (hi) , d@e.f", ["a@b.c", "d@e.f"], "a@b.c (hi) , d@e.f"),
    ("<@a,@b:user@dom.example>", ["user@dom.example"], "<user@dom.example>"),
    ("grp: a@b, c@d; , x@y", ["a@b", "c@d", "x@y"], "grp: a@b, c@d; , x@y"),
    ("undisclosed-recipients:;", [], "undisclosed-recipients:;"),
    ('"a b"@c.d', ["a b@c.d"], '"a b"@c.d'),
    ('"x\\"y"@c.d', ['x"y@c.d'], '"x\\"y"@c.d'),
    ("user @ dom . example", ["user@dom.example"], "user @ dom . example"),
    ("user (c) @ d.e", ["user@d.e"], "user (c) @ d.e"),
    ("=?utf-8?q?x?= <a@b.c>", ["a@b.c"], "=?utf-8?q?x?= <a@b.c>"),
    ("<a@b.c> trailing", ["a@b.c", "trailing"], "<a@b.c>, trailing@test.example"),
    ("a@b.c,,,d@e.f", ["a@b.c", "d@e.f"], "a@b.c,,,d@e.f"),
    ('"Foo, Bar" <a@b.c>, "x', ["a@b.c", "x"], '"Foo, Bar" <a@b.c>, x@test.example'),
    ("foo>", ["foo"], "foo@test.example>"),
    ("a@b.c <d@e.f>", ["d@e.f"], "a@b.c <d@e.f>"),
    ("<a@b.c> <d@e.f>", ["a@b.c", "d@e.f"], "<a@b.c> <d@e.f>"),
    ("x@[1.2.3.4]", ["x@[1.2.3.4]"], "x@[1.2.3.4]"),
    ("ü@x.y", ["ü@x.y"], "ü@x.y"),
    ("(only comment)", [], "(only comment)"),
    ("x@y: z@w;", ["z@w"], "x@y: z@w;"),
    ("a\\@b@c.d", ["a@b@c.d"], "a\\@b@c.d"),
    ("<a b@c.d>", ["ab@c.d"], "<a b@c.d>"),
    ("a b@c.d", ["a", "b@c.d"], "a@test.example, b@c.d"),
    ("foo@a b@c", ["foo@a", "b@c"], "foo@a b@c"),
    ("(unterminated a@b.c", [], "(unterminated a@b.c"),
    ("a.b.(c)d@e", ["a.b.d@e"], "a.b.(c)d@e"),
    ("a@b(c).d", ["a@b.d"], "a@b(c).d"),
    ("a:b@c.d", ["a:b@c.d"], "a:b@c.d"),
]


@pytest.mark.parametrize(("field", "addresses", "rewritten"), POSTFIX, ids=[case[0] for case in POSTFIX])
def test_fields_are_read_as_postfix_reads_them(field, addresses, rewritten):
    assert [mailbox.address for mailbox in parse_addresses(field, LIMIT)] == addresses
    assert rewrite_addresses(field, complete, LIMIT) == rewritten


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (" Foo <foo>,\n\tbar (a comment)\n", " Foo <foo@test.example>,\n\tbar@test.example (a comment)\n"),
        ("us(c)er.(d)x", "us@test.example(c), er.x@test.example (d)"),
        ('"a b"', '"a b"@test.example'),
        ("<>", "<>"),
        ('""', '""'),
        ("<foo", "<foo@test.example"),
    ],
)
def test_only_what_changes_is_rewritten(field, expected):
    assert rewrite_addresses(field, complete, LIMIT) == expected


def test_nothing_behind_the_limit_is_read():
    field = "a,b,c,d"
    assert [mailbox.address for mailbox in parse_addresses(field, 3)] == ["a", "b"]
    assert rewrite_addresses(field, complete, 3) == "a@test.example,b@test.example,c,d"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("<a@b>", "a@b"), ("a@b", "a@b"), ("<>", ""), ('<"a b"@c>', "a b@c"), ("<@x:a@b>", "a@b")],
)
def test_one_address(text, expected):
    assert parse_address(text, 100) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no address"),
        ("  (c)", "no address"),
        ("a b", "more than one address"),
        ("<a> <b>", "more than one address"),
        ("a" * 10 + " ." * 200, "address too long"),
    ],
)
def test_not_one_address(text, message):
    with pytest.raises(AddressError) as caught:
        parse_address(text, 100)
    assert str(caught.value) == message


@given(fields, fields)
def test_an_address_is_its_local_part_quoted_and_its_domain(local, domain):
    domain = domain.replace("@", "")
    shown = "".join("?" if c < " " else c for c in domain)
    assert quote_address(f"{local}@{domain}") == f"{quote_local(local)}@{shown}"


@given(locals_, domains)
def test_quoting_and_parsing_undo_each_other(local, domain):
    address = f"{local}@{domain}"
    assert parse_address(f"<{quote_address(address)}>", LIMIT) == address
    assert parse_address(quote_address(address), LIMIT) == address


@given(fields)
@settings(max_examples=400)
def test_any_field_is_read_without_error_and_without_controls(field):
    mailboxes = parse_addresses(field, LIMIT)
    position = 0
    for mailbox in mailboxes:
        assert position <= mailbox.start <= mailbox.end <= len(field)
        position = mailbox.end
        assert all(ord(c) >= 32 and ord(c) != 127 for c in mailbox.address)
    if not any(mailbox.route for mailbox in mailboxes):
        assert rewrite_addresses(field, lambda address: address, LIMIT) == field


WELL_FORMED = ("a", "a@b", "X <a@b>", '"x, y" <a@b>', "(c) a@b (d)", "g: a, b@c;", "<@r:a@b>", "a (x)@b", "U.N. <a>")


@given(st.lists(st.sampled_from(WELL_FORMED), min_size=1, max_size=6).map(", ".join))
@settings(max_examples=200)
def test_a_rewritten_field_holds_the_rewritten_addresses(field):
    def number(_):
        numbers.append(f"x{len(numbers)}@y.example")
        return numbers[-1]

    numbers = []
    rewritten = rewrite_addresses(field, number, LIMIT)
    assert [m.address for m in parse_addresses(rewritten, LIMIT) if m.address] == numbers


@given(st.text(max_size=30))
def test_one_address_or_the_declared_error(text):
    try:
        parse_address(text, 20)
    except AddressError as error:
        assert str(error) in {"no address", "more than one address", "address too long"}  # noqa: PT017 - either is right


@pytest.mark.parametrize("piece", ["(", "<", '"', "\\", "a ", "a,", "[", "@", "<>", "a:", '("', ";", ":;", '\\"('])
def test_time_grows_with_the_field_and_not_faster(piece):
    def cost(count):
        field = piece * count
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            rewrite_addresses(field, complete, LIMIT * 100)
            best = min(best, time.process_time() - start)
        return best

    cost(10)
    # Linear is eight times as much, quadratic sixty-four, in a moment without disturbance.
    assert any(cost(12_000) <= 24 * cost(1_500) + 0.02 for _ in range(5))
