"""One tick: find what is due and hand it on. Cheap when nothing is, harmless when two do it at once."""

import logging
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import context, sealing
from workflows.domain.states import MessageState, WorkflowState
from workflows.models import Cadence, Message
from workflows.services import approvals, delivery, messages, runs

logger = logging.getLogger(__name__)


def tick() -> None:
    """Start due runs, wake due messages, expire requests, pick up what lost its worker, seal the trail."""
    now = timezone.now()
    _start_due_runs(now)
    _wake_due_messages(now)
    with context.system_acting():
        approvals.expire_due(now)
    runs.sweep(now)
    delivery.sweep(now)
    sealing.seal_due(now)


def _start_due_runs(now: datetime) -> None:
    due = Cadence.objects.filter(next_run_at__lte=now, workflow__state=WorkflowState.ACTIVE)
    for pk in list(due.order_by("next_run_at").values_list("pk", flat=True)[:100]):
        try:
            runs.start_due(pk, now)
        except IntegrityError:
            # The unique run key: another clock was faster, which is all that the key is for.
            logger.info("cadence %s: its due instant was taken by another clock", pk)


def _wake_due_messages(now: datetime) -> None:
    due = Message.objects.filter(next_attempt_at__lte=now, state=MessageState.RELEASED)
    for message in list(due.order_by("next_attempt_at")[:100]):
        with (
            transaction.atomic(),
            context.system_acting(request_id=message.request_id, on_behalf_of=message.on_behalf_of),
        ):
            messages.wake(message.pk, now)
