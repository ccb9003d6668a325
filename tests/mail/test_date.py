import calendar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.mail.date import format_date, format_message_id

NOON = calendar.timegm((2026, 11, 22, 16, 28, 0))


@pytest.mark.parametrize(
    ("seconds", "offset", "zone", "expected"),
    [
        (NOON, 0, "UTC", "Sun, 22 Nov 2026 16:28:00 +0000 (UTC)"),
        (NOON, -5 * 3600, "EST", "Sun, 22 Nov 2026 11:28:00 -0500 (EST)"),
        (NOON, 20700, "", "Sun, 22 Nov 2026 22:13:00 +0545"),
        (NOON, -12600, "", "Sun, 22 Nov 2026 12:58:00 -0330"),
        (0, 0, "", "Thu,  1 Jan 1970 00:00:00 +0000"),
        (2**31, 0, "", "Tue, 19 Jan 2038 03:14:08 +0000"),
    ],
)
def test_dates(seconds, offset, zone, expected):
    assert format_date(seconds, offset, zone) == expected


@given(st.integers(0, 2**33), st.integers(-12 * 60, 14 * 60))
def test_a_date_names_its_moment(seconds, minutes):
    text = format_date(seconds, minutes * 60)
    _, day, month, year, clock, zone = text.split()
    hours, mins, secs = map(int, clock.split(":"))
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    local = calendar.timegm((int(year), months.index(month) + 1, int(day), hours, mins, secs))
    east = (int(zone[1:3]) * 60 + int(zone[3:])) * (-60 if zone[0] == "-" else 60)
    assert local - east == seconds


def test_message_ids():
    assert format_message_id(NOON, "4jXZHh6nLGzDLbP", "mx.example") == "<4jXZHh6nLGzDLbP@mx.example>"
    assert format_message_id(NOON, "3053A190708", "mx.example") == "<20261122162800.3053A190708@mx.example>"
