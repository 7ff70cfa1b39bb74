"""Carrying released messages out: waves of calls, each claimed before and kept after, until nothing is due.

No call happens inside a transaction, and none happens without a claim committed before it (``ledger``).
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, Min, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, story
from audit.recorder import Outcome, record
from compliance_bot.guardrails.secrets import SecretError
from workflows.channels import DeliveryError, Receipt, Rejected
from workflows.domain.errors import WrongState
from workflows.domain.events import Event
from workflows.domain.states import (
    DELIVERY_DUE,
    DELIVERY_OPEN,
    DELIVERY_TRANSITIONS,
    ApprovalState,
    DeliveryState,
    MessageState,
    OfferState,
    allowed_from,
)
from workflows.models import Channel, Delivery, Message, SendingPause
from workflows.registry import UnknownKind
from workflows.services import approvals, ledger, messages, outcomes, pauses
from workflows.services.ledger import Wave
from workflows.services.lines import Lines
from workflows.services.reasons import clean_reason

# A queue task may take 60 s; the last wave begins well before that.
_TASK_SECONDS = 30.0
_BREATH = timedelta(seconds=2)


def dispatch(message_id: int) -> int:
    """Send what is due of a released message, and what is more urgent, until nothing is or the task's time is over.

    Several workers may do this at once. Returns the number of calls made.
    """
    calls, touched = 0, {message_id}
    deadline = time.monotonic() + _TASK_SECONDS
    with Lines() as lines:
        wave = ledger.claim(message_id)
        while wave is not None:
            touched.add(wave.message.pk)
            results = _send(wave, lines)
            calls += len(wave.loads)
            unforeseen = [result for result in results if not isinstance(result, Receipt | DeliveryError)]
            with transaction.atomic():
                outcomes.finish(wave, results)
                goes_on = not unforeseen and time.monotonic() < deadline
                wave = ledger.claim(message_id) if goes_on else None
            if unforeseen:
                raise unforeseen[0]
    for pk in sorted(touched):
        _leave(pk)
    return calls


def _send(wave: Wave, lines: Lines) -> Sequence[Receipt | DeliveryError | BaseException]:
    """What came of each parcel of the wave."""
    try:
        with ledger.under(wave.message):
            line = lines.to(wave.channel, purpose=f"delivery of message {wave.message.pk}")
    except (UnknownKind, SecretError) as error:
        return [Rejected("unusable", str(error), channel_broken=True)] * len(wave.loads)
    # Bound to the very values that are used: between release and now the channel may have been led elsewhere.
    if line.fingerprint != wave.fingerprint:
        changed = Rejected("channel_changed", _("The channel was changed after the release: it may lead elsewhere."))
        return [changed] * len(wave.loads)
    return line.send([load.parcel for load in wave.loads], partial(ledger.may_go_on, wave, time.monotonic()))


@transaction.atomic
def _leave(message_id: int) -> None:
    """Nothing can be sent now: finish the message, or tell the clock when it wants a worker again."""
    message = Message.objects.select_for_update(of=("self",)).get(pk=message_id)
    with ledger.under(message):
        _cancel_uncovered(message)
        close_if_done(message_id)
    _plan_next(message_id)


def repair(*, channel: Channel, by: User, reason: str) -> None:
    """A person says that the channel works again; what it held goes on."""
    with transaction.atomic(), context.acting(by):
        Channel.objects.filter(pk=channel.pk).update(broken_at=None, broken_why="", probe_at=None)
        record(Event.CHANNEL_REPAIRED, target=channel, why=clean_reason(reason))
        resume(channel)


def resume(channel: Channel) -> None:
    """Let the clock look again at what a channel held."""
    messages.look_again(Delivery.objects.filter(channel=channel))


def to_probe(now: datetime) -> QuerySet[Channel]:
    """Channels that are out of order and may be tried again with one call."""
    return Channel.objects.filter(enabled=True, broken_at__isnull=False, probe_at__lte=now)


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


def _cancel_uncovered(message: Message) -> None:
    """The standing approval that released it has ended: what has not left, does not leave any more."""
    if message.state != MessageState.RELEASED or message.standing_approval_id is None or ledger.gate_is_open(message):
        return
    why = _("standing approval %(number)s does not cover it any more") % {"number": message.standing_approval_id}
    _cancel(message, why=why, detail=why)


def _cancel(message: Message, *, why: str, detail: str) -> int:
    """What has not left is never sent. Returns how many deliveries that were. The message is locked."""
    rest = Delivery.objects.filter(
        message=message, state__in=allowed_from(DELIVERY_TRANSITIONS, DeliveryState.CANCELLED)
    )
    cancelled = rest.update(state=DeliveryState.CANCELLED, not_before=None, code="cancelled", detail=detail[:500])
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


def _plan_next(message_id: int) -> None:
    """Tell the clock when this message wants a worker again.

    A row that another worker is sending counts with its lease: should that worker vanish, somebody has to come back.
    """
    times = ledger.not_held(message_id, timezone.now()).aggregate(
        due=Min("not_before", filter=Q(state__in=sorted(DELIVERY_DUE))),
        leased=Min("lease_until", filter=Q(state=DeliveryState.SENDING)),
    )
    following = min((instant for instant in times.values() if instant is not None), default=None)
    if following is not None:
        # What is due already waits behind another part or worker: no use in coming back this very second.
        following = max(following, timezone.now() + _BREATH)
    Message.objects.filter(pk=message_id, state=MessageState.RELEASED).update(next_attempt_at=following)
