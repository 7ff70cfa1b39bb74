"""Four eyes: asking, deciding, carrying out, breaking the glass. Every risky action goes through here."""

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from django.contrib.auth.models import User
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, story
from audit.recorder import Outcome, record
from compliance_bot.guardrails import policy
from compliance_bot.guardrails.policy import Rule
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
    WrongState,
)
from workflows.domain.events import Event
from workflows.domain.states import (
    APPROVAL_OPEN,
    APPROVAL_TRANSITIONS,
    ApprovalState,
    Verdict,
    allowed_from,
)
from workflows.models import ApprovalDecision, ApprovalRequest
from workflows.services.queue import enqueue
from workflows.services.reasons import clean_reason

logger = logging.getLogger(__name__)

# Whoever acts alone says more than "urgent".
GLASS_REASON_LENGTH: Final = 20
_LINKED = (
    *(ApprovalState.DENIED, ApprovalState.EXPIRED, ApprovalState.WITHDRAWN, ApprovalState.SUPERSEDED),
    *(ApprovalState.VOID, ApprovalState.FAILED),
)


def _nothing(approval: ApprovalRequest) -> None:
    """For actions that hold nothing back while they wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """How one action is carried out; each step runs inside the transaction that moves the request.

    ``describe`` gives the action's plain subject as it is now; it raises StaleContent where that is impossible.
    ``execute`` gets the very subject whose digest was compared with what was shown, and returns EXECUTED, or EXECUTING
    where the work goes on: then somebody calls ``finish``. A WorkflowError undoes it, and the request has failed.
    """

    describe: Callable[[ApprovalRequest], Any]
    execute: Callable[[ApprovalRequest, Any], ApprovalState]
    deny: Callable[[ApprovalRequest, str], None] = lambda approval, reason: None
    expire: Callable[[ApprovalRequest], None] = _nothing
    reopen: Callable[[ApprovalRequest], None] = _nothing


_procedures: dict[str, Procedure] = {}


def carries_out(action: str, procedure: Procedure) -> None:
    """Declare how ``action`` is carried out. An action without a procedure cannot be requested."""
    _procedures[action] = procedure


# Asking


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a request is about: at most one request at a time is open for it."""

    type: str
    id: str
    label: str

    @classmethod
    def of(cls, row: models.Model) -> Self:
        return cls(type=row._meta.label_lower, id=str(row.pk), label=str(row)[:200])


def request(
    *,
    action: str,
    subject: models.Model | Subject,
    size: int | None,
    reason: str,
    requested_by: User,
    authored_by: User,
    payload: Mapping[str, Any] | None = None,
    barred: Iterable[int] = (),
    rule: Rule | None = None,
    previous: ApprovalRequest | None = None,
) -> ApprovalRequest:
    """Ask for a second person. Call it inside the transaction that puts the subject on hold.

    ``payload`` is what execution needs and nobody is shown; the digest has to cover it. ``barred``: accounts that this
    is about. ``rule``: where it is not the action's own. An older request for the same subject that still waits for a
    person is superseded; one that did not come to its end is linked.
    """
    about = subject if isinstance(subject, Subject) else Subject.of(subject)
    rule, now = rule or policy.current().actions.rule(action), timezone.now()
    expires_at = now + timedelta(hours=rule.expires_after_hours)
    approval = ApprovalRequest(
        action=action,
        subject_type=about.type,
        subject_id=about.id,
        subject_label=about.label[:200],
        payload=payload or {},
        size=size,
        requested_by=requested_by,
        authored_by=authored_by,
        reason=reason,
        requested_at=now,
        expires_at=expires_at,
        quorum=_quorum(rule, size),
        eligible_group=rule.group,
        barred=sorted(set(barred)),
        reason_to_approve=rule.reason_to_approve,
        delay_minutes=rule.delay_minutes,
        business_hours_only=rule.business_hours_only,
        remind_at=max(now, expires_at - timedelta(minutes=rule.remind_before_minutes)),
        escalate_to=rule.escalate_to,
        request_id=context.current().request_id,
    )
    kind = actions.registry.get(action)
    plain = _procedures[action].describe(approval)
    approval.content_digest, approval.preview = kind.content_digest(plain), kind.preview(plain)
    approval.previous = previous or _replaced(approval)
    approval.save(force_insert=True)
    record(
        Event.APPROVAL_REQUESTED,
        target=approval,
        why=reason,
        facts={"action": action, "content_digest": approval.content_digest, "size": size, "quorum": approval.quorum},
    )
    enqueue("workflows.tasks.ask_officers", approval.pk)
    return approval


def _quorum(rule: Rule, size: int | None) -> int:
    """What nobody can count is large."""
    limit = rule.second_approval_above
    return rule.quorum + int(limit is not None and (size is None or size > limit))


