"""What workers run. A task takes up the cause it was queued under, calls one service, and returns nothing."""

import uuid
from contextlib import AbstractContextManager

from django.utils import timezone

from audit import context, sealing
from workflows.services import clock, delivery, runs


def execute_run(run_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        runs.execute(run_id)


def dispatch(message_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        delivery.dispatch(message_id)


def tick() -> None:
    """The queue's own schedule calls this each minute, in case the clock process is not there."""
    clock.tick()


def nightly() -> None:
    """The slow, complete looks."""
    sealing.sweep(timezone.now())


def _under(cause: dict[str, str]) -> AbstractContextManager[context.Cause]:
    return context.system_acting(request_id=uuid.UUID(cause["request_id"]), on_behalf_of=cause["on_behalf_of"])
