"""The SMTP server's settings, read from main.cf."""

from typing import Final

from pyfix.conf.config import Config
from pyfix.wire.data import BareNewline
from pyfix.wire.smtp_dialogue import Settings

OUTPUT_LIMIT: Final = 65536
# What smtpd_forbidden_commands says by default besides names.
_NON_LETTERS: Final = "regexp:{{/^[^A-Z]/ Bogus}}"
_MODES: Final[dict[str, BareNewline]] = {
    "no": "no",
    "note": "note",
    "normalize": "normalize",
    "yes": "normalize",
    "reject": "reject",
}


def read_settings(conf: Config, *, lenient: bool = False, verp: bool = False, stand_alone: bool = False) -> Settings:
    """The settings. Raises ConfigError.

    ``lenient`` for a client in smtpd_forbid_bare_newline_exclusions, ``verp`` for one in smtpd_authorized_verp_clients.
    """
    bare_newline = conf.text("smtpd_forbid_bare_newline")
    if bare_newline.lower() not in _MODES:
        raise conf.error("smtpd_forbid_bare_newline", f"bad value: {bare_newline}", f"one of {', '.join(_MODES)}")
    forbidden, forbid_non_letters = _forbidden_commands(conf)
    return Settings(
        hostname=conf.text("myhostname"),
        banner=conf.text("smtpd_banner"),
        line_length_limit=conf.integer("line_length_limit"),
        message_size_limit=conf.integer("message_size_limit"),
        recipient_limit=conf.integer("smtpd_recipient_limit"),
        recipient_overshoot_limit=conf.integer("smtpd_recipient_overshoot_limit"),
        junk_command_limit=conf.integer("smtpd_junk_command_limit"),
        soft_error_limit=conf.integer("smtpd_soft_error_limit"),
        hard_error_limit=conf.integer("smtpd_hard_error_limit"),
        error_sleep_time=conf.seconds("smtpd_error_sleep_time"),
        helo_required=conf.boolean("smtpd_helo_required"),
        disable_vrfy_command=conf.boolean("disable_vrfy_command"),
        strict_rfc821_envelopes=conf.boolean("strict_rfc821_envelopes"),
        smtputf8_enable=conf.boolean("smtputf8_enable"),
        forbid_unauth_pipelining=conf.boolean("smtpd_forbid_unauth_pipelining"),
        forbid_bare_newline="no" if lenient else _MODES[bare_newline.lower()],
        forbid_bare_newline_reject_code=conf.integer("smtpd_forbid_bare_newline_reject_code"),
        forbidden_commands=forbidden,
        forbid_non_letters=forbid_non_letters,
        noop_commands=_upper(conf.words("smtpd_noop_commands")),
        soft_bounce=conf.boolean("soft_bounce"),
        discard_ehlo_keywords=frozenset(word.upper() for word in conf.words("smtpd_discard_ehlo_keywords")),
        output_limit=OUTPUT_LIMIT,
        verp_delimiters=conf.text("default_verp_delimiters") if verp else "",
        verp_delimiter_filter=conf.text("verp_delimiter_filter"),
        history_flush_threshold=conf.integer("smtpd_history_flush_threshold"),
        stand_alone=stand_alone,
    )


def settings_by_standing(conf: Config) -> dict[tuple[bool, bool], Settings]:
    """The settings of each kind of client, by ``lenient`` and ``verp`` of read_settings(). Raises ConfigError."""
    both = (False, True)
    return {(lenient, verp): read_settings(conf, lenient=lenient, verp=verp) for lenient in both for verp in both}


def _forbidden_commands(conf: Config) -> tuple[frozenset[bytes], bool]:
    parameter = "smtpd_forbidden_commands"
    words = conf.words(parameter)
    names = [word for word in words if word != _NON_LETTERS]
    for name in names:
        if ":" in name or name.startswith("/"):
            raise conf.error(parameter, f"{name}: tables are not implemented here", f"only {_NON_LETTERS} is")
    return _upper(names), len(names) < len(words)


def _upper(words: "tuple[str, ...] | list[str]") -> frozenset[bytes]:
    return frozenset(word.encode("utf-8").upper() for word in words)
