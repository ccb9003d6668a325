import pytest

from pyfix.conf.config import Config, ConfigError
from pyfix.conf.main_cf import Assignment, parse


def config(text="", overrides=(), facts=None, first_line=None):
    assignments = parse(text.encode(), "main.cf")
    assignments += [Assignment(name, value, "command line", 0) for name, value in overrides]
    return Config("/etc/pyfix", assignments, facts, first_line)


def test_defaults():
    conf = config()
    assert conf.text("queue_directory") == "/var/spool/pyfix"
    assert conf.text("syslog_name") == "pyfix"
    assert conf.integer("message_size_limit") == 10240000
    assert conf.seconds("maximal_queue_lifetime") == 5 * 86400
    assert conf.boolean("enable_long_queue_ids") is True
    assert conf.words("hash_queue_names") == ("deferred", "defer")
    assert conf.text("append_dot_mydomain") == "no"
    assert conf.text("smtp_tls_security_level") == "may"


def test_defaults_follow_an_older_compatibility_level():
    conf = config("compatibility_level = 2\n")
    assert conf.text("mynetworks_style") == "host"
    assert conf.text("smtp_tls_security_level") == ""
    assert config("compatibility_level = 0\n").boolean("append_dot_mydomain") is True


def test_the_last_assignment_counts():
    assert config("mail_name = a\nmail_name = b\n").text("mail_name") == "b"


def test_the_command_line_wins():
    conf = config("mail_name = a\n", [("mail_name", "c"), ("own", "x")])
    assert (conf.text("mail_name"), conf.text("own")) == ("c", "x")
    assert conf.is_set("mail_name")
    assert not conf.is_set("mail_owner")


def test_names_of_ones_own_expand():
    conf = config("net = 192.0.2.0/24\nmynetworks = 127.0.0.0/8, $net $nothing\n")
    assert conf.words("mynetworks") == ("127.0.0.0/8", "192.0.2.0/24")
    assert conf.unexpanded("mynetworks") == "127.0.0.0/8, $net $nothing"


def test_raw_values_stay():
    assert config("forward_path = $home/x\n").text("forward_path") == "$home/x"


def test_unknown_name_is_a_bug():
    with pytest.raises(KeyError):
        config().text("nobody_declared_this")


def test_service_values():
    conf = config(
        "default_destination_concurrency_limit = 7\n"
        "foo_destination_recipient_limit = 3\n"
        "slow_destination_rate_delay = 2m\n"
    )
    assert conf.service_integer("destination_concurrency_limit", "smtp") == 7
    assert conf.service_integer("destination_concurrency_limit", "foo") == 7
    assert conf.service_integer("destination_concurrency_limit", "local") == 2
    assert conf.service_integer("destination_recipient_limit", "foo") == 3
    assert conf.service_seconds("destination_rate_delay", "slow") == 120
    assert conf.service_seconds("destination_rate_delay", "my_own") == 0
    assert conf.service_text("initial_destination_concurrency", "relay") == "5"


def test_a_time_without_letter_has_the_unit_of_its_default():
    conf = config("maximal_queue_lifetime = 2\nqueue_run_delay = 20\nsmtpd_timeout = 9\nx_time_limit = 3\n")
    assert conf.seconds("maximal_queue_lifetime") == 2 * 86400
    assert conf.seconds("queue_run_delay") == 20
    assert conf.seconds("smtpd_timeout") == 9
    assert conf.service_seconds("time_limit", "x") == 3


