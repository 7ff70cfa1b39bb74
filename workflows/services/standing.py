"""Standing approvals: a recurring workflow is approved once, for a period and within bounds.

It covers the very configuration that was shown. The first message that finds another one ends it; from then on each
message is approved by itself again.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, story
from audit.recorder import record
from compliance_bot.guardrails import policy
from compliance_bot.guardrails.policy import Rule
from workflows.actions.mass_send import MassSendAction
from workflows.actions.standing_approval import Standing, StandingApprovalAction
from workflows.domain.audience import people
from workflows.domain.errors import Invalid, NotPermitted, ReasonRequired, StaleContent, WrongState
from workflows.domain.events import Event
from workflows.domain.states import ApprovalState, WorkflowState
from workflows.models import ApprovalRequest, Message, StandingApproval, Workflow
from workflows.services import approvals, audiences, configuration
from workflows.services.reasons import clean_reason

ACTION: Final = StandingApprovalAction.kind
LONGEST: Final = timedelta(days=92)
MOST_A_DAY: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """Whether a message of the workflow may leave now without a decision of its own.

    ``text`` says by what, or why not; it is empty where the workflow has no standing approval. ``standing`` is locked.
    """

    standing: StandingApproval | None = None
    text: str = ""


# Asking


def ask(*, workflow: Workflow, by: User, until: datetime, messages_per_day: int, reason: str) -> StandingApproval:
    """Ask a second person to approve once what the workflow sends until then. Raises a WorkflowError."""
    if not by.has_perm("workflows.add_standingapproval"):
        raise NotPermitted(_("Your role does not include asking for standing approvals."))
    reason = clean_reason(reason)
    if not reason:
        raise ReasonRequired(_("Say why: whoever decides has to be able to judge it."))
    _check_bounds(until, messages_per_day)
    with transaction.atomic(), context.acting(by):
        workflow = Workflow.objects.select_for_update(of=("self",), no_key=True).get(pk=workflow.pk)
        _require_free(workflow)
        configuration.note(workflow)
        standing = StandingApproval.objects.create(
            workflow=workflow,
            configuration_digest=configuration.digest(workflow),
            messages_per_day=messages_per_day,
            valid_until=until,
            reason=reason,
            asked_by=by,
            asked_at=timezone.now(),
        )
        facts = {"workflow": workflow.pk, "valid_until": until.isoformat(), "messages_per_day": messages_per_day}
        record(Event.STANDING_ASKED, target=standing, why=reason, facts=facts)
        approvals.request(
            action=ACTION,
            subject=standing,
            size=_reach(workflow),
            reason=reason,
            requested_by=by,
            authored_by=workflow.owner,
            rule=_rule(),
        )
    return standing


def _check_bounds(until: datetime, messages_per_day: int) -> None:
    now = timezone.now()
    if until <= now:
        raise Invalid(_("This period is over already."), field="until")
    if until - now > LONGEST:
        longest = {"days": LONGEST.days}
        raise Invalid(_("A standing approval lasts at most %(days)s days.") % longest, field="until")
    if not 1 <= messages_per_day <= MOST_A_DAY:
        most = {"most": MOST_A_DAY}
        raise Invalid(_("Between 1 and %(most)s messages a day.") % most, field="messages_per_day")


def _require_free(workflow: Workflow) -> None:
    if workflow.state != WorkflowState.ACTIVE:
        raise WrongState(_("Activate the workflow first: a standing approval covers it as it runs."))
    if workflow.audience is None:
        raise Invalid(_("The workflow has no audience."), field="audience")
    standing = _locked_of(workflow)
    if standing is not None and not _end_if_over(standing, timezone.now()):
        raise WrongState(_("This workflow already has a standing approval, or has asked for one."))


def _rule() -> Rule:
    """At least as strict as for each of its messages by itself."""
    rules = policy.current().actions
    own, each = rules.rule(ACTION), rules.rule(MassSendAction.kind)
    limits = [rule.second_approval_above for rule in (own, each) if rule.second_approval_above is not None]
    return replace(
        own,
        quorum=max(own.quorum, each.quorum),
        group=own.group or each.group,
        second_approval_above=min(limits, default=None),
    )


def _reach(workflow: Workflow) -> int | None:
    return people(audiences.resolve(workflow.audience).recipients) if workflow.audience else 0


# Granting


def _get(approval: ApprovalRequest) -> StandingApproval:
    return StandingApproval.objects.select_related("workflow__audience").get(pk=approval.subject_id)


def _describe(approval: ApprovalRequest) -> Standing:
    standing = _get(approval)
    if standing.valid_until <= timezone.now():
        raise StaleContent(_("its period is over"))
    now = configuration.content(standing.workflow)
    return Standing(
        messages_per_day=standing.messages_per_day,
        valid_until=standing.valid_until,
        time_zone=standing.workflow.time_zone,
        people=_reach(standing.workflow),
        configuration=now,
    )


def _grant(approval: ApprovalRequest, plain: Standing) -> ApprovalState:
    standing = _get(approval)
    StandingApproval.objects.filter(pk=standing.pk).update(granted_at=timezone.now())
    facts = {"request": approval.pk, "configuration_digest": standing.configuration_digest}
    record(Event.STANDING_GRANTED, target=standing, facts=facts)
    return ApprovalState.EXECUTED


def _refuse(approval: ApprovalRequest, why: str) -> None:
    _end(_get(approval), _("denied: %(why)s") % {"why": why})


def _close(approval: ApprovalRequest) -> None:
    """Expired, withdrawn or void: the request says why."""
    state = approval.get_state_display()
    _end(_get(approval), f"{state}: {approval.outcome}" if approval.outcome else state)


approvals.carries_out(
    ACTION,
    approvals.Procedure(describe=_describe, execute=_grant, deny=_refuse, expire=_close, reopen=_close),
)


# Covering


def open_of(workflow: Workflow) -> StandingApproval | None:
    """The workflow's standing approval in force, or that waits for its decision."""
    return StandingApproval.objects.filter(workflow=workflow, ended_at=None).first()