def _replaced(approval: ApprovalRequest) -> ApprovalRequest | None:
    """The request before this one about the same subject, if it came to nothing; superseded if it still waits."""
    same = ApprovalRequest.objects.filter(
        action=approval.action, subject_type=approval.subject_type, subject_id=approval.subject_id
    )
    last = same.select_for_update(of=("self",)).order_by("-pk").first()
    if last is not None and last.state == ApprovalState.APPROVED:
        raise WrongState(
            _("Request %(number)s is approved and waits for its hour; stop it first.") % {"number": last.pk}
        )
    if last is not None and last.state == ApprovalState.PENDING:
        _close(last, ApprovalState.SUPERSEDED, Event.APPROVAL_SUPERSEDED, approval.reason)
        _procedures[last.action].reopen(last)
    return last if last is not None and last.state in _LINKED else None


def view(*, approval: ApprovalRequest, by: User) -> None:
    """Put on the trail that somebody looked at what is to be decided."""
    with transaction.atomic(), context.acting(by, parent_event_id=asked_by_event(approval.pk)):
        record(Event.APPROVAL_VIEWED, target=approval)


def asked_by_event(approval_id: int) -> uuid.UUID | None:
    """The event that everything about a request follows from: it joins their stories."""
    return story.latest(Event.APPROVAL_REQUESTED, ApprovalRequest(pk=approval_id))


# Deciding


def why_barred(approval: ApprovalRequest, user: User) -> WorkflowError | None:
    """Why this person cannot decide this request; None when nothing about the person stands in the way."""
    if not user.has_perm("workflows.decide_approvalrequest"):
        return NotPermitted(_("Your role does not include deciding on requests."))
    if user.pk == approval.requested_by_id:
        return FourEyesViolation(_("You asked for this yourself; a second person has to decide."))
    if user.pk == approval.authored_by_id:
        return FourEyesViolation(_("You wrote this yourself; a second person has to decide."))
    if user.pk in approval.barred:
        return FourEyesViolation(_("This is about your own account; somebody else has to decide."))
    groups = deciding_groups(approval)
    if groups and not user.groups.filter(name__in=groups).exists():
        named = {"groups": ", ".join(groups)}
        return NotPermitted(_("Only members of %(groups)s decide on this.") % named)
    return None


def deciding_groups(approval: ApprovalRequest) -> list[str]:
    """The groups whose members may decide; empty: everybody whose role includes deciding."""
    if not approval.eligible_group:
        return []
    widened = [approval.escalate_to] if approval.escalate_to and approval.escalated_at else []
    return [approval.eligible_group, *widened]


def eligible(approval: ApprovalRequest) -> list[User]:
    """Everybody who could decide this request now, by name."""
    return [person for person in deciders() if why_barred(approval, person) is None]


def deciders() -> models.QuerySet[User]:
    """Everybody whose role includes deciding, by name."""
    people = User.objects.with_perm(
        "workflows.decide_approvalrequest", backend="django.contrib.auth.backends.ModelBackend"
    )
    return people.order_by("username")


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
        approval = _locked(approval_id)
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


def _locked(approval_id: int) -> ApprovalRequest:
    return ApprovalRequest.objects.select_for_update(of=("self",)).get(pk=approval_id)


def _check(approval: ApprovalRequest, verdict: Verdict, by: User, reason: str) -> None:
    if barred := why_barred(approval, by):
        raise barred
    if approval.decisions.filter(decided_by=by).exists():
        raise AlreadyDecided(_("You have already decided on this request."))
    _require_pending(approval)
    if verdict == Verdict.DENY and not reason:
        raise ReasonRequired(_("Say why you deny it: the requester has to be able to mend it."))
    if approval.reason_to_approve and not reason:
        raise ReasonRequired(_("Say why you approve it: the policy asks for a reason."))


def _require_pending(approval: ApprovalRequest) -> None:
    if approval.state != ApprovalState.PENDING:
        raise AlreadyDecided(_describe_closed(approval))
    if approval.expires_at <= timezone.now():
        cause = context.current()
        with context.system_acting(request_id=cause.request_id, parent_event_id=cause.parent_event_id):
            _expire(approval)  # time did it, not the person who came too late
        raise Expired(_("This request has expired; nothing was done."))


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
        plain = _procedures[approval.action].describe(approval)
        if actions.registry.get(approval.action).content_digest(plain) == approval.content_digest:
            return plain
        why = _("what would be done now differs from what was shown")
    except StaleContent as error:
        why = str(error)
    with transaction.atomic():
        _close(approval, ApprovalState.VOID, Event.APPROVAL_VOIDED, why)
        _procedures[approval.action].reopen(approval)
    raise StaleContent(_("Not approved: %(why)s. Nothing was done; it can be asked for anew.") % {"why": why})


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
    if verdict == Verdict.DENY:
        _end(approval, ApprovalState.DENIED, reason)
        _procedures[approval.action].deny(approval, reason)
    elif approval.decisions.filter(verdict=Verdict.APPROVE).count() >= approval.quorum:
        _approve(approval, plain)


