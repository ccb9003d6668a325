"""Restriction lists: parsed once into a program, then asked for each recipient.

A list is searched from left to right. A restriction permits, which ends its list; refuses, which ends all; or has
nothing to say. What no list refuses is accepted. smtpd_relay_restrictions decides before smtpd_recipient_restrictions
(smtpd_relay_before_recipient_restrictions), and at the end recipients that do not exist are refused
(smtpd_reject_unlisted_recipient).

The law: without a restriction that keeps strangers from relaying there is no program. A word that Postfix knows and
this version does not is an error and never passed over: it was written to keep something out.

Source: postconf(5), SMTPD_ACCESS_README.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from pyfix.access.recipient import Codes, check_listed, relay_denied
from pyfix.conf.config import Config
from pyfix.service.rewrite import Resolved
from pyfix.wire.reply import Reply

RELAY: Final = "smtpd_relay_restrictions"
RECIPIENT: Final = "smtpd_recipient_restrictions"

_PROTECTION: Final = ("reject_unauth_destination", "defer_unauth_destination", "reject", "defer")

# Names of postconf(5) that are not built yet; the old names of some are among them.
_NOT_BUILT: Final = """
    check_address_map check_ccert_access check_client_a_access check_client_access check_client_mx_access
    check_client_ns_access check_etrn_access check_helo_a_access check_helo_access check_helo_mx_access
    check_helo_ns_access check_policy_service check_recipient_a_access check_recipient_access
    check_recipient_mx_access check_recipient_ns_access check_reverse_client_hostname_a_access
    check_reverse_client_hostname_access check_reverse_client_hostname_mx_access
    check_reverse_client_hostname_ns_access check_sasl_access check_sender_a_access check_sender_access
    check_sender_mx_access check_sender_ns_access defer_if_permit defer_if_reject permit_dnswl_client
    permit_inet_interfaces permit_mx_backup permit_naked_ip_address permit_rhswl_client
    permit_tls_all_clientcerts permit_tls_clientcerts reject_authenticated_sender_login_mismatch
    reject_invalid_helo_hostname reject_invalid_hostname reject_known_sender_login_mismatch
    reject_multi_recipient_bounce reject_non_fqdn_helo_hostname reject_non_fqdn_hostname
    reject_non_fqdn_recipient reject_non_fqdn_sender reject_plaintext_session reject_rbl reject_rbl_client
    reject_rhsbl_client reject_rhsbl_helo reject_rhsbl_recipient reject_rhsbl_reverse_client
    reject_rhsbl_sender reject_sender_login_mismatch reject_unauth_pipelining
    reject_unauthenticated_sender_login_mismatch reject_unknown_address reject_unknown_client
    reject_unknown_client_hostname reject_unknown_forward_client_hostname reject_unknown_helo_hostname
    reject_unknown_hostname reject_unknown_recipient_domain reject_unknown_reverse_client_hostname
    reject_unknown_sender_domain reject_unlisted_sender reject_unverified_recipient reject_unverified_sender
    sleep warn_if_reject
