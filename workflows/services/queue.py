"""The only door to the queue. A queue message is a hint: the row it names carries the state."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django_q.models import Failure, OrmQ
from django_q.tasks import async_task

from audit import context


def enqueue(task: str, pk: int | str) -> None:
    """Ask a worker to look at a row, under the cause in force.

    With the queue in the same database this is part of the transaction: no commit, no task.
    """
    async_task(task, pk, context.current().as_task_argument(), task_name=f"{task.rsplit('.', 1)[-1]}-{pk}")


@dataclass(frozen=True, slots=True)
class QueueState:
    """What waits, and what failed lately: (name, function, started, stopped)."""

    waiting: int
    oldest: datetime | None
    failures: list[tuple[Any, ...]]


def state() -> QueueState:
    """For looking at only. Payloads and results are pickles: they are not opened here."""
    oldest = OrmQ.objects.order_by("lock").values_list("lock", flat=True).first()
    failures = Failure.objects.order_by("-stopped").values_list("name", "func", "started", "stopped")
    return QueueState(waiting=OrmQ.objects.count(), oldest=oldest, failures=list(failures[:20]))
