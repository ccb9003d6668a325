"""What a transaction's envelope says about the message that is to be stored."""

from collections.abc import Iterable
from typing import NamedTuple

from pyfix.intake.message import Envelope, Intake
from pyfix.intake.recipients import RecipientFilter, StandardForm
from pyfix.intake.settings import IntakeSettings
from pyfix.service.cleanup import Open, Recipient
from pyfix.spool.envelope import (
    SMTPUTF8_HEADER,
    SMTPUTF8_RECIPIENT,
    SMTPUTF8_REQUESTED,
    SMTPUTF8_SENDER,
    NewMessage,
    NewRecipient,
)


class Opening(NamedTuple):
    """A message that is about to be stored."""

    # its envelope, for the queue file
    message: NewMessage
    # the machine for its content
    intake: Intake
    # for the recipients that its header may name
    recipients: RecipientFilter

    def extracted(self) -> list[NewRecipient]:
        """The recipients that the header named and the envelope did not; when the content is at its end."""
        return list(self.recipients.new(map(Recipient, self.intake.extracted)))

    def smtputf8(self, extracted: Iterable[NewRecipient]) -> int:
        """What the queue file says of UTF-8 in the message; when the content is at its end."""
        header = SMTPUTF8_HEADER if self.intake.has_8bit_header else 0
        return self.message.smtputf8 | header | _utf8_recipients(extracted)


def open_message(
    request: Open,
    settings: IntakeSettings,
    local_form: StandardForm,
    remote_form: StandardForm | None,
    now: int,
    date: str,
) -> Opening:
    """The message of a request.

    Envelope addresses are completed with this system's names (``local_form``). So are header addresses of mail from
    clients of ours; those of others with remote_header_rewrite_domain (``remote_form``), or not at all. ``now`` is in
    seconds, ``date`` is the arrival time as a header says it.
    """
    sender = local_form(request.sender)
    recipients = RecipientFilter(
        local_form, settings.duplicate_filter_limit, keep_original=settings.enable_original_recipient
    )
    given = tuple(recipients.new(request.recipients))
    warn_after = settings.delay_warning_time
    requested = SMTPUTF8_REQUESTED if request.smtputf8 else 0
    message = NewMessage(
        sender=sender,
        arrival_usec=request.arrival_usec,
        create_time=now,
        recipients=given,
        full_name=request.full_name,
        encoding=request.encoding,
        smtputf8=requested | (0 if sender.isascii() else SMTPUTF8_SENDER) | _utf8_recipients(given),
        envid=request.envid,
        ret=request.ret,
        attributes=request.attributes,
        warn_time=request.arrival_usec // 1_000_000 + warn_after if sender and warn_after else 0,
        verp_delimiters=request.verp_delimiters,
    )
    envelope = Envelope(
        queue_id=request.queue_id,
        sender=sender,
        arrival=request.arrival_usec // 1_000_000,
        date=date,
        trace=request.trace,
        full_name=request.full_name,
        extract_recipients=request.extract_recipients,
    )
    remote = request.attributes.get("rewrite_context") == "remote"
    return Opening(message, Intake(settings.header, envelope, remote_form if remote else local_form), recipients)


def _utf8_recipients(recipients: Iterable[NewRecipient]) -> int:
    return 0 if all(recipient.address.isascii() for recipient in recipients) else SMTPUTF8_RECIPIENT