def covering(workflow: Workflow, now: datetime) -> Cover:
    """The standing approval that covers a further message of the workflow now, or why there is none.

    Call it in the transaction that releases the message: the row stays locked until then, so that the messages of a
    day are counted one after the other. What no longer holds is ended here.
    """
    standing = _locked_of(workflow)
    if standing is None or standing.granted_at is None:
        return Cover()
    number = {"number": standing.pk}
    if _end_if_over(standing, now):
        return Cover(text=_("Standing approval %(number)s: its period is over.") % number)
    if configuration.digest(workflow) != standing.configuration_digest:
        _end(standing, _("the configuration changed"))
        return Cover(text=_("Standing approval %(number)s has ended: the configuration changed.") % number)
    used = used_today(standing, now)
    bounds = {**number, "used": used, "most": standing.messages_per_day}
    if used >= standing.messages_per_day:
        return Cover(text=_("Standing approval %(number)s: %(used)s of %(most)s messages today are used up.") % bounds)
    bounds["used"] = used + 1
    return Cover(standing=standing, text=_("Open: standing approval %(number)s (%(used)s of %(most)s today)") % bounds)


def _locked_of(workflow: Workflow) -> StandingApproval | None:
    """The workflow's standing approval that has not ended; at most one has not."""
    return StandingApproval.objects.select_for_update(of=("self",)).filter(workflow=workflow, ended_at=None).first()


def used_today(standing: StandingApproval, now: datetime) -> int:
    """Messages released under it since midnight in the workflow's time zone."""
    return standing.messages.filter(released_at__gte=standing.workflow.midnight_before(now)).count()


def covers(message: Message, now: datetime) -> bool:
    """The last look before something leaves: granted by a second person, in force, and for the content released."""
    standing = StandingApproval.objects.in_force(now).filter(messages=message, workflow=message.workflow_id)
    request = ApprovalRequest.objects.filter(
        action=ACTION, subject_id=str(message.standing_approval_id), state=ApprovalState.EXECUTED
    )
    return (
        standing.exists()
        and request.exists()
        and any(
            facts["content_digest"] == message.content_digest for facts in story.facts(Event.STANDING_USED, message)
        )
    )


# Ending


def revoke(*, standing_id: int, by: User, reason: str) -> None:
    """An officer ends it. What was released under it and has not left, does not leave any more."""
    if not by.has_perm("workflows.revoke_standingapproval"):
        raise NotPermitted(_("Your role does not include revoking standing approvals."))
    reason = clean_reason(reason)
    if not reason:
        raise ReasonRequired(_("Say why: whoever relies on it reads that."))
    granted = story.latest(Event.STANDING_GRANTED, StandingApproval(pk=standing_id))
    with transaction.atomic(), context.acting(by, parent_event_id=granted):
        standing = StandingApproval.objects.select_for_update(of=("self",)).get(pk=standing_id)
        if standing.granted_at is None or standing.ended_at is not None:
            raise WrongState(_("Only a standing approval in force can be revoked."))
        _end(standing, _("revoked by %(who)s: %(why)s") % {"who": by, "why": reason})


def _end_if_over(standing: StandingApproval, now: datetime) -> bool:
    """``now == valid_until`` is over. One that was asked for and not decided ends with its request."""
    over = standing.granted_at is not None and standing.valid_until <= now
    if over:
        _end(standing, _("its period is over"))
    return over


def _end(standing: StandingApproval, why: str) -> None:
    StandingApproval.objects.filter(pk=standing.pk, ended_at=None).update(ended_at=timezone.now(), ended_why=why[:300])
    record(Event.STANDING_ENDED, target=standing, why=why)
