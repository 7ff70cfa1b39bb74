"""Files of members: checked as a whole, shown, confirmed, and then written as a whole or not at all.

What a change of each member by itself would need - a second person, where an active workflow speaks to the audience or
many are removed - the file needs as one request. It is judged by the same rules, and again when it is written.
"""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import Outcome, record
from compliance_bot.guardrails import policy
from workflows.actions import ChangeAction
from workflows.actions.member_import import Import, MemberImportAction
from workflows.domain.changes import Change
from workflows.domain.errors import Invalid, NotPermitted, ReasonRequired, StaleContent, WorkflowError, WrongState
from workflows.domain.events import Event
from workflows.domain.states import IMPORT_TRANSITIONS, ApprovalState, ImportState, allowed_from
from workflows.domain.text import strip_invisible
from workflows.models import ApprovalRequest, Audience, AudienceMember, MemberImport, Snapshot
from workflows.services import approvals, changes, configuration, import_plans, member_files, rows
from workflows.services.import_plans import Plan
from workflows.services.member_files import Reading
from workflows.services.queue import enqueue
from workflows.services.reasons import clean_reason

ACTION: Final = MemberImportAction.kind
# More rows than this are written by a worker, while a page tells how far it is.
AT_ONCE: Final = 1_000
_RIGHTS = ("change_audience", "add_audiencemember", "change_audiencemember", "delete_audiencemember")
_MOST_ATTEMPTS = 3
# A worker that was asked has this long before another is asked: longer than a queue task may live.
_HINT_LASTS = timedelta(seconds=75)


