"""Workflows in and out of service, and when they run next."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import record
from workflows.domain.changes import Change
from workflows.domain.errors import Invalid, NotPermitted
from workflows.domain.events import Event
from workflows.domain.states import WorkflowState
from workflows.models import Cadence, Workflow
from workflows.services import changes, configuration
from workflows.services.reasons import clean_reason


def activate(*, workflow: Workflow, by: User, reason: str) -> None:
    """Put a workflow into service. Raises Invalid naming what it still lacks."""
    _require_right(by)
    if not workflow.sources.filter(enabled=True).exists():
        raise Invalid(_("The workflow has no source that is switched on."), field="sources")
    if workflow.audience is None or not workflow.audience.members.exists():
        raise Invalid(_("The workflow has no audience with members."), field="audience")
    with transaction.atomic(), context.acting(by), changes.under_approval(by=by, reason=reason):
        _move(workflow, WorkflowState.ACTIVE, clean_reason(reason))


def pause(*, workflow: Workflow, by: User, reason: str) -> None:
    _require_right(by)
    with transaction.atomic(), context.acting(by):
        _move(workflow, WorkflowState.PAUSED, clean_reason(reason))


def _move(workflow: Workflow, state: WorkflowState, why: str) -> None:
    workflow.state = state
    workflow.save(update_fields=["state"])
    plan(workflow)
    configuration.note(workflow)
    record(_EVENT_OF[state], target=workflow, why=why)


def _after_change(change: Change, workflow: Any) -> None:
    """An approved change was written: the due rows follow it, and a new state is on the trail as such."""
    plan(workflow)
    if "state" in change.fields and workflow.state in _EVENT_OF:
        record(_EVENT_OF[workflow.state], target=workflow)


_EVENT_OF: Mapping[str, Event] = {
    WorkflowState.ACTIVE: Event.WORKFLOW_ACTIVATED,
    WorkflowState.PAUSED: Event.WORKFLOW_PAUSED,
}
changes.afterwards(Workflow, _after_change)
changes.afterwards(Cadence, lambda change, cadence: plan(cadence.workflow))  # type: ignore[attr-defined]


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
