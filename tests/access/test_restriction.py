import pytest

from pyfix.access.restriction import CHECKS, Facts, RecipientPolicy
from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment
from pyfix.service.rewrite import Resolved

US, THEM = "u@mx.example", "x@elsewhere.example"


def config(**parameters):
    return Config("/etc/pyfix", [Assignment(name, value, "main.cf", 7) for name, value in parameters.items()])


def policy(relay="permit_mynetworks, reject_unauth_destination", recipient="", **parameters):
    return RecipientPolicy(config(smtpd_relay_restrictions=relay, smtpd_recipient_restrictions=recipient, **parameters))


def facts(recipient=US, *, trusted=False, listed="yes", routed=False, **resolved):
    here = recipient.endswith("@mx.example")
    defaults = {
        "recipient": recipient,
        "transport": "local" if here else "smtp",
        "nexthop": recipient.rpartition("@")[2],
        "address_class": "local" if here else "default",
        "listed": listed,
        "table": "local recipient table",
        "routed": routed,
    }
    return Facts(trusted, recipient, Resolved(**(defaults | resolved)))


def verdict(policy, facts):
    reply = policy.check(facts)
    return str(reply) if reply else "accepted"


DENIED = f"554 5.7.1 <{THEM}>: Relay access denied"
UNKNOWN = f"550 5.1.1 <{US}>: Recipient address rejected: User unknown in local recipient table"


@pytest.mark.parametrize(
    ("relay", "recipient", "facts", "expected"),
    [
        pytest.param("permit_mynetworks reject_unauth_destination", "", facts(), "accepted", id="ours"),
        pytest.param("permit_mynetworks reject_unauth_destination", "", facts(THEM), DENIED, id="stranger"),
        pytest.param("permit_mynetworks reject_unauth_destination", "", facts(THEM, trusted=True), "accepted",
                     id="own"),
        pytest.param("permit_mynetworks defer_unauth_destination", "", facts(THEM),
                     f"454 4.7.1 <{THEM}>: Relay access denied", id="defer"),
        pytest.param("permit_sasl_authenticated reject_unauth_destination", "", facts(THEM), DENIED, id="no SASL"),
        pytest.param("reject_unauth_destination", "", facts(routed=True), f"554 5.7.1 <{US}>: Relay access denied",
                     id="routed on from here"),
        pytest.param("reject_unauth_destination", "", facts(address_class="relay"), "accepted", id="relay domain"),
        pytest.param("reject_unauth_destination", "", facts(listed="no"), UNKNOWN, id="unlisted"),
        pytest.param("permit_mynetworks reject", "", facts(trusted=True, listed="no"), UNKNOWN, id="unlisted for all"),
        pytest.param("reject_unauth_destination", "", facts(listed="unknown", table=""), "accepted",
                     id="nobody knows"),
        pytest.param("reject_unauth_destination", "", facts(listed="unknown", table="local recipient table"),
                     f"451 4.3.0 <{US}>: Temporary lookup failure", id="table is in trouble"),
        pytest.param("reject_unauth_destination", "", facts(listed="no", table=""),
                     f"550 5.1.1 <{US}>: Recipient address rejected: User unknown", id="table is not shown"),
        pytest.param("REJECT", "", facts(), f"554 5.7.1 <{US}>: Recipient address rejected: Access denied",
                     id="reject"),
        pytest.param("defer", "", facts(), f"450 4.3.2 <{US}>: Recipient address rejected: Try again later",
                     id="defer all"),
        pytest.param("", "permit_auth_destination, reject", facts(), "accepted", id="auth destination"),
        pytest.param("", "permit_auth_destination, reject", facts(THEM),
                     f"554 5.7.1 <{THEM}>: Recipient address rejected: Access denied", id="no auth destination"),
        pytest.param("permit_mynetworks reject_unauth_destination", "reject", facts(trusted=True),
                     f"554 5.7.1 <{US}>: Recipient address rejected: Access denied", id="a permit ends its list only"),
        pytest.param("reject_unauth_destination", "", facts(transport="error", nexthop="5.1.2 gone away"),
                     f"550 5.1.2 <{US}>: Recipient address rejected: gone away", id="error transport"),
        pytest.param("reject_unauth_destination", "", facts(transport="error", nexthop="gone away"),
                     f"550 5.1.1 <{US}>: Recipient address rejected: gone away", id="error transport without status"),
        pytest.param("reject_unauth_destination", "", facts(address_class="error", nexthop="5.1.3 bad address syntax"),
                     "501 5.1.3 Bad recipient address syntax", id="no address"),
        pytest.param("reject_unauth_destination", "", facts(address_class="error", nexthop="4.3.0 trouble"),
                     f"451 4.3.0 <{US}>: Temporary lookup failure", id="resolver in trouble"),
    ],
)  # fmt: skip
def test_decisions(relay, recipient, facts, expected):
    assert verdict(policy(relay, recipient), facts) == expected


def test_the_recipient_list_can_come_first():
    lists = {"relay": "reject_unauth_destination", "recipient": "defer"}
    assert verdict(policy(**lists), facts(THEM)) == DENIED
    first = policy(**lists, smtpd_relay_before_recipient_restrictions="no")
    assert verdict(first, facts(THEM)) == f"450 4.3.2 <{THEM}>: Recipient address rejected: Try again later"


def test_unlisted_recipients_can_be_let_through():
    lax = policy(smtpd_reject_unlisted_recipient="no")
    assert verdict(lax, facts(listed="no")) == "accepted"
    explicit = policy(recipient="reject_unlisted_recipient", smtpd_reject_unlisted_recipient="no")
    assert verdict(explicit, facts(listed="no")) == UNKNOWN


def test_codes_are_configured_and_the_status_follows():
    later = policy(relay_domains_reject_code="450", unknown_local_recipient_reject_code="450")
    assert verdict(later, facts(THEM)) == f"450 4.7.1 <{THEM}>: Relay access denied"
    assert verdict(later, facts(listed="no")).startswith("450 4.1.1 ")


@pytest.mark.parametrize(
    ("relay", "recipient"),
    [("", ""), ("permit_mynetworks", ""), ("permit, reject_unauth_destination", ""), ("", "permit_mynetworks, permit")],
)
def test_an_open_relay_is_no_configuration(relay, recipient):
    with pytest.raises(ConfigError, match="specify at least one working instance of: reject_unauth_destination, "):
        policy(relay, recipient)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("check_client_access hash:/etc/x", "check_client_access is not implemented by this version of pyfix"),
        ("reject_rbl_client", "reject_rbl_client is not implemented by this version of pyfix"),
        ("hash:/etc/pyfix/access", "hash:/etc/pyfix/access is not implemented by this version of pyfix"),
        ("reject_everyone", "unknown restriction: reject_everyone"),
    ],
)
def test_no_restriction_is_passed_over(word, message):
    with pytest.raises(ConfigError) as error:
        policy(f"{word}, reject_unauth_destination")
    assert error.value.parameter == "smtpd_relay_restrictions"
    assert error.value.line == 7
    assert error.value.message == message


def test_every_check_stands_by_its_name():
    assert sorted(CHECKS) == list(CHECKS)
