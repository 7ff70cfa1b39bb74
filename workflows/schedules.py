"""The queue's own schedule: one argument-free tick, declared here and nowhere else.

A malformed row would stop every schedule of django-q2, and a row can name any callable; so there is just this one.
Whoever adds another by hand loses it at the next migration.
"""

from typing import Any

from django_q.models import Schedule

TICK = {"func": "workflows.tasks.tick", "schedule_type": Schedule.MINUTES, "minutes": 1, "repeats": -1}


def sync(**kwargs: Any) -> None:
    Schedule.objects.exclude(name="tick").delete()
    Schedule.objects.update_or_create(name="tick", defaults=TICK)
