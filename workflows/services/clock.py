"""One tick: find what is due and hand it on. Cheap when nothing is, harmless when two do it at once."""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

from django.db import transaction
from django.utils import timezone

from audit import context, forwarding, reports, sealing
from audit.export import jobs
from workflows.domain.states import MessageState, WorkflowState
from workflows.models import ApprovalRequest, Cadence, Message
from workflows.services import approvals, delivery, imports, inbound, messages, outcomes, runs
from workflows.services.queue import enqueue

logger = logging.getLogger(__name__)

T = TypeVar("T")
_AT_ONCE = 100


def tick() -> None:
    """Start due runs, wake due messages, expire requests, pick up what lost its worker, seal the trail."""
    now = timezone.now()
    cadences = Cadence.objects.filter(next_run_at__lte=now, workflow__state=WorkflowState.ACTIVE)
    due_messages = Message.objects.filter(next_attempt_at__lte=now, state=MessageState.RELEASED)
    _each("cadence", cadences.order_by("next_run_at").values_list("pk", flat=True), lambda pk: runs.start_due(pk, now))
    _each("message", due_messages.order_by("next_attempt_at"), lambda message: _wake(message, now))
    _each("request", ApprovalRequest.objects.expired(now).values_list("pk", flat=True), approvals.expire)
    _each("request", approvals.due(now).values_list("pk", flat=True), approvals.carry_out_due)
    _each("request", approvals.to_remind(now).values_list("pk", flat=True), approvals.remind)
    _each("run", runs.abandoned(now), lambda run: runs.hand_out_again(run, now))
    _each("delivery", outcomes.abandoned(now), lambda row: outcomes.give_up(row, now))
    _each("channel", delivery.to_probe(now), delivery.resume)
    _each("callback", inbound.left_over(now), lambda event: inbound.handle(event.pk))
    _each("seal", [now], sealing.seal_due)
    _each("receiver", forwarding.due(now), lambda name: _forward(name, now))
    _each("report", reports.due(now), lambda report: reports.start(report, now))
    _each("import", imports.due(now), lambda job: imports.hand_out_again(job, now))
    _each("export", jobs.due(now), lambda export: _prepare(export, now))


def _each(what: str, rows: Iterable[T], act: Callable[[T], object]) -> None:
    """One bad row must not stop the clock for all others; it is told loudly, each time."""
    for row in list(rows[:_AT_ONCE]):  # type: ignore[index]
        try:
            act(row)
        except Exception:
            logger.exception("the clock could not deal with %s %s", what, row)


def _forward(receiver: str, now: datetime) -> None:
    with transaction.atomic(), context.system_acting():
        if forwarding.reserve(receiver, now):
            enqueue("workflows.tasks.forward", receiver)


def _prepare(export: jobs.Job, now: datetime) -> None:
    with transaction.atomic(), jobs.under(export):
        if jobs.reserve(export, now):
            enqueue("workflows.tasks.export", export.pk)


def _wake(message: Message, now: datetime) -> None:
    with (
        transaction.atomic(),
        context.system_acting(request_id=message.request_id, on_behalf_of=message.on_behalf_of),
    ):
        messages.wake(message.pk, now)
