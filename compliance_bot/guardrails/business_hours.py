"""When people are at work: wall-clock hours of one time zone, turned into instants."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

# A week always holds an opening, except where the clock skips over the hours of its only one.
_HORIZON_DAYS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class BusinessHours:
    """From ``start`` up to but not including ``end``, on the day after where ``end`` is not later than ``start``.

    ``weekdays``: on which they start; Monday is 0; never empty.
    """

    start: time = time(9)
    end: time = time(18)
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
    time_zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("Asia/Shanghai"))

    def next(self, instant: datetime) -> datetime:
        """The instant itself where it is inside the hours, otherwise the next opening."""
        today = instant.astimezone(self.time_zone).date()
        for offset in range(-1, _HORIZON_DAYS):
            day = today + timedelta(days=offset)
            last = day if self.end > self.start else day + timedelta(days=1)
            earliest = max(instant, self._instant(day, self.start))
            if day.weekday() in self.weekdays and earliest < self._instant(last, self.end):
                return earliest
        raise ValueError("no business hours within two weeks")

    def _instant(self, day: date, wall: time) -> datetime:
        """UTC instant of a wall time: the first of two where the clock goes back (fold 0)."""
        return datetime.combine(day, wall, tzinfo=self.time_zone).astimezone(UTC)
