"""What workers run. A task takes up the cause it was queued under, calls one service, and returns nothing."""

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from django.utils import timezone

from audit import checkpoints, completeness, context, forwarding, retention, sealing, verification
from audit.export import jobs
from workflows.services import alerts, clock, delivery, housekeeping, imports, officers, queue, recalling, runs
from workflows.services import inbound as callbacks

logger = logging.getLogger(__name__)

# A queue task is killed after 60 seconds; a turn ends by itself before, between two short transactions.
_TURN_SECONDS = 40


def execute_run(run_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        runs.execute(run_id)


def dispatch(message_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        delivery.dispatch(message_id)


def inbound(event_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        callbacks.handle(event_id)


def recall(message_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        recalling.carry_out(message_id)


def forward(receiver: str, cause: dict[str, str]) -> None:
    with _under(cause):
        forwarding.forward(receiver)


def export(export_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        jobs.work(export_id)


def import_members(import_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        imports.work(import_id)


def ask_officers(approval_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        officers.ask(approval_id)


def remind_officers(approval_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        officers.remind(approval_id)


def tell_requester(approval_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        officers.tell_requester(approval_id)


def alert_glass(approval_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        officers.alert_glass(approval_id)


def alert_channel(channel_id: int, cause: dict[str, str]) -> None:
    with _under(cause):
        alerts.channel_broken(channel_id)


def tick() -> None:
    """The queue's own schedule calls this each minute, in case the clock process is not there."""
    clock.tick()


def nightly() -> None:
    """The slow, complete looks."""
    with context.system_acting():
        now = timezone.now()
        # The check comes first: a sweep would hide that the sealer stands still.
        for look in (completeness.run_and_record, sealing.sweep, checkpoints.send_daily):
            _by_itself(partial(look, now))
        queue.enqueue("workflows.tasks.clean_up", 1)
        if not verification.is_long():
            queue.enqueue("workflows.tasks.verify", 1)


def verify(turn: int, cause: dict[str, str]) -> None:
    """A trail that takes longer than a task may run is verified by a timer of its own (deploy/systemd)."""
    with _under(cause):
        verification.verify_and_record(verification.Tally())


def clean_up(turn: int, cause: dict[str, str]) -> None:
    """Purge, expire, keep house. What its time is not enough for is taken up by a further turn."""
    with _under(cause):
        now, until = timezone.now(), time.monotonic() + _TURN_SECONDS
        works = (retention.purge, retention.expire_archives, housekeeping.keep_house, jobs.expire)
        unfinished = [_by_itself(partial(work, now, until)) is False for work in works]
        if any(unfinished):
            queue.enqueue("workflows.tasks.clean_up", turn + 1)


def _by_itself(work: Callable[[], object]) -> object:
    """One work that fails must not stop the others; it is told loudly, each night."""
    try:
        return work()
    except Exception:
        logger.exception("the night could not finish %s", work)
        return None


def _under(cause: dict[str, str]) -> AbstractContextManager[context.Cause]:
    return context.system_acting(request_id=uuid.UUID(cause["request_id"]), on_behalf_of=cause["on_behalf_of"])
