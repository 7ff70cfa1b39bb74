"""Carrying released messages out: claim a row, make the call, keep the truth about it.

No call happens inside a transaction, and none happens without a claim committed before it. A worker that dies between
leaves its row ``sending``; once the lease is over the outcome is ``unknown``, and a person settles it.
"""

import random
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, story
from audit.recorder import Outcome, record
from compliance_bot.guardrails.http import GuardedSession
from compliance_bot.guardrails.secrets import SecretError
from workflows import channels
from workflows.channels import DeliveryError, OutcomeUnknown, Receipt, Rejected, TryLater
from workflows.domain import retry
from workflows.domain.content import Part
from workflows.domain.errors import NotPermitted, ReasonRequired, WrongState
from workflows.domain.events import Event
from workflows.domain.states import (
    APPROVAL_CARRIED_OUT,
    DELIVERY_DUE,
    DELIVERY_OPEN,
    DELIVERY_TRANSITIONS,
    ApprovalState,
    DeliveryState,
    MessageState,
    OfferState,
    allowed_from,
)
from workflows.models import ApprovalRequest, Channel, Delivery, DeliveryAttempt, Message, SendingPause
from workflows.registry import UnknownKind
from workflows.services import approvals, messages, outbound, pauses, secrets, standing
from workflows.services.pacing import channel_lanes, take_slot
from workflows.services.reasons import clean_reason

