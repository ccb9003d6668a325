"""Fast flush's logs: their names, and what is due for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.schedule.fast_flush import log_name, upkeep
from pyfix.spool.flush_log import LogStatus

HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize(
    ("site", "name"),
    [
        ("example.com", "example_com"),
        ("EXAMPLE.com", "example_com"),
        ("a-b.example.com", "a_b_example_com"),
        ("[192.0.2.1]", "_192_0_2_1_"),
        ("[IPv6:2001:db8::1]", "_ipv6_2001_db8__1_"),
        ("b\xfccher.example", "xn__bcher_kva_example"),
        ("../../etc/passwd", "______etc_passwd"),
        ("", ""),
        ("x" * 255, "x" * 255),
        ("x" * 256, ""),
        ("\xfc" * 300, ""),
    ],
)
def test_names(site, name):
    assert log_name(site) == name


@given(st.text())
def test_a_name_is_harmless(site):
    name = log_name(site)
    assert name.isascii()
    assert len(name) <= 255
    assert not set(name) & set("./\0\n")


@pytest.mark.parametrize(
    ("size", "written", "used", "due"),
    [
        (17, 13 * HOUR, 13 * HOUR, "refresh"),
        (17, 0, 13 * HOUR, "refresh"),
        (17, 13 * HOUR, 11 * HOUR, "keep"),
        (17, 30 * DAY, 11 * HOUR, "keep"),
        (0, 6 * DAY, 6 * DAY, "keep"),
        (0, 8 * DAY, 8 * DAY, "remove"),
        (0, 8 * DAY, 0, "remove"),
    ],
)
def test_upkeep(size, written, used, due):
    """Times are ages here."""
    now = 1_800_000_000
    log = LogStatus("example_com", size, now - written, now - used)
    assert upkeep(log, now, 12 * HOUR, 7 * DAY) == due
