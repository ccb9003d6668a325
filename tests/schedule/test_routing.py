"""From resolved addresses to routes."""

import pytest

from pyfix.schedule.routing import Router
from pyfix.service.delivery import Recipient
from pyfix.service.rewrite import Resolved

ROUTER = Router("+-", "double-bounce")


def route(address, answer, **options):
    routes, settled = ROUTER.route([Recipient(7, address, "orig@x", "rfc822;o", 4)], [answer], **options)
    return [*routes, *settled]


def test_a_route_is_what_the_rewrite_service_says():
    [found] = route("a@b.example", Resolved("a@b.example", "smtp", "[relay]:26", "default"))
    assert (found.transport, found.nexthop) == ("smtp", "[relay]:26")
    assert found.recipient == Recipient(7, "a@b.example", "orig@x", "rfc822;o", 4)


def test_the_address_in_standard_form_is_delivered_to():
    [found] = route("a%b.example@here", Resolved("a@b.example", "smtp", "b.example", "default"))
    assert found.recipient == Recipient(7, "a@b.example", "orig@x", "rfc822;o", 4)


@pytest.mark.parametrize(
    ("address", "mailbox"),
    [
        ("user@h", "user@h"),
        ("user+tag@h", "user@h"),
        ("user-a+b@h", "user@h"),
        ("+user@h", "+user@h"),
        ("user", "user@"),
    ],
)
def test_the_mailbox_is_without_extension(address, mailbox):
    [found] = route(address, Resolved(address, "local", "h", "local"))
    assert found.mailbox == mailbox


def test_a_content_filter_takes_all_mail():
    answer = Resolved("a@b.example", "local", "b.example", "local")
    [found] = route("a@b.example", answer, content_filter="scan:[127.0.0.1]:10025")
    assert (found.transport, found.nexthop) == ("scan", "[127.0.0.1]:10025")
    [found] = route("a@b.example", answer, content_filter="scan:")
    assert (found.transport, found.nexthop) == ("scan", "b.example")


@pytest.mark.parametrize(
    ("address_class", "discarded"), [("local", True), ("default", False), ("virtual_mailbox", False)]
)
def test_mail_to_the_local_double_bounce_address_is_discarded(address_class, discarded):
    [found] = route("Double-Bounce@h", Resolved("Double-Bounce@h", "local", "h", address_class))
    assert isinstance(found, tuple) is discarded


def test_too_few_answers_defer_all():
    recipients = [Recipient(1, "a@b"), Recipient(2, "c@d")]
    routes, settled = ROUTER.route(recipients, [Resolved("a@b", "smtp", "b", "default")])
    assert routes == []
    assert [(r.offset, o.offset, o.status, o.dsn, o.reason) for r, o in settled] == [
        (1, 1, "deferred", "4.3.0", "address resolver failure"),
        (2, 2, "deferred", "4.3.0", "address resolver failure"),
    ]
