"""One due instant: collect, curate, compose, put before the gate."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import Outcome, record
from workflows.domain.errors import NotPermitted, WorkflowError, WrongState
from workflows.domain.events import Event
from workflows.domain.states import RUN_ACTIVE, MessageState, RunState
from workflows.models import Cadence, Digest, Run, Workflow
from workflows.services import collecting, digests, messages
from workflows.services.queue import enqueue

# How late a due instant may still begin, when another run of its workflow was in the way or the system was down.
GRACE = timedelta(minutes=5)
# Longer than a queue task may live, so that a live worker is never overtaken.
LEASE = timedelta(seconds=75)
MAX_ATTEMPTS = 3


def start_due(cadence_id: int, now: datetime) -> Run | None:
    """Turn a cadence's due instant into a run, once; None when it has to wait behind another run, or was taken.

    Missed instants are not replayed: they leave one visible ``missed`` row and the rhythm goes on.
    """
    workflow = Workflow.objects.select_related("owner").get(cadences=cadence_id)
    with transaction.atomic(), context.system_acting(on_behalf_of=workflow.owner.get_username()):
        # The workflow first, then its cadence: as runs by hand, activation and edits take them.
        Workflow.objects.select_for_update(no_key=True).get(pk=workflow.pk)
        cadence = Cadence.objects.select_for_update(no_key=True).get(pk=cadence_id)
        cadence.workflow = workflow
        due_at = cadence.next_run_at
        if due_at is None or due_at > now:
            return None
        busy = Run.objects.filter(workflow=cadence.workflow, state__in=sorted(RUN_ACTIVE)).exists()
        late = now - due_at > GRACE
        if busy and not late:
            return None
        # Everything up to now is over: never two instants at once, never a replay.
        Cadence.objects.filter(pk=cadence.pk).update(next_run_at=cadence.rule.next_after(now))
        if Run.objects.filter(run_key=_run_key(cadence.workflow, cadence, due_at)).exists():
            return None  # another clock, or a clock that was set back: this instant has had its run
        if not late:
            return _queue(cadence.workflow, cadence, due_at, cadence.digest_kind, started_by=None)
        why = _("another run was still active") if busy else _("nothing was running to carry it out")
        state, event = (RunState.SKIPPED, Event.RUN_SKIPPED) if busy else (RunState.MISSED, Event.RUN_MISSED)
        run = _create(cadence.workflow, cadence, due_at, cadence.digest_kind, state=state, outcome=why, finished_at=now)
        record(event, target=run, outcome=Outcome.FAILURE, why=why)
        return run


def run_now(*, workflow: Workflow, by: User, digest_kind: str) -> Run:
    """A person starts a run at once, whatever the cadence says."""
    if not by.has_perm("workflows.run_workflow"):
        raise NotPermitted(_("Your role does not include running workflows."))
    with transaction.atomic(), context.acting(by):
        Workflow.objects.select_for_update(no_key=True).get(pk=workflow.pk)
        if Run.objects.filter(workflow=workflow, state__in=sorted(RUN_ACTIVE)).exists():
            raise WrongState(_("This workflow is running already."))
        return _queue(workflow, None, timezone.now(), digest_kind, started_by=by)


def _queue(workflow: Workflow, cadence: Cadence | None, due_at: datetime, kind: str, started_by: User | None) -> Run:
    run = _create(
        workflow,
        cadence,
        due_at,
        kind,
        state=RunState.QUEUED,
        started_by=started_by,
        lease_until=timezone.now() + LEASE,
    )
    record(Event.RUN_QUEUED, target=run)
    enqueue("workflows.tasks.execute_run", run.pk)
    return run


def _run_key(workflow: Workflow, cadence: Cadence | None, due_at: datetime) -> str:
    rhythm = str(cadence.pk) if cadence else f"by-hand-{workflow.pk}"
    return f"{rhythm}@{due_at.isoformat()}"


def _create(workflow: Workflow, cadence: Cadence | None, due_at: datetime, kind: str, **fields: Any) -> Run:
    return Run.objects.create(
        workflow=workflow,
        cadence=cadence,
        run_key=_run_key(workflow, cadence, due_at),
        digest_kind=kind,
        due_at=due_at,
        request_id=context.current().request_id,
        **fields,
    )


def execute(run_id: int) -> None:
    """Carry a queued run out. Every step is idempotent, so a run whose worker died goes on where it stopped."""
    now = timezone.now()
    with transaction.atomic():
        claimed = Run.objects.filter(pk=run_id, state=RunState.QUEUED).update(
            state=RunState.RUNNING, attempts=F("attempts") + 1, started_at=now, lease_until=now + LEASE
        )
        if not claimed:
            return
        run = Run.objects.select_related("workflow__owner", "workflow__audience").get(pk=run_id)
        record(Event.RUN_STARTED, target=run, facts={"attempt": run.attempts})
    # What the run leaves behind is read by the people of its workflow.
    with translation.override(run.workflow.language):
        _carry_out(run)


def _carry_out(run: Run) -> None:
    collected = collecting.collect(list(run.workflow.sources.filter(enabled=True)))
    notes = [result.note for result in collected]
    digest = digests.curate(run)
    if digest is None:
        if collected and not any(result.ok for result in collected):
            _finish(run, RunState.FAILED, _("No source could be read."), notes)
        else:
            _finish(run, RunState.SUCCEEDED, _("Nothing new."), notes)
        return
    try:
        outcome = _submit(run, digest)
    except WorkflowError as error:
        messages.abandon(digest, str(error))
        _finish(run, RunState.FAILED, str(error), notes)
    else:
        _finish(run, RunState.SUCCEEDED, outcome, notes)


def _submit(run: Run, digest: Digest) -> str:
    message = messages.from_digest(digest)
    if message.state == MessageState.DRAFT and not message.gate:  # a draft with a gate was submitted and withdrawn
        message = messages.submit_digest(message, requested_by=run.started_by or run.workflow.owner)
    return _("%(count)d entries; %(gate)s") % {"count": len(digest.content["entries"]), "gate": message.gate}


def _finish(run: Run, state: RunState, outcome: str, notes: list[str]) -> None:
    event = Event.RUN_SUCCEEDED if state == RunState.SUCCEEDED else Event.RUN_FAILED
    with transaction.atomic():
        finished = Run.objects.filter(pk=run.pk, state=RunState.RUNNING, attempts=run.attempts).update(
            state=state, outcome=outcome, notes=notes, finished_at=timezone.now(), lease_until=None
        )
        if finished:
            result = Outcome.SUCCESS if state == RunState.SUCCEEDED else Outcome.FAILURE
            record(event, target=run, outcome=result, why=outcome, facts={"notes": notes})


def abandoned(now: datetime) -> QuerySet[Run]:
    """Runs whose hint was lost or whose worker vanished."""
    return Run.objects.filter(state__in=sorted(RUN_ACTIVE), lease_until__lte=now).select_related("workflow__owner")


def hand_out_again(run: Run, now: datetime) -> None:
    """A bounded number of times, as far as workers began with it."""
    owner = run.workflow.owner.get_username()
    with transaction.atomic(), context.system_acting(request_id=run.request_id, on_behalf_of=owner):
        if run.attempts >= MAX_ATTEMPTS:
            _give_up(run, now)
            return
        again = Run.objects.filter(pk=run.pk, lease_until=run.lease_until).update(
            state=RunState.QUEUED, lease_until=now + LEASE
        )
        if again:
            record(Event.RUN_QUEUED, target=run, why=_("no worker had finished it"))
            enqueue("workflows.tasks.execute_run", run.pk)


def _give_up(run: Run, now: datetime) -> None:
    why = _("its worker stopped %(count)d times") % {"count": run.attempts}
    gone = Run.objects.filter(pk=run.pk, lease_until=run.lease_until).update(
        state=RunState.FAILED, outcome=why, finished_at=now, lease_until=None
    )
    if gone:
        record(Event.RUN_FAILED, target=run, outcome=Outcome.FAILURE, why=why)
