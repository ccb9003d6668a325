import pytest

from pyfix.access.session_settings import read_settings
from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment


def config(**parameters):
    return Config("/", [Assignment(k, v, "main.cf", 1) for k, v in ({"myhostname": "mx.example"} | parameters).items()])


def test_defaults_are_postfixs():
    settings = read_settings(config())
    assert settings.hostname == "mx.example"
    assert settings.banner == "mx.example ESMTP pyfix"
    assert (settings.line_length_limit, settings.message_size_limit) == (2048, 10240000)
    assert (settings.soft_error_limit, settings.hard_error_limit, settings.junk_command_limit) == (10, 20, 100)
    assert (settings.recipient_limit, settings.recipient_overshoot_limit) == (1000, 1000)
    assert settings.forbidden_commands == {b"CONNECT", b"GET", b"POST"}
    assert settings.forbid_non_letters
    assert settings.forbid_unauth_pipelining
    assert settings.forbid_bare_newline == "normalize"


@pytest.mark.parametrize(
    ("value", "mode"),
    [("yes", "normalize"), ("note", "note"), ("reject", "reject"), ("no", "no")],
)
def test_bare_newline_modes(value, mode):
    conf = config(smtpd_forbid_bare_newline=value)
    assert read_settings(conf).forbid_bare_newline == mode
    assert read_settings(conf, lenient=True).forbid_bare_newline == "no"


def test_a_bad_mode_is_an_error():
    with pytest.raises(ConfigError):
        read_settings(config(smtpd_forbid_bare_newline="maybe"))


def test_forbidden_commands():
    settings = read_settings(config(smtpd_forbidden_commands="foo"))
    assert (settings.forbidden_commands, settings.forbid_non_letters) == ({b"FOO"}, False)
    with pytest.raises(ConfigError, match="tables are not implemented here"):
        read_settings(config(smtpd_forbidden_commands="hash:/etc/x"))