def _approve(approval: ApprovalRequest, plain: Any) -> None:
    """The quorum is there: now, or when the cooling-off is over and business is open."""
    now = timezone.now()
    execute_at = now + timedelta(minutes=approval.delay_minutes)
    if approval.business_hours_only:
        execute_at = policy.current().actions.business_hours.next(execute_at)
    _move(approval, ApprovalState.APPROVED, "", execute_at=execute_at)
    if execute_at <= now:
        _carry_out(approval, plain)
    else:
        enqueue("workflows.tasks.tell_requester", approval.pk)


# Carrying out


def due(now: datetime) -> models.QuerySet[ApprovalRequest]:
    """Approved, and their hour has come."""
    return ApprovalRequest.objects.filter(state=ApprovalState.APPROVED, execute_at__lte=now).order_by("execute_at")


def carry_out_due(approval_id: int) -> None:
    """Carry out what was approved for this hour. Whatever has moved in the meantime voids it."""
    with transaction.atomic(), context.system_acting(parent_event_id=asked_by_event(approval_id)):
        approval = _locked(approval_id)
        if approval.state != ApprovalState.APPROVED or (approval.execute_at or timezone.now()) > timezone.now():
            return
        try:
            plain = _as_shown(approval)
        except StaleContent:
            return  # the request is void, and the trail tells why
        _carry_out(approval, plain)


def _carry_out(approval: ApprovalRequest, plain: Any) -> None:
    _move(approval, ApprovalState.EXECUTING, "")
    record(Event.APPROVAL_EXECUTING, target=approval)
    try:
        with transaction.atomic():
            state = _procedures[approval.action].execute(approval, plain)
    except WorkflowError as error:
        _finish(approval, ApprovalState.FAILED, str(error))
    else:
        if state != ApprovalState.EXECUTING:
            _finish(approval, state, "")


def finish(subject: models.Model, state: ApprovalState, outcome: str) -> None:
    """What was begun has come to its end: executed, partly executed, or failed. Without a request: nothing to do."""
    begun = ApprovalRequest.objects.filter(
        subject_type=subject._meta.label_lower, subject_id=str(subject.pk), state=ApprovalState.EXECUTING
    )
    for approval in begun.select_for_update(of=("self",)):
        _finish(approval, state, outcome)


def _finish(approval: ApprovalRequest, state: ApprovalState, outcome: str) -> None:
    _end(approval, state, outcome)
    well = Outcome.SUCCESS if state == ApprovalState.EXECUTED else Outcome.FAILURE
    record(Event.APPROVAL_EXECUTED, target=approval, outcome=well, why=outcome, facts={"state": state.value})


# Without a second person


def break_glass(*, approval_id: int, by: User, reason: str) -> ApprovalRequest:
    """Carry a pending request out alone. Everybody who could have decided is told, and another person has to review it.

    Raises a WorkflowError; what was shown has to hold here too.
    """
    reason = clean_reason(reason)
    with transaction.atomic(), context.acting(by, parent_event_id=asked_by_event(approval_id)):
        approval = _locked(approval_id)
        try:
            _check_glass(approval, by, reason)
            plain = _as_shown(approval)
        except WorkflowError as error:
            problem = error
            facts = {"verdict": "break_glass", "code": error.code}
            record(Event.APPROVAL_REFUSED, target=approval, outcome=Outcome.REFUSED, why=str(error), facts=facts)
        else:
            record(Event.GLASS_BROKEN, target=approval, why=reason, facts={"content_digest": approval.content_digest})
            glass = {"break_glass_by": by, "break_glass_reason": reason}
            _move(approval, ApprovalState.APPROVED, "", execute_at=timezone.now(), **glass)
            enqueue("workflows.tasks.alert_glass", approval.pk)
            _carry_out(approval, plain)
            return approval
    raise problem


def _check_glass(approval: ApprovalRequest, by: User, reason: str) -> None:
    if not by.has_perm("workflows.break_glass"):
        raise NotPermitted(_("Your role does not include acting without approval."))
    if len(reason) < GLASS_REASON_LENGTH:
        least = {"length": GLASS_REASON_LENGTH}
        raise ReasonRequired(_("Say in at least %(length)s characters why this cannot wait.") % least)
    _require_pending(approval)