class Unusable(Invalid):
    """Some lines of the file are wrong; ``reading`` knows which, and why."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(_("Nothing was imported: mend the lines below and upload the file again."), field="file")
        self.reading = reading


# Checking


def may_import(by: User) -> bool:
    return by.has_perms([f"workflows.{right}" for right in _RIGHTS])


def upload(*, audience: Audience, name: str, content: bytes, mode: str, by: User) -> MemberImport:
    """Check a file and keep it until it is confirmed. Raises Unusable, Invalid; then nothing is kept."""
    if not may_import(by):
        raise NotPermitted(_("Your role does not include importing members."))
    reading = member_files.read(content)
    if reading.problems:
        raise Unusable(reading)
    plan = import_plans.compare(audience, mode, reading)
    if plan.size == 0:
        raise Invalid(_("Nothing would change: the audience is as the file says."), field="file")
    with transaction.atomic(), context.acting(by):
        job = MemberImport.objects.create(
            audience=audience,
            mode=mode,
            file_name=strip_invisible(name)[-120:],
            sha256=hashlib.sha256(content).hexdigest(),
            content=content,
            rows=len(reading.members),
            **plan.counts,
            first=plan.first,
            plan_sha256=plan.digest,
            uploaded_by=by,
            uploaded_at=timezone.now(),
        )
        record(Event.AUDIENCE_FILE_CHECKED, target=audience, facts=_facts(job))
    return job


def _facts(job: MemberImport) -> dict[str, Any]:
    counts = {name: getattr(job, name) for name in ("rows", "added", "changed", "removed", "unchanged")}
    return {"import": job.pk, "file": job.file_name, "sha256": job.sha256, "mode": job.mode, **counts}


# Confirming


def confirm(*, import_id: int, by: User, reason: str) -> MemberImport:
    """Whoever uploaded it has seen what it does: it is written, handed to a worker, or put before a second person."""
    if not may_import(by):
        raise NotPermitted(_("Your role does not include importing members."))
    reason = clean_reason(reason)
    if not reason:
        raise ReasonRequired(_("Say why: the trail keeps it, and whoever decides has to be able to judge it."))
    with policy.pinned(), transaction.atomic(), context.acting(by):
        job = _locked(import_id)
        if job.uploaded_by_id != by.pk:
            raise NotPermitted(_("Only who uploaded a file confirms it."))
        job.reason, job.request_id = reason, context.current().request_id
        plan = import_plans.as_shown(job, member_files.read(bytes(job.content)))
        MemberImport.objects.filter(pk=job.pk).update(reason=reason, request_id=job.request_id)
        record(Event.AUDIENCE_IMPORT_CONFIRMED, target=job.audience, why=reason, facts=_facts(job))
        if kinds := changes.needing_approval(import_plans.as_changes(plan, by)):
            _ask(job, plan, kinds)
        elif job.rows <= AT_ONCE:
            _move(job, ImportState.APPLIED)
            _write(job, plan)
        else:
            _queue(job)
    return job


def _queue(job: MemberImport) -> None:
    _move(job, ImportState.QUEUED, next_attempt_at=timezone.now() + _HINT_LASTS)
    enqueue("workflows.tasks.import_members", job.pk)


# Before a second person


def _ask(job: MemberImport, plan: Plan, kinds: Sequence[ChangeAction]) -> None:
    _move(job, ImportState.WAITING)
    approvals.request(
        action=ACTION,
        subject=job,
        size=plan.size,
        reason=job.reason,
        requested_by=job.uploaded_by,
        authored_by=job.uploaded_by,
        rule=changes.strictest([policy.current().actions.rule(kind.kind) for kind in kinds]),
    )


def _describe(approval: ApprovalRequest) -> Import:
    waiting = MemberImport.objects.filter(pk=approval.subject_id, state=ImportState.WAITING)
    job = waiting.select_related("audience").first()
    if job is None:
        raise StaleContent(_("the import is gone"))
    plan = import_plans.as_shown(job, member_files.read(bytes(job.content)))
    return Import(
        audience=job.audience.name,
        workflows=list(import_plans.workflows_in_service(job.audience).values_list("name", flat=True)),
        file=job.file_name,
        sha256=job.sha256,
        mode=job.mode,
        **plan.counts,
        first=plan.first,
        plan_sha256=plan.digest,
    )


def _execute(approval: ApprovalRequest, plain: Import) -> ApprovalState:
    """A worker writes it; that ends the request."""
    _queue(_locked(int(approval.subject_id)))
    return ApprovalState.EXECUTING


def _refuse(approval: ApprovalRequest, why: str) -> None:
    job = MemberImport.objects.filter(pk=approval.subject_id, state=ImportState.WAITING).first()
    if job is not None:
        _fail(job, _("Not approved: %(why)s") % {"why": why})


def _come_to_nothing(approval: ApprovalRequest) -> None:
    _refuse(approval, approval.outcome)


approvals.carries_out(
    ACTION,
    approvals.Procedure(
        describe=_describe, execute=_execute, deny=_refuse, expire=_come_to_nothing, reopen=_come_to_nothing
    ),
)


# Writing


def due(now: datetime) -> QuerySet[MemberImport]:
    """Whose worker was never asked, or vanished."""
    late = MemberImport.objects.filter(state=ImportState.QUEUED, next_attempt_at__lte=now)
    return late.select_related("uploaded_by").defer("content").order_by("pk")


def hand_out_again(job: MemberImport, now: datetime) -> None:
    with transaction.atomic(), _under(job):
        same = MemberImport.objects.filter(pk=job.pk, state=ImportState.QUEUED, next_attempt_at=job.next_attempt_at)
        if same.update(next_attempt_at=now + _HINT_LASTS):
            enqueue("workflows.tasks.import_members", job.pk)


def work(import_id: int) -> None:
    """Check the file once more, telling how far it is, and write it. A doubled hint finds that it is done."""
    job = MemberImport.objects.select_related("uploaded_by").filter(pk=import_id, state=ImportState.QUEUED).first()
    if job is None:
        return
    same = MemberImport.objects.filter(pk=import_id, state=ImportState.QUEUED)
    same.update(attempts=F("attempts") + 1, next_attempt_at=timezone.now() + _HINT_LASTS)
    with _under(job):
        try:
            if job.attempts >= _MOST_ATTEMPTS:
                raise WrongState(_("It was begun too often and never finished: the server's log says why."))
            reading = member_files.read(bytes(job.content), lambda done: _tell(import_id, done))
            _finish(import_id, reading)
        except WorkflowError as error:
            with transaction.atomic():
                _fail(job, str(error))
                approvals.finish(job, ApprovalState.FAILED, str(error))


def _tell(import_id: int, done: int) -> None:
    """How far a worker is, for the page that waits."""
    MemberImport.objects.filter(pk=import_id).update(progress=done)


@transaction.atomic
def _finish(import_id: int, reading: Reading) -> None:
    job = _locked(import_id)
    if job.state != ImportState.QUEUED:
        return  # another worker was faster
    plan = import_plans.as_shown(job, reading)
    request = _approved(job, plan)
    if request is None and changes.needing_approval(import_plans.as_changes(plan, job.uploaded_by)):
        raise NotPermitted(_("This needs a second person by now: upload the file again."))
    _move(job, ImportState.APPLIED)
    _write(job, plan)
    if request is not None and plan.size <= changes.MOST:
        _keep_snapshot(request, plan)
    approvals.finish(job, ApprovalState.EXECUTED, "")


def _approved(job: MemberImport, plan: Plan) -> ApprovalRequest | None:
    """The request by which somebody approved the very rows that would be written."""
    return ApprovalRequest.objects.filter(
        action=ACTION,
        subject_type=MemberImport._meta.label_lower,
        subject_id=str(job.pk),
        state=ApprovalState.EXECUTING,
        preview__plan_sha256=plan.digest,
    ).first()


def _keep_snapshot(request: ApprovalRequest, plan: Plan) -> None:
    """The way back, as after any approved change; more rows than a request can show go back by a file."""
    before = [*plan.removed, *(before for before, _after in plan.changed)]
    Snapshot.objects.create(
        request=request,
        taken_at=timezone.now(),
        before=[asdict(_was(member)) for member in before],
        created=[[AudienceMember._meta.label_lower, member.pk] for member in plan.added],
    )


def _was(member: AudienceMember) -> Change:
    label = AudienceMember._meta.label_lower
    return Change(model=label, key=member.pk, label=str(member), before=rows.of(member), after=None)


def _write(job: MemberImport, plan: Plan) -> None:
    """All of it in a few statements. They announce nothing to the watch of changes: the gate was asked before."""
    written = [*plan.added, *(after for _before, after in plan.changed)]
    for member in written:
        member.audience = job.audience
    AudienceMember.objects.bulk_create(
        written,
        batch_size=1_000,
        update_conflicts=True,
        unique_fields=["audience", "channel", "address"],
        update_fields=import_plans.WRITTEN,
    )
    gone = [member.pk for member in plan.removed]
    for start in range(0, len(gone), 1_000):
        batch = AudienceMember.objects.filter(pk__in=gone[start : start + 1_000])
        batch._raw_delete(batch.db)
    facts, first = _facts(job), {"first": plan.first}
    record(Event.AUDIENCE_IMPORTED, target=job.audience, why=job.reason, facts=facts, erasable=first)
    configuration.note_affected([import_plans.whole(job.audience)])


def _fail(job: MemberImport, why: str) -> None:
    with transaction.atomic():
        _move(job, ImportState.FAILED, problem=why[:300])
        facts = _facts(job)
        record(Event.AUDIENCE_IMPORT_FAILED, target=job.audience, outcome=Outcome.FAILURE, why=why, facts=facts)


def _locked(import_id: int) -> MemberImport:
    jobs = MemberImport.objects.select_related("audience", "uploaded_by")
    return jobs.select_for_update(of=("self", "audience"), no_key=True).get(pk=import_id)


def _move(job: MemberImport, state: ImportState, **fields: Any) -> None:
    """The conditional UPDATE that settles every race. What is closed keeps its counts, not its file."""
    if not IMPORT_TRANSITIONS[state]:
        fields |= {"finished_at": timezone.now(), "content": b"", "first": [], "next_attempt_at": None}
    moved = MemberImport.objects.filter(pk=job.pk, state__in=allowed_from(IMPORT_TRANSITIONS, state))
    if moved.update(state=state, **fields) != 1:
        raise WrongState(_("This import has moved on meanwhile."))
    job.state = state


def _under(job: MemberImport) -> AbstractContextManager[context.Cause]:
    """Whatever a worker does follows from who confirmed it."""
    return context.system_acting(request_id=job.request_id, on_behalf_of=job.uploaded_by.get_username())
