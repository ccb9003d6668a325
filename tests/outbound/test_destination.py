"""Next hops."""

import pytest

from pyfix.outbound.destination import Destination, DestinationError, parse_destination, parse_port, split_destinations


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("example.com", Destination("example.com", 25, mx=True)),
        ("example.com.", Destination("example.com", 25, mx=True)),
        ("example.com:2525", Destination("example.com", 2525, mx=True)),
        ("[mail.example.com]", Destination("mail.example.com", 25, mx=False)),
        ("[mail.example.com]:587", Destination("mail.example.com", 587, mx=False)),
        ("[mail.example.com]:submission", Destination("mail.example.com", 587, mx=False)),
        ("[192.0.2.1]", Destination("192.0.2.1", 25, mx=False)),
        ("[IPv6:2001:db8::1]:26", Destination("2001:db8::1", 26, mx=False)),
        ("[2001:db8::1]", Destination("2001:db8::1", 25, mx=False)),
        ("192.0.2.1", Destination("192.0.2.1", 25, mx=True)),
        ("b\u00fccher.example", Destination("xn--bcher-kva.example", 25, mx=True)),
    ],
)
def test_forms(text, destination):
    assert parse_destination(text, 25) == destination


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[",
        "[a",
        "a]",
        "a:b:c",
        "a:",
        ":25",
        "a:0",
        "a:65536",
        "a:+5",
        "a:1_0",
        "a:\uff11",
        "a:nosuch",
        "2001:db8::1",
        "[a]b",
        "[a]\n",
        "\u00fc..x",
    ],
)
def test_what_is_no_next_hop(text):
    with pytest.raises(DestinationError):
        parse_destination(text, 25)


def test_lists():
    assert split_destinations("a, [b]:25 c\t,\n d") == ["a", "[b]:25", "c", "d"]
    assert split_destinations(" , ") == []


def test_ports():
    assert [parse_port(text) for text in ("smtp", "25", "65535", "submissions")] == [25, 25, 65535, 465]
