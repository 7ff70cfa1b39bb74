"""Large exports of the trail before a second person, where the policy asks for it (``actions.rules.audit_export``)."""

from audit.export import jobs
from workflows.actions.audit_export import LargeExport
from workflows.domain.errors import StaleContent
from workflows.domain.states import ApprovalState
from workflows.models import ApprovalRequest
from workflows.services import approvals

ACTION = "audit_export"


def register() -> None:
    jobs.put_before_gate(_ask)


def _ask(job: jobs.Job) -> None:
    approvals.request(
        action=ACTION,
        subject=job,
        size=job.rows_expected,
        reason=job.reason,
        requested_by=job.owner,
        authored_by=job.owner,
    )


def _describe(approval: ApprovalRequest) -> LargeExport:
    job = jobs.waiting(int(approval.subject_id))
    if job is None:
        raise StaleContent("the export was cancelled")
    return LargeExport(
        query=job.query,
        form=job.form,
        columns=job.columns,
        rows=job.rows_expected,
        owner=job.owner.get_username(),
    )


def _execute(approval: ApprovalRequest, plain: LargeExport) -> ApprovalState:
    jobs.let_go(int(approval.subject_id))
    return ApprovalState.EXECUTED


approvals.carries_out(
    ACTION,
    approvals.Procedure(
        describe=_describe,
        execute=_execute,
        deny=lambda approval, reason: jobs.refuse(int(approval.subject_id), reason),
        expire=lambda approval: jobs.refuse(int(approval.subject_id), approval.outcome),
        reopen=lambda approval: jobs.refuse(int(approval.subject_id), approval.outcome),
    ),
)