@pytest.mark.parametrize(
    ("text", "look_up", "expected"),
    [
        pytest.param(
            "a=1\nqueue_run_delay = 5q\n",
            lambda conf: conf.seconds("queue_run_delay"),
            'main.cf, line 2: parameter queue_run_delay: bad time "5q"; '
            "write a number and one of the letters s, m, h, d, w",
            id="time",
        ),
        pytest.param(
            "message_size_limit = 10M\n",
            lambda conf: conf.integer("message_size_limit"),
            'main.cf, line 1: parameter message_size_limit: bad number "10M"; write decimal digits only',
            id="number",
        ),
        pytest.param(
            "line_length_limit = 10\n",
            lambda conf: conf.integer("line_length_limit"),
            'main.cf, line 1: parameter line_length_limit: "10" is too small; the least is 512',
            id="bound",
        ),
        pytest.param(
            "soft_bounce = maybe\n",
            lambda conf: conf.boolean("soft_bounce"),
            'main.cf, line 1: parameter soft_bounce: bad truth value "maybe"; write yes or no',
            id="truth value",
        ),
        pytest.param(
            "notify_classes = bounce,\n  nonsense\n",
            lambda conf: conf.words("notify_classes"),
            'main.cf, line 1: parameter notify_classes: unknown value "nonsense"; '
            "known are bounce, 2bounce, data, delay, policy, protocol, resource, software",
            id="unknown class",
        ),
        pytest.param(
            "mynetworks_style = hots\n",
            lambda conf: conf.text("mynetworks_style"),
            'main.cf, line 1: parameter mynetworks_style: unknown value "hots"; known are class, subnet, host',
            id="unknown word",
        ),
        pytest.param(
            "myhostname =\n",
            lambda conf: conf.text("myhostname"),
            "main.cf, line 1: parameter myhostname: the value must not be empty",
            id="empty",
        ),
        pytest.param(
            "a = $b\nb = x $c\nc = ${a}\nmail_name = $a\n",
            lambda conf: conf.text("mail_name"),
            "main.cf, line 1: parameter a: the value refers to itself: a -> b -> c -> a; break the circle",
            id="recursion",
        ),
        pytest.param(
            "mail_name = $mail_name\n",
            lambda conf: conf.text("mail_name"),
            "main.cf, line 1: parameter mail_name: the value refers to itself: mail_name -> mail_name; "
            "break the circle",
            id="short recursion",
        ),
        pytest.param(
            "\nb = x$\nsmtpd_banner = $b ESMTP\n",
            lambda conf: conf.text("smtpd_banner"),
            "main.cf, line 2: parameter b: a dollar sign without a parameter name; write $$ for a dollar sign",
            id="the mistake is in the parameter referred to",
        ),
    ],
)
def test_errors_say_where_and_what(text, look_up, expected):
    with pytest.raises(ConfigError) as caught:
        look_up(config(text))
    assert str(caught.value) == expected


def test_error_in_an_override_names_the_command_line():
    with pytest.raises(ConfigError) as caught:
        config("", [("queue_run_delay", "x")]).seconds("queue_run_delay")
    assert str(caught.value).startswith('command line: parameter queue_run_delay: bad time "x"')


def test_an_error_does_not_spoil_later_look_ups():
    conf = config("a = $b\nb = $a\nc = $a\n")
    for name in ("a", "c", "a"):
        with pytest.raises(ConfigError, match="the value refers to itself"):
            conf.text(name)


def test_facts_are_defaults():
    facts = {
        "myhostname": lambda _conf: "host.example",
        "mydomain": lambda conf: conf.text("myhostname").partition(".")[2],
    }
    assert config("", facts=facts).text("mydomain") == "example"
    assert config("myhostname = a.b.c\n", facts=facts).text("mydomain") == "b.c"
    assert config("mydomain = x\n", facts=facts).text("mydomain") == "x"


def test_facts_take_part_in_recursion():
    facts = {"mydomain": lambda conf: conf.text("myhostname").partition(".")[2]}
    with pytest.raises(ConfigError, match="refers to itself"):
        config("myhostname = mail.$mydomain\n", facts=facts).text("myhostname")


def test_myorigin_may_name_a_file():
    conf = config("myorigin = /etc/mailname\n", first_line={"/etc/mailname": "example.org"}.__getitem__)
    assert conf.text("myorigin") == "example.org"
    assert conf.unexpanded("myorigin") == "/etc/mailname"


def test_check_finds_the_first_wrong_value():
    config("mail_name = x\n").check()
    with pytest.raises(ConfigError, match="line 2: parameter queue_run_delay"):
        config("mail_name = x\nqueue_run_delay = never\n").check()


def test_check_looks_at_names_of_ones_own():
    with pytest.raises(ConfigError, match="parameter mine"):
        config("mine = ${\n").check()


def test_check_accepts_every_default():
    config().check()


def test_what_has_no_effect_is_told():
    conf = config(
        "allow_srv_lookup_fallback = yes\nunused = y\nused = z\nmail_name = $used\nfoo_destination_rate_delay = 1s\n"
    )
    problems = {problem.parameter: str(problem) for problem in conf.set_but_unimplemented()}
    assert problems["unused"] == "main.cf, line 2: unused parameter: unused=y"
    assert problems["allow_srv_lookup_fallback"] == (
        "main.cf, line 1: parameter allow_srv_lookup_fallback is not implemented by this version of pyfix"
        " and has no effect"
    )
    assert not {"used", "mail_name"} & problems.keys()


def test_restriction_classes_are_used_names():
    conf = config("smtpd_restriction_classes = mine\nmine = permit\n")
    assert "mine" not in {problem.parameter for problem in conf.set_but_unimplemented()}
