"""Workflows in and out of service, and when they run next."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import record
from workflows.domain.errors import Invalid, NotPermitted
from workflows.domain.events import Event
from workflows.domain.states import WorkflowState
from workflows.models import Cadence, Workflow
from workflows.services.reasons import clean_reason


def activate(*, workflow: Workflow, by: User, reason: str) -> None:
    """Put a workflow into service. Raises Invalid naming what it still lacks."""
    _require_right(by)
    if not workflow.sources.filter(enabled=True).exists():
        raise Invalid(_("The workflow has no source that is switched on."), field="sources")
    if workflow.audience is None or not workflow.audience.members.exists():
        raise Invalid(_("The workflow has no audience with members."), field="audience")
    with transaction.atomic(), context.acting(by):
        Workflow.objects.filter(pk=workflow.pk).update(state=WorkflowState.ACTIVE)
        workflow.state = WorkflowState.ACTIVE
        plan(workflow)
        record(Event.WORKFLOW_ACTIVATED, target=workflow, why=clean_reason(reason))


def pause(*, workflow: Workflow, by: User, reason: str) -> None:
    _require_right(by)
    with transaction.atomic(), context.acting(by):
        Workflow.objects.filter(pk=workflow.pk).update(state=WorkflowState.PAUSED)
        workflow.state = WorkflowState.PAUSED
        plan(workflow)
        record(Event.WORKFLOW_PAUSED, target=workflow, why=clean_reason(reason))


def plan(workflow: Workflow) -> None:
    """Set the due rows anew: after activation, a pause, or an edit of the cadences or the time zone.

    An instant that is due already is left to the clock, which carries it out or tells that it was missed.
    """
    now = timezone.now()
    for cadence in workflow.cadences.all():
        cadence.workflow = workflow
        runs = workflow.state == WorkflowState.ACTIVE and cadence.enabled
        if runs and cadence.next_run_at is not None and cadence.next_run_at <= now:
            continue
        Cadence.objects.filter(pk=cadence.pk).update(next_run_at=cadence.rule.next_after(now) if runs else None)


def upcoming(cadences: list[Cadence], now: datetime, count: int) -> list[tuple[datetime, Cadence]]:
    """The next ``count`` occurrences over all these cadences, soonest first."""
    occurrences = [(instant, cadence) for cadence in cadences for instant in cadence.rule.upcoming(now, count)]
    return sorted(occurrences, key=lambda occurrence: occurrence[0])[:count]


def _require_right(by: User) -> None:
    if not by.has_perm("workflows.run_workflow"):
        raise NotPermitted(_("Your role does not include running workflows."))
