import subprocess
import sys

import pytest

from pyfix.conf.config import Config
from pyfix.conf.parameter import TRANSPORT, every, find, find_service

PARAMETERS = list(every())
KINDS = {"text", "raw", "words", "integer", "seconds", "boolean"}


def test_all_names_are_declared_once():
    names = [parameter.name for parameter in PARAMETERS]
    assert len(names) == len(set(names)) == 921


def test_every_declaration_is_complete():
    for parameter in PARAMETERS:
        assert parameter.kind in KINDS, parameter.name
        assert parameter.meaning.endswith("."), parameter.name
        assert 10 <= len(parameter.meaning) <= 110, parameter.name
        assert not (parameter.high and parameter.low > parameter.high), parameter.name


def test_every_default_is_of_its_kind():
    conf = Config("/etc/pyfix")
    look_up = {"boolean": conf.boolean, "integer": conf.integer, "seconds": conf.seconds, "words": conf.words}
    for parameter in PARAMETERS:
        look_up.get(parameter.kind, conf.text)(parameter.name)


def test_find():
    parameter = find("line_length_limit")
    assert parameter is not None
    assert (parameter.kind, parameter.default, parameter.low, parameter.high) == ("integer", "2048", 512, 0)
    assert find("no_such_name") is None


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("relay_destination_rate_delay", "transport_destination_rate_delay"),
        ("my_own_destination_rate_delay", "transport_destination_rate_delay"),
        ("smtp-amavis_destination_recipient_limit", "transport_destination_recipient_limit"),
        ("dovecot_destination_recipient_limit", "transport_destination_recipient_limit"),
        ("policy_time_limit", "transport_time_limit"),
    ],
)
def test_names_of_services(name, declared):
    parameter = find_service(name)
    assert parameter is not None
    assert (parameter.name, parameter.subject) == (declared, TRANSPORT)


def test_other_names_are_of_no_service():
    assert find_service("relay_domains_x") is None
    assert find_service("maps") is None
    assert find_service("my_maps") is None
    assert find_service("my_retry_time") is None


def test_a_common_name_loads_one_module():
    """A command that needs a few parameters must not pay for all of them."""
    script = (
        "import sys\nfrom pyfix.conf.config import Config\nConfig('/x').text('queue_directory')\n"
        "print(sorted(m for m in sys.modules if m.startswith('pyfix.conf.declared.')))\n"
        "print([m for m in ('typing', 're', 'dataclasses', 'ipaddress', 'psutil') if m in sys.modules])\n"
    )
    lines = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert lines[:2] == ["['pyfix.conf.declared.base']", "[]"]
