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


def test_mail_by_a_deferred_transport_waits_until_somebody_asks_for_it():
    router = Router("+-", "double-bounce", ("smtp", "scan"))
    recipient, answer = Recipient(7, "a@b.example"), Resolved("a@b.example", "smtp", "b.example", "default")
    for content_filter, wanted, transport, nexthop in (
        ("", False, "retry", "4.3.2 deferred transport"),
        ("", True, "smtp", "b.example"),
        ("scan:here", False, "retry", "4.3.2 deferred transport"),
        ("other:here", False, "other", "here"),
    ):
        [[found], settled] = router.route([recipient], [answer], content_filter, wanted=wanted)
        assert (found.transport, found.nexthop, settled) == (transport, nexthop, [])


def test_routes_stand_in_the_order_of_domains_and_addresses():
    given = ["b@z.example", "A@b.example", "c.2@Z.example", "c@z.example", "a@z.example"]
    answers = [Resolved(address, "smtp", "h", "default") for address in given]
    routes, _ = ROUTER.route([Recipient(number, address) for number, address in enumerate(given)], answers)
    ordered = ["A@b.example", "a@z.example", "b@z.example", "c.2@Z.example", "c@z.example"]
    assert [route.recipient.address for route in routes] == ordered


def test_a_recipient_that_gets_another_address_keeps_the_first():
    answer = Resolved("a@b.example", "smtp", "b.example", "default")
    routes, _ = ROUTER.route([Recipient(1, "a%b.example@here")], [answer])
    assert routes[0].recipient.original == "a%b.example@here"


def test_too_few_answers_defer_all():
    recipients = [Recipient(1, "a@b"), Recipient(2, "c@d")]
    routes, settled = ROUTER.route(recipients, [Resolved("a@b", "smtp", "b", "default")])
    assert routes == []
    assert [(r.offset, o.offset, o.status, o.dsn, o.reason) for r, o in settled] == [
        (1, 1, "deferred", "4.3.0", "address resolver failure"),
        (2, 2, "deferred", "4.3.0", "address resolver failure"),
    ]