# Longer than any adapter's call may take (its total deadline is 15 s), so that a live worker is never overtaken.
LEASE = timedelta(seconds=45)
# A queue task may take 60 s; the last call begins well before that.
_TASK_SECONDS = 30.0
_BREATH = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this worker alone may send; ``attempt`` tells a late answer from a newer try."""

    delivery: Delivery
    attempt: int


def dispatch(message_id: int) -> int:
    """Send what is due of a released message, in order, until nothing is due or the task's time is over.

    Several workers may do this at once. Returns the number of calls made.
    """
    calls = 0
    deadline = time.monotonic() + _TASK_SECONDS
    with outbound.session() as http:
        while time.monotonic() < deadline and (claim := _claim(message_id)) is not None:
            _send(claim, http)
            calls += 1
    _cancel_uncovered(message_id)
    _plan_next(message_id)
    return calls


def _claim(message_id: int) -> Claim | None:
    """Take the next due delivery and a slot in the pace; None when nothing can be sent now."""
    while True:
        with transaction.atomic():
            pauses.keep_switch()
            now = timezone.now()
            delivery = _next_due(message_id, now)
            if delivery is None or not _gate_is_open(delivery.message):
                return None
            free_at = take_slot(channel_lanes(delivery.channel), now)
            if free_at is None:
                return _take(delivery, now)
            # The channel is busy: everything of this message that goes through it waits for the same instant.
            _hold_back(_due(message_id, now).filter(channel=delivery.channel_id), free_at)


def _due(message_id: int, now: datetime) -> QuerySet[Delivery]:
    """What may be claimed now."""
    return _not_held(message_id).filter(state__in=sorted(DELIVERY_DUE), not_before__lte=now)


def _not_held(message_id: int) -> QuerySet[Delivery]:
    """A pause holds deliveries until it is lifted, a channel that is off or out of order until it works again."""
    usable = {"channel__enabled": True, "channel__broken_at": None}
    return Delivery.objects.filter(pauses.none_holds(message_id), message=message_id, **usable)


def _next_due(message_id: int, now: datetime) -> Delivery | None:
    """The first due delivery whose earlier parts to the same recipient are through: parts arrive in order."""
    earlier = Delivery.objects.filter(
        message=message_id,
        channel=OuterRef("channel"),
        address=OuterRef("address"),
        part__number__lt=OuterRef("part__number"),
        state__in=sorted(DELIVERY_DUE | {DeliveryState.SENDING}),
    )
    rows = _due(message_id, now).filter(~Exists(earlier)).select_related("message", "channel", "part").order_by("id")
    if connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True, of=("self",))
    return rows.first()


def _hold_back(rows: QuerySet[Delivery], until: datetime) -> None:
    """Rows that another worker holds at this moment are left to it: waiting for them could be waiting in a circle."""
    if connection.features.has_select_for_update_skip_locked:
        rows = Delivery.objects.filter(
            pk__in=list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
        )
    rows.update(not_before=until)


def _gate_is_open(message: Message) -> bool:
    """The last look before anything leaves: released, and approved as it is if approval is needed."""
    if message.state != MessageState.RELEASED:
        return False
    if message.needs_approval and message.standing_approval_id is not None:
        return standing.covers(message, timezone.now())
    return (
        not message.needs_approval
        or ApprovalRequest.objects.filter(
            subject_type=Message._meta.label_lower,
            subject_id=str(message.pk),
            state__in=sorted(APPROVAL_CARRIED_OUT),
            content_digest=message.content_digest,
        ).exists()
    )


def _take(delivery: Delivery, now: datetime) -> Claim:
    attempt = delivery.attempts + 1
    _move(delivery, DeliveryState.SENDING, attempts=attempt, lease_until=now + LEASE)
    DeliveryAttempt.objects.create(delivery=delivery, number=attempt, started_at=now)
    record(Event.DELIVERY_ATTEMPTED, target=delivery, facts={"attempt": attempt})
    return Claim(delivery, attempt)


def _send(claim: Claim, http: GuardedSession) -> None:
    """Make the call and keep what came of it. An unforeseen exception leaves the row to its lease."""
    delivery, channel = claim.delivery, claim.delivery.channel
    try:
        receipt = _call(delivery, channel, http)
    except Rejected as error:
        _finish(claim, DeliveryState.FAILED, error)
        if error.channel_broken:
            _mark_broken(channel, str(error))
    except TryLater as error:
        _postpone(claim, error)
    except OutcomeUnknown as error:
        _finish(claim, DeliveryState.UNKNOWN, error)
    else:
        _finish(claim, DeliveryState.SENT, receipt)


def _call(delivery: Delivery, channel: Channel, http: GuardedSession) -> Receipt:
    try:
        adapter = channels.registry.get(channel.kind)
        values = secrets.of_channel(channel, purpose=f"delivery of message {delivery.message_id}")
    except (UnknownKind, SecretError) as error:
        raise Rejected("unusable", str(error), channel_broken=True) from error
    # Bound to the very values that are used: between release and now the channel may have been led elsewhere.
    if secrets.fingerprint(channel, values) != delivery.channel_fingerprint:
        raise Rejected("channel_changed", "The channel was changed after the release: it may lead to other people.")
    part = Part(number=delivery.part.number, of=delivery.part.of, text=delivery.part.text)
    return adapter.deliver(part, address=delivery.address, config=channel.config, secrets=values, http=http)


_EVENT_OF = {
    DeliveryState.SENT: (Event.DELIVERY_SENT, Outcome.SUCCESS),
    DeliveryState.WAITING: (Event.DELIVERY_POSTPONED, Outcome.FAILURE),
    DeliveryState.UNKNOWN: (Event.DELIVERY_UNKNOWN, Outcome.FAILURE),
    DeliveryState.FAILED: (Event.DELIVERY_FAILED, Outcome.FAILURE),
    DeliveryState.DEAD: (Event.DELIVERY_FAILED, Outcome.FAILURE),
}


@transaction.atomic
def _finish(
    claim: Claim, state: DeliveryState, result: Receipt | DeliveryError, *, not_before: datetime | None = None
) -> None:
    """Keep the outcome, unless a newer try has overtaken this one."""
    now = timezone.now()
    code, detail = (result.code, str(result)) if isinstance(result, DeliveryError) else ("", result.reply)
    reference = result.reference if isinstance(result, Receipt) else ""
    fields = {
        "lease_until": None,
        "not_before": not_before or now,
        "sent_at": now if state == DeliveryState.SENT else None,
        "code": code[:40],
        "detail": detail[:500],
        "receipt": reference[:200],
    }
    # A swept row is already ``unknown``; a certain answer that comes late is still the better truth.
    moved = Delivery.objects.filter(
        pk=claim.delivery.pk,
        attempts=claim.attempt,
        state__in=[DeliveryState.SENDING, DeliveryState.UNKNOWN],
    ).update(state=state, **fields)
    if moved != 1:
        return
    DeliveryAttempt.objects.filter(delivery=claim.delivery, number=claim.attempt).update(
        finished_at=now, outcome=state, code=code[:40], detail=detail[:500]
    )
    event, outcome = _EVENT_OF[state]
    facts = {"attempt": claim.attempt, "code": code, "detail": detail[:500]}
    record(event, target=claim.delivery, outcome=outcome, facts=facts)
    close_if_done(claim.delivery.message_id)


def _postpone(claim: Claim, error: TryLater) -> None:
    if claim.attempt >= retry.MAX_ATTEMPTS:
        _finish(claim, DeliveryState.DEAD, error)
        return
    wait = retry.backoff(claim.attempt, fraction=random.random(), at_least=error.retry_after)  # noqa: S311 - jitter
    not_before = timezone.now() + timedelta(seconds=wait)
    _finish(claim, DeliveryState.WAITING, error, not_before=not_before)
    if error.retry_after is not None:
        # The receiver asked for quiet: nothing goes through this channel before that.
        due = Delivery.objects.filter(channel=claim.delivery.channel_id, state__in=sorted(DELIVERY_DUE))
        with transaction.atomic():
            _hold_back(due.filter(not_before__lt=not_before), not_before)


@transaction.atomic
def _mark_broken(channel: Channel, why: str) -> None:
    if Channel.objects.filter(pk=channel.pk, broken_at=None).update(broken_at=timezone.now(), broken_why=why[:300]):
        record(Event.CHANNEL_BROKEN, target=channel, outcome=Outcome.FAILURE, why=why)


def repair(*, channel: Channel, by: User, reason: str) -> None:
    """A person says that the channel works again; what it held goes on."""
    with transaction.atomic(), context.acting(by):
        Channel.objects.filter(pk=channel.pk).update(broken_at=None, broken_why="")
        record(Event.CHANNEL_REPAIRED, target=channel, why=clean_reason(reason))
        resume(channel)


def resume(channel: Channel) -> None:
    """Let the clock look again at what a channel held."""
    messages.look_again(Delivery.objects.filter(channel=channel))


def cancel_rest(*, message_id: int, by: User, reason: str) -> int:
    """A person decides that what a halted message has not sent is never sent. Returns how many deliveries that were.

    What is being sent at this moment, or may have arrived, is not touched: its outcome is still to come.
    """
    pauses.require_right(by)
    reason = pauses.require_reason(reason)
    released = story.latest(Event.MESSAGE_RELEASED, Message(pk=message_id))
    with transaction.atomic(), context.acting(by, parent_event_id=released):
        message = Message.objects.select_for_update(of=("self",)).get(pk=message_id)
        if not SendingPause.objects.in_force().of(message).exists():
            raise WrongState(_("Only what is left of a halted message can be cancelled."))
        cancelled = _cancel(message, why=reason, detail=f"{by}: {reason}")
        if not cancelled:
            raise WrongState(_("Nothing is left to cancel."))
    return cancelled


@transaction.atomic
def _cancel_uncovered(message_id: int) -> None:
    """The standing approval that released it has ended: what has not left, does not leave any more."""
    message = Message.objects.select_for_update(of=("self",)).get(pk=message_id)
    if message.state != MessageState.RELEASED or message.standing_approval_id is None or _gate_is_open(message):
        return
    why = _("standing approval %(number)s does not cover it any more") % {"number": message.standing_approval_id}
    _cancel(message, why=why, detail=why)


def _cancel(message: Message, *, why: str, detail: str) -> int:
    """What has not left is never sent. Returns how many deliveries that were. The message is locked."""
    rest = Delivery.objects.filter(
        message=message, state__in=allowed_from(DELIVERY_TRANSITIONS, DeliveryState.CANCELLED)
    )
    cancelled = rest.update(state=DeliveryState.CANCELLED, code="cancelled", detail=detail[:500])
    if cancelled:
        record(Event.DELIVERY_CANCELLED, target=message, why=why, facts={"cancelled": cancelled})
        close_if_done(message.pk)
    return cancelled


_ENDS = {
    MessageState.SENT: ApprovalState.EXECUTED,
    MessageState.PARTLY_SENT: ApprovalState.PARTLY_EXECUTED,
    MessageState.FAILED: ApprovalState.FAILED,
    MessageState.CANCELLED: ApprovalState.FAILED,
}


def close_if_done(message_id: int) -> None:
    """Finish the message once none of its deliveries is open. Call it in the transaction of the last change.

    The message's row is locked first: two workers that finish the last two deliveries must not each
    see the other's still open.
    """
    Message.objects.select_for_update(of=("self",)).get(pk=message_id)
    if Delivery.objects.filter(message=message_id, state__in=sorted(DELIVERY_OPEN)).exists():
        return
    counts = Delivery.objects.filter(message=message_id).aggregate(
        sent=Count("pk", filter=Q(state=DeliveryState.SENT)),
        cancelled=Count("pk", filter=Q(state=DeliveryState.CANCELLED)),
        total=Count("pk"),
    )
    state = _final_state(**counts)
    moved = Message.objects.filter(pk=message_id, state=MessageState.RELEASED).update(
        state=state, finished_at=timezone.now(), next_attempt_at=None
    )
    if moved:
        message = Message.objects.get(pk=message_id)
        messages.settle_entries(message, OfferState.SETTLED if counts["sent"] else OfferState.RELEASED)
        outcome = Outcome.SUCCESS if state == MessageState.SENT else Outcome.FAILURE
        record(Event.MESSAGE_FINISHED, target=message, outcome=outcome, facts={"state": state.value, **counts})
        approvals.finish(message, _ENDS[state], "" if outcome == Outcome.SUCCESS else message.get_state_display())


def _final_state(*, sent: int, cancelled: int, total: int) -> MessageState:
    if sent == total:
        return MessageState.SENT
    if sent:
        return MessageState.PARTLY_SENT
    return MessageState.CANCELLED if cancelled else MessageState.FAILED


@transaction.atomic
def _plan_next(message_id: int) -> None:
    """Tell the clock when this message wants a worker again.

    A row that another worker is sending counts with its lease: should that worker vanish, somebody has to come back.
    """
    Message.objects.select_for_update(of=("self",)).get(pk=message_id)
    times = _not_held(message_id).aggregate(
        due=Min("not_before", filter=Q(state__in=sorted(DELIVERY_DUE))),
        leased=Min("lease_until", filter=Q(state=DeliveryState.SENDING)),
    )
    following = min((instant for instant in times.values() if instant is not None), default=None)
    if following is not None:
        # What is due already waits behind another part or worker: no use in coming back this very second.
        following = max(following, timezone.now() + _BREATH)
    Message.objects.filter(pk=message_id, state=MessageState.RELEASED).update(next_attempt_at=following)


def abandoned(now: datetime) -> QuerySet[Delivery]:
    """Rows whose worker vanished in mid-call."""
    rows = Delivery.objects.filter(state=DeliveryState.SENDING, lease_until__lte=now)
    return rows.select_related("message", "channel", "part")


def give_up(delivery: Delivery) -> None:
    """Nobody knows whether an abandoned call arrived: a person will have to look."""
    message = delivery.message
    with context.system_acting(request_id=message.request_id, on_behalf_of=message.on_behalf_of):
        gone = OutcomeUnknown("worker_lost", "The worker stopped during the call; it may have arrived.")
        _finish(Claim(delivery, delivery.attempts), DeliveryState.UNKNOWN, gone)


def settle(*, delivery_id: int, by: User, arrived: bool, reason: str) -> None:
    """A person says what became of an unknown delivery: it arrived, or it is to be sent again."""
    if not by.has_perm("workflows.settle_delivery"):
        raise NotPermitted(_("Your role does not include settling deliveries."))
    reason = clean_reason(reason)
    if not reason:
        raise ReasonRequired(_("Say how you know."))
    now = timezone.now()
    state = DeliveryState.SENT if arrived else DeliveryState.QUEUED
    lost = story.latest(Event.DELIVERY_UNKNOWN, Delivery(pk=delivery_id))
    with transaction.atomic(), context.acting(by, parent_event_id=lost):
        delivery = Delivery.objects.select_related("message").select_for_update(of=("self",)).get(pk=delivery_id)
        if delivery.state != DeliveryState.UNKNOWN:
            raise WrongState(_("This delivery is not unknown any more."))
        _move(delivery, state, not_before=now, sent_at=now if arrived else None)
        record(Event.DELIVERY_SETTLED, target=delivery, why=reason, facts={"settled_as": state.value})
        if arrived:
            close_if_done(delivery.message_id)
        else:
            messages.wake(delivery.message_id, now)


def _move(delivery: Delivery, state: DeliveryState, **fields: object) -> None:
    moved = Delivery.objects.filter(
        pk=delivery.pk, state__in=allowed_from(DELIVERY_TRANSITIONS, state), attempts=delivery.attempts
    ).update(state=state, **fields)
    if moved != 1:
        raise WrongState(_("The delivery has moved on meanwhile."))
