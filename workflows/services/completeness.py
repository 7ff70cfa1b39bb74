"""What happened in the loop against what the trail tells of it, and against what should have happened."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from django.db.models import Count, Exists, F, Model, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit import queries_by_target as trail
from audit.completeness import Finding, Window, check
from compliance_bot.guardrails import policy
from workflows.domain.events import Event
from workflows.domain.states import (
    APPROVAL_CARRIED_OUT,
    DELIVERY_DUE,
    ApprovalState,
    DeliveryState,
    MessageState,
    Verdict,
)
from workflows.models import ApprovalDecision, ApprovalRequest, Delivery, DeliveryAttempt, Message, StandingApproval

T = TypeVar("T")
M = TypeVar("M", bound=Model)
_AT_ONCE = 500
# What is decided is carried out in the same transaction, and the clock closes what is late within the second.
_PATIENCE = timedelta(minutes=10)
# One that was cancelled may have been on its way: somebody halted it before anything had left.
_LEFT = Q(state__in=[MessageState.RELEASED, MessageState.SENT, MessageState.PARTLY_SENT, MessageState.FAILED]) | Q(
    state=MessageState.CANCELLED, released_at__isnull=False
)
_MESSAGE, _DELIVERY = Message._meta.label_lower, Delivery._meta.label_lower
_REQUEST, _STANDING = ApprovalRequest._meta.label_lower, StandingApproval._meta.label_lower


@check("execution", gettext_lazy("Nothing left without approval"))
def executions(window: Window) -> Iterator[Finding]:
    """Looks at messages that were on their way within the window, and at messages with calls that were never released.

    One that needed approval needs a request executed for its very content, with its quorum of approvals, none of them
    by who asked or wrote; or a standing approval that was approved in this way, and was in force when it was released.
    """
    called = Delivery.objects.filter(message=OuterRef("pk")).exclude(state=DeliveryState.QUEUED)
    early = Message.objects.exclude(_LEFT).filter(Exists(called))
    for message in early.order_by("pk").iterator(chunk_size=_AT_ONCE):
        yield Finding(where=f"message {message.pk}", what=_("has deliveries, but was never released"))
    for some in _pieces(_on_their_way(window).filter(needs_approval=True)):
        approved, covered = _approved(some), _covered(some)
        for message in some:
            if (str(message.pk), message.content_digest) not in approved and message.pk not in covered:
                yield Finding(where=f"message {message.pk}", what=_("was released without the approval that it needed"))


@check("release", gettext_lazy("Every release is on the trail"))
def releases(window: Window) -> Iterator[Finding]:
    """Looks at messages that were released within the window."""
    released = Message.objects.filter(_LEFT, released_at__gte=window.since)
    missing = _("was released, but the trail does not tell")
    yield from _untold(released, _MESSAGE, [Event.MESSAGE_RELEASED], "message", missing)
    for message in Message.objects.filter(_LEFT, released_at=None).order_by("pk").iterator():
        yield Finding(where=f"message {message.pk}", what=_("left, but has no time of release"))


@check("outcome", gettext_lazy("Every approval has its outcome"))
def outcomes(window: Window) -> Iterator[Finding]:
    """Looks at every request that is open, and at those closed within the window."""
    late = window.now - _PATIENCE
    for request in ApprovalRequest.objects.filter(state=ApprovalState.PENDING, expires_at__lt=late).order_by("pk"):
        yield Finding(where=f"request {request.pk}", what=_("is past its time, but was not closed"))
    for request in _decided(late):
        yield Finding(where=f"request {request.pk}", what=_("was decided, but not carried out"))
    carried_out = sorted(APPROVAL_CARRIED_OUT - {ApprovalState.EXECUTING})
    executed = ApprovalRequest.objects.filter(state__in=carried_out, closed_at__gte=window.since)
    untold = _("was carried out, but the trail does not tell")
    yield from _untold(executed, _REQUEST, [Event.APPROVAL_EXECUTED], "request", untold)
    for some in _pieces(executed.filter(subject_type=_MESSAGE)):
        left = Message.objects.filter(_LEFT, pk__in=_keys(request.subject_id for request in some))
        there = {str(pk) for pk in left.values_list("pk", flat=True)}
        for request in some:
            if request.subject_id not in there:
                yield Finding(where=f"request {request.pk}", what=_("was carried out, but its message did not leave"))


@check("decision", gettext_lazy("Every decision is on the trail, and only those"))
def decisions(window: Window) -> Iterator[Finding]:
    """Looks at decisions and at approval events of the window: who decided on which request, both ways."""
    names = {Verdict.APPROVE: Event.APPROVAL_GRANTED, Verdict.DENY: Event.APPROVAL_DENIED}
    for some in _pieces(ApprovalDecision.objects.filter(decided_at__gte=window.since)):
        events = trail.about(_REQUEST, {decision.request_id for decision in some}, list(names.values()))
        told = {(event.target_id, event.who_id, event.what) for event in events}
        for decision in some:
            name = names[Verdict(decision.verdict)]
            if (str(decision.request_id), str(decision.decided_by_id), name) not in told:
                yield Finding(where=f"request {decision.request_id}", what=_("has a decision that is not on the trail"))
    for verdict, name in names.items():
        for told_of in _batches(trail.since(window.since, _REQUEST, name)):
            keys = _keys(event.target_id for event in told_of)
            rows = ApprovalDecision.objects.filter(request__in=keys, verdict=verdict)
            made = {(str(request), str(who)) for request, who in rows.values_list("request", "decided_by")}
            for event in told_of:
                if (event.target_id, event.who_id) not in made:
                    where = f"request {event.target_id}"
                    yield Finding(where=where, what=_("the trail tells of a decision that is not there"))


@check("delivery", gettext_lazy("Every delivery is on the trail, and only those"))
def deliveries(window: Window) -> Iterator[Finding]:
    """Looks at what was sent, attempted and cancelled within the window, of messages on their way then.

    And at each ``delivery.sent``. A row that housekeeping may have removed is not missed.
    """
    messages = _on_their_way(window).values("pk")
    sent = Delivery.objects.filter(message__in=messages, state=DeliveryState.SENT).exclude(sent_at__lt=window.since)
    arrived = [Event.DELIVERY_SENT, Event.DELIVERY_SETTLED]
    yield from _untold(sent, _DELIVERY, arrived, "delivery", _("was sent, but the trail does not tell"))
    tries = DeliveryAttempt.objects.filter(delivery=OuterRef("pk"), started_at__gte=window.since)
    tried = Delivery.objects.filter(Exists(tries), message__in=messages)
    untold = _("was attempted, but the trail does not tell")
    attempted = [Event.DELIVERY_ATTEMPTED]
    yield from _untold(tried.filter(parcel=None), _DELIVERY, attempted, "delivery", untold)
    # Those that went together are told of as one call of their message.
    together = Message.objects.filter(Exists(tried.filter(message=OuterRef("pk"), parcel__isnull=False)))
    yield from _untold(together, _MESSAGE, attempted, "message", untold)
    hollow = Delivery.objects.filter(message__in=messages, attempts=0).exclude(
        state__in=DELIVERY_DUE | {DeliveryState.CANCELLED}
    )
    for delivery in hollow.order_by("pk").iterator(chunk_size=_AT_ONCE):
        yield Finding(where=f"delivery {delivery.pk}", what=_("has an outcome, but was never attempted"))
    cancelled = Delivery.objects.filter(message=OuterRef("pk"), state=DeliveryState.CANCELLED)
    halted = Message.objects.filter(Exists(cancelled), pk__in=messages)
    untold = _("has cancelled deliveries, but the trail does not tell")
    yield from _untold(halted, _MESSAGE, [Event.DELIVERY_CANCELLED], "message", untold)
    kept = window.now - timedelta(days=policy.current().retention.deliveries)
    for told_of in _batches(trail.since(max(window.since, kept), _DELIVERY, Event.DELIVERY_SENT)):
        keys = _keys(event.target_id for event in told_of)
        rows = Delivery.objects.filter(pk__in=keys, state=DeliveryState.SENT)
        there = {str(pk) for pk in rows.values_list("pk", flat=True)}
        for event in told_of:
            if event.target_id not in there:
                where = f"delivery {event.target_id}"
                yield Finding(where=where, what=_("the trail tells that it was sent, but the row does not"))


def _on_their_way(window: Window) -> QuerySet[Message]:
    """Messages that could call somebody within the window: released and not finished before it."""
    return Message.objects.filter(_LEFT).exclude(finished_at__lt=window.since)


def _approved(some: list[Message]) -> set[tuple[str, str]]:
    """(message, content) of those whose request was executed with its quorum."""
    enough = _with_quorum(_MESSAGE, [message.pk for message in some])
    return set(enough.values_list("subject_id", "content_digest"))


def _covered(some: list[Message]) -> set[int]:
    """Those released under a standing approval of their workflow: in its time, and not too many a day."""
    keys = {message.standing_approval_id for message in some}
    found = StandingApproval.objects.select_related("workflow").in_bulk(keys)
    granted = set(_with_quorum(_STANDING, found).values_list("subject_id", flat=True))
    return {
        message.pk
        for message in some
        if str(message.standing_approval_id) in granted and _within(found[message.standing_approval_id], message)
    }


def _within(standing: StandingApproval, message: Message) -> bool:
    """Whether the message was within the bounds at its release, later ones left out."""
    at = message.released_at
    if standing.granted_at is None or at is None or message.workflow_id != standing.workflow_id:
        return False
    ended = min(standing.valid_until, standing.ended_at or standing.valid_until)
    before = standing.messages.filter(released_at__gte=standing.workflow.midnight_before(at), released_at__lt=at)
    return standing.granted_at <= at < ended and before.count() < standing.messages_per_day


def _with_quorum(kind: str, keys: Iterable[int]) -> QuerySet[ApprovalRequest]:
    """Requests about these rows that were begun with their quorum, or by somebody who broke the glass."""
    counting = Q(decisions__verdict=Verdict.APPROVE, decisions__content_digest=F("content_digest"))
    others = ~Q(decisions__decided_by=F("requested_by")) & ~Q(decisions__decided_by=F("authored_by"))
    requests = ApprovalRequest.objects.filter(
        subject_type=kind, subject_id__in=[str(key) for key in keys], state__in=sorted(APPROVAL_CARRIED_OUT)
    )
    approvals = Count("decisions__decided_by", filter=counting & others, distinct=True)
    return requests.annotate(approvals=approvals).filter(
        Q(approvals__gte=F("quorum")) | Q(break_glass_by__isnull=False)
    )


def _decided(before: datetime) -> Iterator[ApprovalRequest]:
    """Requests that have what settles them, and are open all the same."""
    given = Q(decisions__decided_at__lt=before)
    counted = ApprovalRequest.objects.filter(state__in=[ApprovalState.PENDING, ApprovalState.APPROVED]).annotate(
        approvals=Count("decisions", filter=given & Q(decisions__verdict=Verdict.APPROVE)),
        denials=Count("decisions", filter=given & Q(decisions__verdict=Verdict.DENY)),
    )
    stuck = Q(approvals__gte=F("quorum")) | Q(denials__gt=0)
    waits = Q(state=ApprovalState.PENDING) & stuck
    hanging = Q(state=ApprovalState.APPROVED) & (Q(execute_at=None) | Q(execute_at__lt=before))
    return counted.filter(waits | hanging).order_by("pk").iterator(chunk_size=_AT_ONCE)


def _untold(rows: QuerySet[M], kind: str, names: list[Event], word: str, what: str) -> Iterator[Finding]:
    for keys in _batches(rows.order_by("pk").values_list("pk", flat=True).iterator(chunk_size=_AT_ONCE)):
        missing = trail.untold(kind, keys, names)
        yield from (Finding(where=f"{word} {pk}", what=what) for pk in keys if str(pk) in missing)


def _keys(texts: Iterable[str]) -> list[int]:
    """As numbers; what is none (somebody wrote it past the application) finds no row."""
    return [int(text) for text in texts if text.isdecimal() and len(text) < 19]


def _pieces(rows: QuerySet[M]) -> Iterator[list[M]]:
    return _batches(rows.order_by("pk").iterator(chunk_size=_AT_ONCE))


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    waiting = iter(rows)
    while some := list(islice(waiting, _AT_ONCE)):
        yield some
