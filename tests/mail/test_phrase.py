import email.errors
import email.header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.mail.address import parse_addresses
from pyfix.mail.phrase import format_phrase, mail_system


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ""),
        ("  x ", "x"),
        ("Foo Bar", "Foo Bar"),
        ("Foo, Bar", '"Foo, Bar"'),
        ('Foo "x" Y', '"Foo \\"x\\" Y"'),
        ("(c)", '"(c)"'),
        ("Foo. Bar", '"Foo. Bar"'),
        ("a\\b", '"a\\\\b"'),
        ("a\nb", "a b"),
        ("a\r\nBcc: x", '"a  Bcc: x"'),
        ("Jürgen", "=?utf-8?Q?J=C3=BCrgen?="),
        ("a_b?=c dé", "=?utf-8?Q?a=5Fb=3F=3Dc_d=C3=A9?="),
        ("éé", "=?utf-8?B?w6nDqQ==?="),
    ],
)
def test_names_as_postfix_writes_them(name, expected):
    assert format_phrase(name) == expected


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=80))
def test_a_phrase_says_the_name(name):
    phrase = format_phrase(name)
    assert all(len(line) <= 76 for line in phrase.split("\n")) or name.isascii()
    if not name.isascii():
        decoded = "".join(word.decode(charset) for word, charset in email.header.decode_header(phrase))
        assert decoded == name.strip(" ")
    assert [mailbox.address for mailbox in parse_addresses(f"{phrase} <a@b>", 10240)] == ["a@b"]


def test_the_mail_system_as_an_author():
    assert mail_system("standard") == "Mail Delivery System <MAILER-DAEMON>"
    assert mail_system("obsolete") == "MAILER-DAEMON (Mail Delivery System)"
