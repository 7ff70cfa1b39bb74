"""The queue's own schedules: argument-free, declared here and nowhere else.

A malformed row would stop every schedule of django-q2, and a row can name any callable; so there are just these.
Whoever adds another by hand loses it at the next migration.
"""

from collections.abc import Mapping
from typing import Any

from django_q.models import Schedule

SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "tick": {"func": "workflows.tasks.tick", "schedule_type": Schedule.MINUTES, "minutes": 1, "repeats": -1},
    "nightly": {"func": "workflows.tasks.nightly", "schedule_type": Schedule.DAILY, "repeats": -1},
}


def sync(**kwargs: Any) -> None:
    Schedule.objects.exclude(name__in=SCHEDULES).delete()
    for name, fields in SCHEDULES.items():
        Schedule.objects.update_or_create(name=name, defaults=fields)
