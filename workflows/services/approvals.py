"""Four eyes: asking, deciding, withdrawing, expiring. Every risky action goes through here."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, story
from audit.recorder import Outcome, record
from workflows import actions
from workflows.domain.canonical import digest as digest_of
from workflows.domain.errors import (
    AlreadyDecided,
    Expired,
    FourEyesViolation,
    NotPermitted,
    ReasonRequired,
    StaleContent,
    WorkflowError,
)
from workflows.domain.events import Event
from workflows.domain.states import APPROVAL_TRANSITIONS, ApprovalState, Verdict, allowed_from
from workflows.models import ApprovalDecision, ApprovalRequest
from workflows.services.reasons import clean_reason

EXPIRES_AFTER: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """How one action is carried out on its subject; each step runs inside the deciding transaction.

    ``describe`` gives the action's plain subject as it is now; it may raise StaleContent when that is impossible.
    ``execute`` gets the very subject whose digest was compared with what was shown.
    """

    describe: Callable[[str], Any]
    execute: Callable[[str, Any], None]
    deny: Callable[[str, str], None]
    expire: Callable[[str], None]
    reopen: Callable[[str], None]


_procedures: dict[str, Procedure] = {}


def carries_out(action: str, procedure: Procedure) -> None:
    """Declare how ``action`` is carried out. An action without a procedure cannot be requested."""
    _procedures[action] = procedure


def request(
    *,
    action: str,
    subject: models.Model,
    size: int | None,
    reason: str,
    requested_by: User,
    authored_by: User,
) -> ApprovalRequest:
    """Ask for a second person. Call it inside the transaction that puts the subject on hold."""
    procedure, kind = _procedures[action], actions.registry.get(action)
    plain = procedure.describe(str(subject.pk))
    now = timezone.now()
    approval = ApprovalRequest.objects.create(
        action=action,
        subject_type=subject._meta.label_lower,
        subject_id=str(subject.pk),
        subject_label=str(subject)[:200],
        content_digest=kind.content_digest(plain),
        preview=kind.preview(plain),
        size=size,
        requested_by=requested_by,
        authored_by=authored_by,
        reason=reason,
        requested_at=now,
        expires_at=now + EXPIRES_AFTER,
        request_id=context.current().request_id,
    )
    record(
        Event.APPROVAL_REQUESTED,
        target=approval,
        why=reason,
        facts={"action": action, "content_digest": approval.content_digest, "people": size},
    )
    return approval


def view(*, approval: ApprovalRequest, by: User) -> None:
    """Put on the trail that somebody looked at what is to be decided."""
    with transaction.atomic(), context.acting(by, parent_event_id=asked_by_event(approval.pk)):
        record(Event.APPROVAL_VIEWED, target=approval)


def asked_by_event(approval_id: int) -> uuid.UUID | None:
    """The event that everything about a request follows from: it joins their stories."""
    return story.latest(Event.APPROVAL_REQUESTED, ApprovalRequest(pk=approval_id))


def why_barred(approval: ApprovalRequest, user: User) -> WorkflowError | None:
    """Why this person cannot decide this request; None when nothing about the person stands in the way."""
    if not user.has_perm("workflows.decide_approvalrequest"):
        return NotPermitted(_("Your role does not include deciding on requests."))
    if user.pk == approval.requested_by_id:
        return FourEyesViolation(_("You asked for this yourself; a second person has to decide."))
    if user.pk == approval.authored_by_id:
        return FourEyesViolation(_("You wrote this yourself; a second person has to decide."))
    return None


def is_what_was_asked(approval: ApprovalRequest) -> bool:
    """Whether the stored preview is the one that the request is bound to; whoever owns the database could swap it."""
    return digest_of(approval.preview) == approval.content_digest


def decide(*, approval_id: int, verdict: Verdict, by: User, reason: str) -> ApprovalRequest:
    """Record one person's verdict and, when it settles the matter, carry the action out: once.

    Whoever holds the row's lock first decides; everybody after gets AlreadyDecided. Raises a WorkflowError with a
    sentence for the person; a refusal is on the trail too.
    """
    reason = clean_reason(reason)
    with transaction.atomic(), context.acting(by, parent_event_id=asked_by_event(approval_id)):
        approval = ApprovalRequest.objects.select_for_update(of=("self",)).get(pk=approval_id)
        try:
            _check(approval, verdict, by, reason)
            plain = _as_shown(approval) if verdict == Verdict.APPROVE else None
        except WorkflowError as error:
            problem = error
            facts = {"verdict": verdict.value, "code": error.code}
            record(Event.APPROVAL_REFUSED, target=approval, outcome=Outcome.REFUSED, why=str(error), facts=facts)
        else:
            _decide(approval, verdict, by, reason, plain)
            return approval
    raise problem  # after the commit, so that the refusal itself stays recorded


def _check(approval: ApprovalRequest, verdict: Verdict, by: User, reason: str) -> None:
    if barred := why_barred(approval, by):
        raise barred
    if approval.decisions.filter(decided_by=by).exists():
        raise AlreadyDecided(_("You have already decided on this request."))
    if approval.state != ApprovalState.PENDING:
        raise AlreadyDecided(_describe_closed(approval))
    if approval.expires_at <= timezone.now():
        cause = context.current()
        with context.system_acting(request_id=cause.request_id, parent_event_id=cause.parent_event_id):
            _expire(approval)  # time did it, not the person who came too late
        raise Expired(_("This request has expired; nothing was sent."))
    if verdict == Verdict.DENY and not reason:
        raise ReasonRequired(_("Say why you deny it: the requester has to be able to mend it."))


def _describe_closed(approval: ApprovalRequest) -> str:
    last = approval.decisions.select_related("decided_by").last()
    if last is None:
        return _("This request is already closed: %(state)s.") % {"state": approval.get_state_display()}
    return _("%(who)s was faster: this request is %(state)s.") % {
        "who": last.decided_by.get_username(),
        "state": approval.get_state_display(),
    }


def _as_shown(approval: ApprovalRequest) -> Any:
    """The subject as it is now, if that is what was shown; else the request is void and StaleContent raised."""
    try:
        if not is_what_was_asked(approval):
            raise StaleContent(_("the preview is not what was asked for"))
        plain = _procedures[approval.action].describe(approval.subject_id)
        if actions.registry.get(approval.action).content_digest(plain) == approval.content_digest:
            return plain
        why = _("what would be sent now differs from what was shown")
    except StaleContent as error:
        why = str(error)
    with transaction.atomic():
        _close(approval, ApprovalState.VOID, Event.APPROVAL_VOIDED, why)
        _procedures[approval.action].reopen(approval.subject_id)
    raise StaleContent(_("Not approved: %(why)s. It is a draft again and can be submitted anew.") % {"why": why})


def _decide(approval: ApprovalRequest, verdict: Verdict, by: User, reason: str, plain: Any) -> None:
    ApprovalDecision.objects.create(
        request=approval,
        decided_by=by,
        verdict=verdict,
        reason=reason,
        decided_at=timezone.now(),
        content_digest=approval.content_digest,
        ip=context.current().ip,
    )
    event = Event.APPROVAL_GRANTED if verdict == Verdict.APPROVE else Event.APPROVAL_DENIED
    record(event, target=approval, why=reason, facts={"content_digest": approval.content_digest})
    procedure = _procedures[approval.action]
    if verdict == Verdict.DENY:
        _move(approval, ApprovalState.DENIED, reason)
        procedure.deny(approval.subject_id, reason)
    elif approval.decisions.filter(verdict=Verdict.APPROVE).count() >= approval.quorum:
        _move(approval, ApprovalState.APPROVED, "")
        procedure.execute(approval.subject_id, plain)
        _move(approval, ApprovalState.EXECUTED, "")
        record(Event.APPROVAL_EXECUTED, target=approval)


def withdraw(*, approval_id: int, by: User, reason: str) -> None:
    """The requester or the author takes a pending request back; its subject is a draft again."""
    reason = clean_reason(reason)
    with transaction.atomic(), context.acting(by, parent_event_id=asked_by_event(approval_id)):
        approval = ApprovalRequest.objects.select_for_update(of=("self",)).get(pk=approval_id)
        if by.pk not in {approval.requested_by_id, approval.authored_by_id}:
            raise NotPermitted(_("Only the requester or the author can withdraw a request."))
        if approval.state != ApprovalState.PENDING:
            raise AlreadyDecided(_describe_closed(approval))
        _close(approval, ApprovalState.WITHDRAWN, Event.APPROVAL_WITHDRAWN, reason)
        _procedures[approval.action].reopen(approval.subject_id)


def expire(approval_id: int) -> None:
    """Close a request that nobody decided in time: it fails closed."""
    with transaction.atomic(), context.system_acting(parent_event_id=asked_by_event(approval_id)):
        approval = ApprovalRequest.objects.select_for_update(of=("self",)).get(pk=approval_id)
        if approval.state == ApprovalState.PENDING:
            _expire(approval)


@transaction.atomic
def _expire(approval: ApprovalRequest) -> None:
    _close(approval, ApprovalState.EXPIRED, Event.APPROVAL_EXPIRED, _("nobody decided in time"))
    _procedures[approval.action].expire(approval.subject_id)


def _close(approval: ApprovalRequest, state: ApprovalState, event: Event, why: str) -> None:
    _move(approval, state, why)
    record(event, target=approval, why=why)


def _move(approval: ApprovalRequest, state: ApprovalState, outcome: str) -> None:
    """The conditional UPDATE that settles every race, whatever happened to the lock."""
    now = timezone.now()
    moved = ApprovalRequest.objects.filter(pk=approval.pk, state__in=allowed_from(APPROVAL_TRANSITIONS, state)).update(
        state=state, closed_at=now, outcome=outcome[:300]
    )
    if moved != 1:
        raise AlreadyDecided(_("This request was decided at the same moment by someone else."))
    approval.state, approval.closed_at, approval.outcome = state, now, outcome[:300]
