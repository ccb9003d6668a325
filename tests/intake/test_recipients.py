from pyfix.intake.recipients import RecipientFilter
from pyfix.service.cleanup import Recipient
from pyfix.spool.envelope import NewRecipient


def complete(address):
    return address if "@" in address else f"{address}@test.example"


def new(*given, limit=1000, keep_original=True):
    return list(RecipientFilter(complete, limit, keep_original=keep_original).new(given))


def test_an_address_comes_in_standard_form_with_the_one_it_was():
    assert new(Recipient("r"), Recipient("a b@x")) == [
        NewRecipient("r@test.example", original="r", orcpt="rfc822;r"),
        NewRecipient("a b@x", orcpt='rfc822;"a b"@x'),
    ]


def test_orcpt_and_notify_are_kept():
    given = Recipient("r@x", orcpt="rfc822;x+y@z", notify=4)
    assert new(given) == [NewRecipient("r@x", orcpt="rfc822;x+y@z", notify=4)]


def test_a_recipient_is_taken_once_whatever_its_case():
    found = new(Recipient("r@x"), Recipient("R@X"), Recipient("r@x"), Recipient("s@x"))
    assert [recipient.address for recipient in found] == ["r@x", "s@x"]


def test_letters_above_ascii_are_not_folded():
    found = new(Recipient("k@x"), Recipient("\u212a@x"))
    assert [recipient.address for recipient in found] == ["k@x", "\u212a@x"]


def test_recipients_with_other_dsn_wishes_are_others():
    found = new(Recipient("r@x"), Recipient("r@x", notify=1), Recipient("r@x", orcpt="rfc822;q@x"))
    assert len(found) == 3


def test_original_addresses_make_a_difference_only_where_they_are_kept():
    given = (Recipient("r"), Recipient("r@test.example"))
    assert [r.original for r in new(*given)] == ["r", ""]
    assert new(*given, keep_original=False) == [NewRecipient("r@test.example", orcpt="rfc822;r")]


def test_the_filter_forgets_beyond_its_limit():
    found = new(*(Recipient(f"{n}@x") for n in (1, 2, 3, 1, 2, 3)), limit=2)
    assert [recipient.address for recipient in found] == ["1@x", "2@x", "3@x", "3@x"]
