"""The next instant at which people are at work."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from compliance_bot.guardrails.business_hours import BusinessHours

SHANGHAI = BusinessHours()
BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2026-11-25 01:00", "2026-11-25 01:00"),  # Wednesday 09:00 in Shanghai: just open
        ("2026-11-25 09:59", "2026-11-25 09:59"),
        ("2026-11-25 10:00", "2026-11-26 01:00"),  # 18:00: just closed
        ("2026-11-25 00:59", "2026-11-25 01:00"),
        ("2026-11-27 12:00", "2026-11-30 01:00"),  # Friday evening to Monday morning
        ("2026-11-28 04:00", "2026-11-30 01:00"),
        ("2026-11-26 17:00", "2026-11-27 01:00"),  # already Friday 01:00 in Shanghai
    ],
)
def test_an_instant_inside_stays_and_one_outside_waits_for_the_next_opening(instant: str, expected: str) -> None:
    assert SHANGHAI.next(utc(instant)) == utc(expected)


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2026-11-27 21:59", "2026-11-27 22:00"),
        ("2026-11-27 23:00", "2026-11-27 23:00"),
        ("2026-11-28 05:59", "2026-11-28 05:59"),  # Saturday: of Friday's night
        ("2026-11-28 06:00", "2026-12-04 22:00"),
    ],
)
def test_hours_that_end_before_they_start_last_into_the_next_day(instant: str, expected: str) -> None:
    night = BusinessHours(start=time(22), end=time(6), weekdays=(4,), time_zone=ZoneInfo("UTC"))
    assert night.next(utc(instant)) == utc(expected)


def test_equal_start_and_end_are_a_whole_day() -> None:
    day = BusinessHours(start=time(0), end=time(0), weekdays=(0,), time_zone=ZoneInfo("UTC"))
    assert day.next(utc("2026-11-30 23:59")) == utc("2026-11-30 23:59")
    assert day.next(utc("2026-12-01 00:00")) == utc("2026-12-07 00:00")


def test_the_opening_follows_the_clock_when_it_changes() -> None:
    hours = BusinessHours(time_zone=BERLIN)
    assert hours.next(utc("2026-03-27 20:00")) == utc("2026-03-30 07:00")  # 09:00 in summer time
    assert hours.next(utc("2026-10-23 20:00")) == utc("2026-10-26 08:00")  # 09:00 in winter time


def test_hours_that_the_clock_skips_wait_for_the_next_day() -> None:
    """On 29 March 2026 there is no 02:30 in Berlin: read as 03:30, it would open after it closes."""
    hours = BusinessHours(start=time(2, 30), end=time(3, 10), weekdays=(6,), time_zone=BERLIN)
    assert hours.next(utc("2026-03-22 12:00")) == utc("2026-04-05 00:30")


def test_hours_end_at_the_first_of_two_equal_wall_times() -> None:
    hours = BusinessHours(start=time(1), end=time(2, 30), weekdays=(6,), time_zone=BERLIN)
    assert hours.next(utc("2026-10-25 00:29")) == utc("2026-10-25 00:29")
    assert hours.next(utc("2026-10-25 00:31")) == utc("2026-11-01 00:00")
