"""When a workflow runs: wall-clock rules of one time zone, turned into instants."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

WEEKDAYS = (0, 1, 2, 3, 4, 5, 6)
_HORIZON_DAYS = 370


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Every ``minutes`` from ``start`` up to and including ``end``, counted anew each day."""

    minutes: int
    start: time
    end: time

    def times(self) -> Iterator[time]:
        first = self.start.hour * 60 + self.start.minute
        last = self.end.hour * 60 + self.end.minute
        for minute in range(first, last + 1, self.minutes):
            yield time(minute // 60, minute % 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """Once a day ``at`` a time."""

    at: time

    def times(self) -> Iterator[time]:
        yield self.at


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``weekdays``: Monday is 0. The zone's own changes of the clock are honoured."""

    pattern: Every | Daily
    weekdays: frozenset[int]
    zone: ZoneInfo

    def after(self, instant: datetime) -> Iterator[datetime]:
        """The occurrences strictly after ``instant``, ascending, in UTC; ends after about a year."""
        last = instant.astimezone(UTC)
        first_day = instant.astimezone(self.zone).date()
        for offset in range(_HORIZON_DAYS):
            day = first_day + timedelta(days=offset)
            if day.weekday() not in self.weekdays:
                continue
            for wall in self.pattern.times():
                occurrence = self._instant(day, wall)
                # A wall time that the clock skips lands on a later one: never the same instant twice.
                if occurrence > last:
                    yield occurrence
                    last = occurrence

    def next_after(self, instant: datetime) -> datetime | None:
        """The next occurrence, or None where no weekday is chosen."""
        return next(self.after(instant), None)

    def upcoming(self, instant: datetime, count: int) -> list[datetime]:
        return list(islice(self.after(instant), count))

    def _instant(self, day: date, wall: time) -> datetime:
        """UTC instant of a wall time: the first of two where the clock goes back (fold 0)."""
        return datetime.combine(day, wall, tzinfo=self.zone).astimezone(UTC)
