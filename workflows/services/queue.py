"""The only door to the queue. A queue message is a hint: the row it names carries the state."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django_q.brokers import get_broker
from django_q.models import Failure, OrmQ
from django_q.tasks import async_task

from audit import context


def enqueue(task: str, pk: int | str) -> None:
    """Ask a worker to look at a row, under the cause in force.

    With the queue in the same database this is part of the transaction: no commit, no task. Redis is told once the
    transaction is over; what it could not be told is in the log, and the clock finds the row.
    """
    name = f"{task.rsplit('.', 1)[-1]}-{pk}"
    hand_over = partial(async_task, task, pk, context.current().as_task_argument(), task_name=name)
    if settings.REDIS_URL:
        transaction.on_commit(hand_over, robust=True)
    else:
        hand_over()


@dataclass(frozen=True, slots=True)
class QueueState:
    """What waits, and what failed lately: (name, function, started, stopped)."""

    waiting: int
    oldest: datetime | None
    failures: list[tuple[Any, ...]]


def state() -> QueueState:
    """For looking at only. Payloads and results are pickles: they are not opened here."""
    oldest = OrmQ.objects.order_by("lock").values_list("lock", flat=True).first()
    waiting = get_broker().queue_size() if settings.REDIS_URL else OrmQ.objects.count()
    failures = Failure.objects.order_by("-stopped").values_list("name", "func", "started", "stopped")
    return QueueState(waiting=waiting, oldest=oldest, failures=list(failures[:20]))