"""
_KNOWN_TO_POSTFIX: Final = frozenset(_NOT_BUILT.split())


class Verdict(Enum):
    """What a restriction says when it does not refuse."""

    PERMIT = "permit"
    DUNNO = "dunno"


class Facts(NamedTuple):
    """What a decision on a recipient is made from."""

    # the client's address is in mynetworks
    trusted: bool
    # the recipient as the client named it, internal form
    recipient: str
    resolved: Resolved
    # the client has proved who it is
    authenticated: bool = False


Check = Callable[[Facts, Codes], Verdict | Reply]


def _permit(_: Facts, __: Codes) -> Verdict:
    return Verdict.PERMIT


def _permit_mynetworks(facts: Facts, _: Codes) -> Verdict:
    return Verdict.PERMIT if facts.trusted else Verdict.DUNNO


def _permit_sasl_authenticated(facts: Facts, _: Codes) -> Verdict:
    return Verdict.PERMIT if facts.authenticated else Verdict.DUNNO


def _permit_auth_destination(facts: Facts, _: Codes) -> Verdict:
    return Verdict.PERMIT if _is_ours(facts) else Verdict.DUNNO


def _reject(facts: Facts, codes: Codes) -> Reply:
    return codes.reply(codes.reject, "5.7.1", f"<{facts.recipient}>: Recipient address rejected: Access denied")


def _defer(facts: Facts, codes: Codes) -> Reply:
    return codes.reply(codes.defer, "4.3.2", f"<{facts.recipient}>: Recipient address rejected: Try again later")


def _reject_unauth_destination(facts: Facts, codes: Codes) -> Verdict | Reply:
    return Verdict.DUNNO if _is_ours(facts) else relay_denied(codes.relay, facts.recipient)


def _defer_unauth_destination(facts: Facts, _: Codes) -> Verdict | Reply:
    return Verdict.DUNNO if _is_ours(facts) else relay_denied(454, facts.recipient)


def _reject_unlisted_recipient(facts: Facts, codes: Codes) -> Verdict | Reply:
    return check_listed(facts.recipient, facts.resolved, codes) or Verdict.DUNNO


def _is_ours(facts: Facts) -> bool:
    """Whether this system is the recipient's destination or relays for it, and no route leads on from here."""
    return facts.resolved.address_class not in ("default", "error") and not facts.resolved.routed


CHECKS: Final[dict[str, Check]] = {
    "defer": _defer,
    "defer_unauth_destination": _defer_unauth_destination,
    "permit": _permit,
    "permit_auth_destination": _permit_auth_destination,
    "permit_mynetworks": _permit_mynetworks,
    "permit_sasl_authenticated": _permit_sasl_authenticated,
    "reject": _reject,
    "reject_unauth_destination": _reject_unauth_destination,
    "reject_unlisted_recipient": _reject_unlisted_recipient,
}


class RecipientPolicy:
    """Who may send to whom, as main.cf says. Raises ConfigError for lists that cannot be kept."""

    def __init__(self, conf: Config) -> None:
        self.codes = Codes.read(conf)
        parameters = [RELAY, RECIPIENT]
        if not conf.boolean("smtpd_relay_before_recipient_restrictions"):
            parameters.reverse()
        self._program = [_parse(conf, parameter) for parameter in parameters]
        self._reject_unlisted = conf.boolean("smtpd_reject_unlisted_recipient")
        if not any(_protects(conf.words(parameter)) for parameter in parameters):
            raise conf.error(
                RELAY,
                f"in parameter {RELAY} or {RECIPIENT}, specify at least one working instance of: "
                + ", ".join(_PROTECTION),
                "without it this would be an open relay",
            )

    def check(self, facts: Facts) -> Reply | None:
        """The refusal of a recipient; None if it is accepted."""
        # RFC 5321 section 4.5.1
        if facts.recipient.lower() == "postmaster":
            return None
        resolved = facts.resolved
        if resolved.address_class == "error":
            return self.codes.unresolved(facts.recipient, resolved.nexthop)
        for restrictions in self._program:
            for restriction in restrictions:
                verdict = restriction(facts, self.codes)
                if verdict is Verdict.PERMIT:
                    break
                if verdict is not Verdict.DUNNO:
                    return verdict
        return check_listed(facts.recipient, resolved, self.codes) if self._reject_unlisted else None


def _parse(conf: Config, parameter: str) -> list[Check]:
    checks = []
    for word in conf.words(parameter):
        name = word.lower()
        if name in CHECKS:
            checks.append(CHECKS[name])
        elif name in _KNOWN_TO_POSTFIX or ":" in word or word in conf.words("smtpd_restriction_classes"):
            raise conf.error(parameter, f"{word} is not implemented by this version of pyfix", "remove it")
        else:
            raise conf.error(parameter, f"unknown restriction: {word}")
    return checks


def _protects(words: Sequence[str]) -> bool:
    for word in map(str.lower, words):
        if word in _PROTECTION:
            return True
        if word == "permit":
            return False
    return False
