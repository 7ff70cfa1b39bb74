from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from workflows.domain.cadence import WEEKDAYS, Daily, Every, Rule

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")
WORKDAYS = frozenset(range(5))
TWO_HOURLY = Rule(pattern=Every(minutes=120, start=time(9), end=time(17)), weekdays=WORKDAYS, zone=SHANGHAI)


def local(rule: Rule, instant: datetime, count: int) -> list[str]:
    return [f"{moment.astimezone(rule.zone):%a %H:%M}" for moment in rule.upcoming(instant, count)]


def test_every_two_hours_of_business_time_skips_the_night_and_the_weekend() -> None:
    friday_afternoon = datetime(2026, 11, 20, 14, 30, tzinfo=SHANGHAI)
    assert local(TWO_HOURLY, friday_afternoon, 7) == [
        "Fri 15:00",
        "Fri 17:00",
        "Mon 09:00",
        "Mon 11:00",
        "Mon 13:00",
        "Mon 15:00",
        "Mon 17:00",
    ]


def test_an_occurrence_is_strictly_after_the_instant() -> None:
    at_nine = datetime(2026, 11, 23, 9, 0, tzinfo=SHANGHAI)
    assert local(TWO_HOURLY, at_nine, 1) == ["Mon 11:00"]
    assert local(TWO_HOURLY, at_nine - timedelta(microseconds=1), 1) == ["Mon 09:00"]


def test_a_daily_summary_comes_once_a_day() -> None:
    rule = Rule(pattern=Daily(at=time(18)), weekdays=frozenset(WEEKDAYS), zone=SHANGHAI)
    assert local(rule, datetime(2026, 11, 21, 18, 0, tzinfo=SHANGHAI), 2) == ["Sun 18:00", "Mon 18:00"]


def test_a_wall_time_that_the_clock_skips_runs_once_and_later() -> None:
    rule = Rule(pattern=Every(minutes=30, start=time(2), end=time(3, 30)), weekdays=frozenset(WEEKDAYS), zone=NEW_YORK)
    before_the_change = datetime(2026, 3, 8, 0, 0, tzinfo=NEW_YORK)
    assert local(rule, before_the_change, 3) == ["Sun 03:00", "Sun 03:30", "Mon 02:00"]


def test_a_wall_time_that_comes_twice_runs_once() -> None:
    rule = Rule(pattern=Daily(at=time(1, 30)), weekdays=frozenset(WEEKDAYS), zone=NEW_YORK)
    occurrences = rule.upcoming(datetime(2026, 11, 1, 0, 0, tzinfo=NEW_YORK), 2)
    assert occurrences[0] == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    assert occurrences[1] == datetime(2026, 11, 2, 6, 30, tzinfo=UTC)


def test_no_weekday_means_never() -> None:
    rule = Rule(pattern=Daily(at=time(18)), weekdays=frozenset(), zone=SHANGHAI)
    assert rule.next_after(datetime(2026, 11, 23, tzinfo=UTC)) is None


@given(
    st.integers(0, 6 * 366 * 86_400),
    st.integers(1, 1440),
    st.sampled_from(["Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC"]),
)
def test_occurrences_always_ascend(seconds: int, minutes: int, zone: str) -> None:
    rule = Rule(
        pattern=Every(minutes=minutes, start=time(0), end=time(23, 59)),
        weekdays=frozenset(WEEKDAYS),
        zone=ZoneInfo(zone),
    )
    start = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    occurrences = rule.upcoming(start, 60)
    assert len(occurrences) == 60
    assert start < occurrences[0]
    assert all(earlier < later for earlier, later in pairwise(occurrences))
