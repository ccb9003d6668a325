"""What main.cf says about messages on their way into the queue."""

from msgspec import Struct

from pyfix.conf.config import Config
from pyfix.intake import message


class IntakeSettings(Struct, frozen=True):
    """Limits and wishes that concern the envelope and the queue; those of the header are ``header``."""

    header: message.Settings
    duplicate_filter_limit: int
    enable_original_recipient: bool
    # bytes that must be free before a message is begun
    space_needed: int
    # seconds until the sender is told of a delay; 0 never
    delay_warning_time: int = 0


def read_settings(conf: Config) -> IntakeSettings:
    """The settings of main.cf. Raises ConfigError."""
    size_limit = conf.integer("message_size_limit")
    return IntakeSettings(
        header=message.Settings(
            myhostname=conf.text("myhostname"),
            header_size_limit=conf.integer("header_size_limit"),
            header_address_token_limit=conf.integer("header_address_token_limit"),
            hopcount_limit=conf.integer("hopcount_limit"),
            message_size_limit=size_limit,
            message_drop_headers=frozenset(word.lower().encode() for word in conf.words("message_drop_headers")),
            undisclosed_recipients_header=conf.text("undisclosed_recipients_header"),
            always_add_missing_headers=conf.boolean("always_add_missing_headers"),
            header_from_format=conf.text("header_from_format"),
            replace_stray_cr=conf.boolean("cleanup_replace_stray_cr_lf"),
        ),
        duplicate_filter_limit=conf.integer("duplicate_filter_limit"),
        enable_original_recipient=conf.boolean("enable_original_recipient"),
        space_needed=max(conf.integer("queue_minfree"), size_limit * 3 // 2),
        delay_warning_time=conf.seconds("delay_warning_time"),
    )
