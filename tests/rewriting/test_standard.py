import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.conf.config import Config
from pyfix.conf.main_cf import Assignment
from pyfix.rewriting.standard import Ruleset, read_ruleset, standard_form, without_trailing_dot

LOCAL = Ruleset("origin.example", "dom.example")
PLAIN = Ruleset("", "", swap_bangpath=False, percent_hack=False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", ""),
        ("user", "user@origin.example"),
        ("user@a.example", "user@a.example"),
        ("user@A.Example", "user@A.Example"),
        ("user@host", "user@host.dom.example"),
        ("user@host.", "user@host"),
        ("user@a.example.", "user@a.example"),
        ("user@a.example..", "user@a.example.."),
        ("user@.", "user@."),
        ("user@", "user@"),
        ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("user@[host]", "user@[host]"),
        ("user%a.example", "user@a.example"),
        ("user%host", "user@host.dom.example"),
        ("a%b%c.example", "a%b@c.example"),
        ("a.example!user", "user@a.example"),
        ("a!b!user", "b!user@a.dom.example"),
        ("a!user%b", "user%b@a.dom.example"),
        ("user%a.example@b.example", "user%a.example@b.example"),
        ("a!user@b.example", "a!user@b.example"),
        ("a b!user", "a b!user@origin.example"),
        ("a b%c", "a b%c@origin.example"),
        ("u@a@b", "u@a@b.dom.example"),
        ("@a:user@b.example", "@a:user@b.example"),
        ("%", "@"),
        ("!", "@"),
        ("@", "@"),
        ("é@ü", "é@ü.dom.example"),
    ],
)
def test_local_ruleset(address, expected):
    """Postfix's trivial-rewrite gives the same for the address in its quoted form."""
    assert standard_form(address, LOCAL) == expected


@pytest.mark.parametrize("address", ["user", "user@host", "a!b", "a%b", ""])
def test_a_ruleset_that_completes_nothing(address):
    assert standard_form(address, PLAIN) == address


def test_a_lone_dot_stays():
    assert without_trailing_dot(".") == "."


@given(st.text(alphabet='ab@%!.[ "', max_size=12))
def test_a_standard_form_stays(address):
    ruleset = Ruleset("origin.example", "")
    once = standard_form(address, ruleset)
    assert "@" in once or not address
    again = standard_form(once, ruleset)
    assert standard_form(again.rstrip("."), ruleset).rstrip(".") == again.rstrip(".")


def config(**values):
    return Config("/x", [Assignment(name, value, "main.cf", 1) for name, value in values.items()])


def test_rulesets_of_the_defaults():
    conf = config(myhostname="mail.a.example", mydomain="a.example")
    assert read_ruleset(conf, "local") == Ruleset("mail.a.example", "", swap_bangpath=True, percent_hack=True)
    assert read_ruleset(conf, "remote") == Ruleset("", "", swap_bangpath=True, percent_hack=True)


def test_rulesets_as_set():
    conf = config(
        myorigin="o.example",
        mydomain="d.example",
        append_dot_mydomain="yes",
        remote_header_rewrite_domain="invalid.example",
        swap_bangpath="no",
        allow_percent_hack="no",
    )
    assert read_ruleset(conf, "local") == Ruleset("o.example", "d.example", swap_bangpath=False, percent_hack=False)
    assert read_ruleset(conf, "remote").origin == read_ruleset(conf, "remote").domain == "invalid.example"
    assert read_ruleset(config(append_at_myorigin="no"), "local").origin == ""