def unreviewed() -> models.QuerySet[ApprovalRequest]:
    """What was carried out by one person, and nobody has looked at since."""
    return ApprovalRequest.objects.filter(break_glass_by__isnull=False, reviewed_at=None).order_by("pk")


def review(*, approval_id: int, by: User, reason: str) -> None:
    """Another person has looked at what was done without approval, and says what came of it."""
    reason = clean_reason(reason)
    with transaction.atomic(), context.acting(by, parent_event_id=asked_by_event(approval_id)):
        approval = _locked(approval_id)
        if not by.has_perm("workflows.decide_approvalrequest"):
            raise NotPermitted(_("Your role does not include deciding on requests."))
        if approval.break_glass_by_id is None or approval.reviewed_at is not None:
            raise WrongState(_("There is nothing to review."))
        if by.pk in {approval.break_glass_by_id, approval.requested_by_id, approval.authored_by_id}:
            raise FourEyesViolation(_("You asked for this or did it yourself; another person has to review it."))
        if not reason:
            raise ReasonRequired(_("Say what you found."))
        now = timezone.now()
        ApprovalRequest.objects.filter(pk=approval.pk).update(reviewed_by=by, reviewed_at=now, review=reason)
        record(Event.GLASS_REVIEWED, target=approval, why=reason)


# Taking back, running out


def withdraw(*, approval_id: int, by: User, reason: str) -> None:
    """The requester or the author takes a request back; in its cooling-off, whoever may decide stops it too."""
    reason = clean_reason(reason)
    with transaction.atomic(), context.acting(by, parent_event_id=asked_by_event(approval_id)):
        approval = _locked(approval_id)
        if not may_withdraw(approval, by):
            raise NotPermitted(_("Only the requester or the author can withdraw a request."))
        if approval.state not in APPROVAL_OPEN:
            raise AlreadyDecided(_describe_closed(approval))
        _close(approval, ApprovalState.WITHDRAWN, Event.APPROVAL_WITHDRAWN, reason)
        _procedures[approval.action].reopen(approval)


def may_withdraw(approval: ApprovalRequest, user: User) -> bool:
    if user.pk in {approval.requested_by_id, approval.authored_by_id}:
        return True
    return approval.state == ApprovalState.APPROVED and user.has_perm("workflows.decide_approvalrequest")


def to_remind(now: datetime) -> models.QuerySet[ApprovalRequest]:
    """Pending requests whose deciders are to be reminded."""
    return ApprovalRequest.objects.filter(state=ApprovalState.PENDING, remind_at__lte=now, expires_at__gt=now)


def remind(approval_id: int) -> None:
    """Once before a request expires: remind who may decide, and widen the circle by the second group."""
    with transaction.atomic(), context.system_acting(parent_event_id=asked_by_event(approval_id)):
        approval = _locked(approval_id)
        if approval.state != ApprovalState.PENDING or approval.remind_at is None:
            return
        ApprovalRequest.objects.filter(pk=approval_id).update(remind_at=None, escalated_at=timezone.now())
        record(Event.APPROVAL_REMINDED, target=approval, facts={"escalated_to": approval.escalate_to})
        enqueue("workflows.tasks.remind_officers", approval_id)


def expire(approval_id: int) -> None:
    """Close a request that nobody decided in time: it fails closed."""
    with transaction.atomic(), context.system_acting(parent_event_id=asked_by_event(approval_id)):
        approval = _locked(approval_id)
        if approval.state == ApprovalState.PENDING:
            _expire(approval)


@transaction.atomic
def _expire(approval: ApprovalRequest) -> None:
    _close(approval, ApprovalState.EXPIRED, Event.APPROVAL_EXPIRED, _("nobody decided in time"))
    _procedures[approval.action].expire(approval)


# Moving


def _close(approval: ApprovalRequest, state: ApprovalState, event: Event, why: str) -> None:
    _end(approval, state, why)
    record(event, target=approval, why=why)


def _end(approval: ApprovalRequest, state: ApprovalState, outcome: str) -> None:
    """Closed for good; the requester is told."""
    _move(approval, state, outcome, closed_at=timezone.now())
    enqueue("workflows.tasks.tell_requester", approval.pk)


def _move(approval: ApprovalRequest, state: ApprovalState, outcome: str, **fields: Any) -> None:
    """The conditional UPDATE that settles every race, whatever happened to the lock."""
    fields = {"state": state, "outcome": outcome[:300], **fields}
    moved = ApprovalRequest.objects.filter(pk=approval.pk, state__in=allowed_from(APPROVAL_TRANSITIONS, state)).update(
        **fields
    )
    if moved != 1:
        raise AlreadyDecided(_("This request was decided at the same moment by someone else."))
    for name, value in fields.items():
        setattr(approval, name, value)
