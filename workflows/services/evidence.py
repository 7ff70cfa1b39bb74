"""What an auditor asks of one request: what was asked and shown, who decided, what left, and what the trail tells.

``of`` is built once, for the page and for the bundle (``evidence_bundle``) alike. What can be long, deliveries and
events, is read in pieces.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count
from django.utils.translation import gettext as _

from audit import context, story
from audit.export import proofs
from audit.recorder import record
from workflows.domain.errors import NotPermitted
from workflows.domain.events import Event
from workflows.domain.states import APPROVAL_CARRIED_OUT, DeliveryState
from workflows.models import ApprovalRequest, Delivery, Message, MessagePart, Snapshot
from workflows.services import approvals

# What a page shows of deliveries and of events; the bundle holds all of them.
MOST: Final = 200
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request itself, with the rule that it was asked under."""

    number: int
    action: str
    subject_type: str
    subject_id: str
    subject: str
    size: int | None
    requested_by: str
    authored_by: str
    reason: str
    requested_at: datetime
    expires_at: datetime
    quorum: int
    eligible_group: str
    escalate_to: str
    escalated_at: datetime | None
    barred: Sequence[str]
    reason_to_approve: bool
    delay_minutes: int
    business_hours_only: bool
    execute_at: datetime | None
    state: str
    outcome: str
    closed_at: datetime | None
    request_id: str
    previous: int | None
    following: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The preview as it is stored. ``as_asked``: whether it still has the digest that the decision is bound to."""

    preview: dict[str, Any]
    content_digest: str
    as_asked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    who: str
    verdict: str
    at: datetime
    address: str | None
    reason: str
    content_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    who: str
    reason: str
    reviewed_by: str | None
    reviewed_at: datetime | None
    review: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A text that left. ``as_shown``: whether it stands in the preview, to the byte."""

    kind: str
    number: int
    of: int
    text: str
    sha256: str
    as_shown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The message that was released under this request."""

    id: int
    subject: str
    state: str
    content_digest: str
    released_at: datetime | None
    finished_at: datetime | None
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One part to one recipient, with each attempt."""

    id: int
    recipient: str
    channel: str
    address: str
    kind: str
    part: int
    state: str
    sent_at: datetime | None
    code: str
    detail: str
    receipt: str
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Some stored object."""

    model: str
    key: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The snapshot that a rollback restores from; what its objects held (a password's hash, say) is not told here."""

    taken_at: datetime
    objects: Sequence[Named]
    created: Sequence[Named]
    rolled_back_by: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything about one request that is short. ``sent``: None where nothing left under it."""

    asked: Asked
    shown: Shown
    decisions: Sequence[Decision]
    break_glass: BreakGlass | None
    sent: Sent | None
    snapshot: Kept | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """The first MOST of them, and how many there are in each state."""

    first: Sequence[Sending]
    counts: Sequence[tuple[DeliveryState, int]]

    @property
    def total(self) -> int:
        return sum(count for _state, count in self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """The first MOST events of the request's story, each with its place under a seal, or None; and those seals."""

    first: Sequence[tuple[Any, proofs.Place | None]]
    seals: Sequence[Any]
    is_all: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one person may see. ``hidden``: in sentences, what else there is; that part is None, or not there."""

    evidence: Evidence
    deliveries: Deliveries | None
    events: Events | None
    hidden: Sequence[str]


_SEE = "workflows.view_approvalrequest"
_SEE_SENT = ("workflows.view_message", "workflows.view_delivery")
_SEE_EVENTS = "audit.view_auditevent"
_EXPORT = (_SEE, *_SEE_SENT, _SEE_EVENTS, "audit.export_auditevent")


def view(*, approval: ApprovalRequest, by: User) -> Page:
    """What this person may see of it; that they looked is on the trail. Raises NotPermitted."""
    if not by.has_perm(_SEE):
        raise NotPermitted(_("Your role does not include requests for approval."))
    with transaction.atomic(), context.acting(by, parent_event_id=approvals.asked_by_event(approval.pk)):
        record(Event.EVIDENCE_VIEWED, target=approval)
    evidence = of(approval)
    hidden = []
    if evidence.sent and not by.has_perms(_SEE_SENT):
        evidence = replace(evidence, sent=None)
        hidden.append(_("What was sent, and to whom: your role does not include messages and deliveries."))
    if not by.has_perm(_SEE_EVENTS):
        hidden.append(_("The audit events and their seals: your role does not include the audit trail."))
    return Page(
        evidence=evidence,
        deliveries=_first_deliveries(evidence.sent) if evidence.sent else None,
        events=_first_events(approval) if by.has_perm(_SEE_EVENTS) else None,
        hidden=hidden,
    )


def may_export(by: User) -> bool:
    """The bundle holds everything, so it takes the right to everything in it, and to take it along."""
    return by.has_perms(_EXPORT)


def of(approval: ApprovalRequest) -> Evidence:
    """Everything about one request that is short, as it is now."""
    return Evidence(
        asked=_asked(approval),
        shown=Shown(
            preview=approval.preview,
            content_digest=approval.content_digest,
            as_asked=approvals.is_what_was_asked(approval),
        ),
        decisions=_decisions(approval),
        break_glass=_break_glass(approval),
        sent=_sent(approval),
        snapshot=_snapshot(approval),
    )


def _asked(approval: ApprovalRequest) -> Asked:
    return Asked(
        number=approval.pk,
        action=approval.action,
        subject_type=approval.subject_type,
        subject_id=approval.subject_id,
        subject=approval.subject_label,
        size=approval.size,
        requested_by=approval.requested_by.get_username(),
        authored_by=approval.authored_by.get_username(),
        reason=approval.reason,
        requested_at=approval.requested_at,
        expires_at=approval.expires_at,
        quorum=approval.quorum,
        eligible_group=approval.eligible_group,
        escalate_to=approval.escalate_to,
        escalated_at=approval.escalated_at,
        barred=_names(approval.barred),
        reason_to_approve=approval.reason_to_approve,
        delay_minutes=approval.delay_minutes,
        business_hours_only=approval.business_hours_only,
        execute_at=approval.execute_at,
        state=approval.state,
        outcome=approval.outcome,
        closed_at=approval.closed_at,
        request_id=str(approval.request_id),
        previous=approval.previous_id,
        following=list(approval.following.order_by("pk").values_list("pk", flat=True)),
    )


def _names(accounts: Sequence[int]) -> list[str]:
    return list(User.objects.filter(pk__in=accounts).order_by("username").values_list("username", flat=True))


def _decisions(approval: ApprovalRequest) -> list[Decision]:
    return [
        Decision(
            who=decision.decided_by.get_username(),
            verdict=decision.verdict,
            at=decision.decided_at,
            address=decision.ip,
            reason=decision.reason,
            content_digest=decision.content_digest,
        )
        for decision in approval.decisions.select_related("decided_by")
    ]


def _break_glass(approval: ApprovalRequest) -> BreakGlass | None:
    if approval.break_glass_by is None:
        return None
    return BreakGlass(
        who=approval.break_glass_by.get_username(),
        reason=approval.break_glass_reason,
        reviewed_by=approval.reviewed_by.get_username() if approval.reviewed_by else None,
        reviewed_at=approval.reviewed_at,
        review=approval.review,
    )


def _sent(approval: ApprovalRequest) -> Sent | None:
    """A message may have been asked for several times: what left belongs to the one request that let it go."""
    if approval.subject_type != Message._meta.label_lower or approval.state not in APPROVAL_CARRIED_OUT:
        return None
    message = Message.objects.filter(pk=approval.subject_id, content_digest=approval.content_digest).first()
    if message is None or message.released_at is None:
        return None
    return Sent(
        id=message.pk,
        subject=message.subject,
        state=message.state,
        content_digest=message.content_digest,
        released_at=message.released_at,
        finished_at=message.finished_at,
        parts=[_part(part, approval.preview) for part in message.parts.all()],
    )


def _part(part: MessagePart, preview: dict[str, Any]) -> Part:
    shown = preview["renditions"][part.rendition - 1]["texts"] if part.rendition <= len(preview["renditions"]) else []
    return Part(
        kind=part.kind,
        number=part.number,
        of=part.of,
        text=part.text,
        sha256=hashlib.sha256(part.text.encode()).hexdigest(),
        as_shown=shown[part.number - 1 : part.number] == [part.text],
    )


def _snapshot(approval: ApprovalRequest) -> Kept | None:
    snapshot = Snapshot.objects.filter(request=approval).first()
    if snapshot is None:
        return None
    rollbacks = approval.following.filter(action="rollback")
    return Kept(
        taken_at=snapshot.taken_at,
        objects=[Named(model=row["model"], key=row["key"], label=row["label"]) for row in snapshot.before],
        created=[Named(model=model, key=key, label="") for model, key in snapshot.created],
        rolled_back_by=list(rollbacks.order_by("pk").values_list("pk", flat=True)),
    )


def deliveries(sent: Sent | None) -> Iterator[list[Sending]]:
    """Every delivery of what was sent, in pieces, in the order in which they were made."""
    after = 0
    while sent is not None and (piece := _deliveries(sent, above=after, limit=_AT_ONCE)):
        yield piece
        after = piece[-1].id


def _deliveries(sent: Sent, *, above: int, limit: int) -> list[Sending]:
    rows = Delivery.objects.filter(message=sent.id, pk__gt=above).order_by("pk")
    rows = rows.select_related("channel", "part").defer("channel__config", "part__text").prefetch_related("tries")
    return [_sending(row) for row in rows[:limit]]


def _sending(delivery: Delivery) -> Sending:
    return Sending(
        id=delivery.pk,
        recipient=delivery.recipient,
        channel=delivery.channel.name,
        address=delivery.address,
        kind=delivery.part.kind,
        part=delivery.part.number,
        state=delivery.state,
        sent_at=delivery.sent_at,
        code=delivery.code,
        detail=delivery.detail,
        receipt=delivery.receipt,
        attempts=[
            Attempt(
                number=attempt.number,
                started_at=attempt.started_at,
                finished_at=attempt.finished_at,
                outcome=attempt.outcome,
                code=attempt.code,
                detail=attempt.detail,
            )
            for attempt in delivery.tries.all()
        ],
    )


def _first_deliveries(sent: Sent) -> Deliveries:
    counted = Delivery.objects.filter(message=sent.id).order_by("state").values_list("state").annotate(Count("pk"))
    return Deliveries(
        first=_deliveries(sent, above=0, limit=MOST),
        counts=[(DeliveryState(state), count) for state, count in counted],
    )


def _first_events(approval: ApprovalRequest) -> Events:
    told = story.tell(approval.request_id)
    first = told.events[:MOST]
    places = proofs.places([event.pk for event in first])
    return Events(
        first=[(event, places.get(event.pk)) for event in first],
        seals=proofs.seals(places),
        is_all=told.complete and len(told.events) <= MOST,
    )
