"""The envelope on its way into the queue: addresses in standard form, each recipient once."""

from collections.abc import Callable, Iterable, Iterator

from pyfix.mail.address import quote_address
from pyfix.service.cleanup import Recipient
from pyfix.spool.envelope import NewRecipient

StandardForm = Callable[[str], str]
"""Brings an address into standard form; both in internal form."""


class RecipientFilter:
    """Makes recipients for the queue file from those that were given, and drops those that came before.

    Two are the same if they differ in ASCII case only, and came with the same ORCPT and NOTIFY. After
    ``duplicate_filter_limit`` recipients nothing more is remembered, and so nothing more is dropped.
    """

    __slots__ = ("_keep_original", "_limit", "_seen", "_standard_form")

    def __init__(self, standard_form: StandardForm, duplicate_filter_limit: int, *, keep_original: bool) -> None:
        self._standard_form = standard_form
        self._limit = duplicate_filter_limit
        # enable_original_recipient: addresses that were not the same before they were rewritten stay apart
        self._keep_original = keep_original
        self._seen: set[tuple[str, str, str, int]] = set()

    def new(self, given: Iterable[Recipient]) -> Iterator[NewRecipient]:
        """The recipients that are new."""
        for recipient in given:
            original = recipient.address
            address = self._standard_form(original)
            # RFC 3461 section 5.2.1: a message without ORCPT gets one here, so that a notice can name the address
            # that the sender knows.
            orcpt = recipient.orcpt or f"rfc822;{quote_address(original)}"
            if not self._keep_original:
                original = address
            key = (_fold(address), _fold(original), _fold(orcpt) if recipient.orcpt else "", recipient.notify)
            if key in self._seen:
                continue
            if len(self._seen) < self._limit:
                self._seen.add(key)
            yield NewRecipient(address, "" if original == address else original, orcpt, recipient.notify)


def _fold(text: str) -> str:
    """In lower case where it is ASCII; what lower() makes of other letters would join different addresses."""
    return text.lower() if text.isascii() else text
