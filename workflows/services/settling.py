"""What people decide about deliveries that failed, were given up, or may have arrived: it arrived, or send it again.

Sending again what needed approval needs it once more: the request names each recipient.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, story
from audit.recorder import Entry, record, record_all
from compliance_bot.guardrails import policy
from workflows.actions.redelivery import Redelivery
from workflows.domain.errors import Invalid, NotPermitted, ReasonRequired, StaleContent, WrongState
from workflows.domain.events import Event
from workflows.domain.states import (
    DELIVERY_TRANSITIONS,
    ApprovalState,
    DeliveryState,
    MessageState,
    allowed_from,
)
from workflows.models import ApprovalRequest, Delivery, Message
from workflows.services import approvals, delivery, messages
from workflows.services.reasons import clean_reason

ACTION = "redelivery"
MOST = 10_000
"""Deliveries in one decision."""

_AGAIN = allowed_from(DELIVERY_TRANSITIONS, DeliveryState.QUEUED)


def arrived(deliveries: Collection[int], *, by: User, reason: str) -> int:
    """A person says that unknown deliveries arrived. Returns how many."""
    reason = _require(deliveries, by, reason)
    with transaction.atomic(), context.acting(by, parent_event_id=_lost(deliveries)):
        rows = _locked(deliveries, {DeliveryState.UNKNOWN})
        Delivery.objects.filter(pk__in=[row.pk for row in rows]).update(
            state=DeliveryState.SENT, sent_at=timezone.now()
        )
        settled = {"settled_as": DeliveryState.SENT.value}
        record_all(Entry(what=Event.DELIVERY_SETTLED, target=row, why=reason, facts=settled) for row in rows)
        for message_id in sorted({row.message_id for row in rows}):
            delivery.close_if_done(message_id)
    return len(rows)


def send_again(deliveries: Collection[int], *, by: User, reason: str) -> list[ApprovalRequest]:
    """A person lets deliveries be sent again. Returns the requests, where a second person has to agree first."""
    reason = _require(deliveries, by, reason)
    requests = []
    with transaction.atomic(), context.acting(by, parent_event_id=_lost(deliveries)):
        for message, rows in _by_message(_locked(deliveries, _AGAIN)).items():
            _require_alive(message)
            if message.needs_approval and policy.current().actions.needs_approval(messages.ACTION):
                requests.append(_ask(message, rows, by, reason))
            else:
                _requeue(message, rows, reason)
    return requests


def _ask(message: Message, rows: Sequence[Delivery], by: User, reason: str) -> ApprovalRequest:
    return approvals.request(
        action=ACTION,
        subject=rows[0],
        size=message.people if any(row.address == "" for row in rows) else len({row.address for row in rows}),
        reason=reason,
        requested_by=by,
        authored_by=message.author,
        payload={"message": message.pk, "deliveries": sorted(row.pk for row in rows)},
        rule=policy.current().actions.rule(messages.ACTION),
    )


def _describe(approval: ApprovalRequest) -> Redelivery:
    message = Message.objects.get(pk=approval.payload["message"])
    rows = list(_rows(approval.payload["deliveries"]).order_by("pk"))
    if len(rows) != len(approval.payload["deliveries"]) or any(row.state not in _AGAIN for row in rows):
        raise StaleContent(_("Some of these deliveries have moved on meanwhile."))
    return Redelivery(
        message=message.pk,
        subject=message.subject,
        texts=[part.text for part in sorted({row.part for row in rows}, key=lambda part: part.pk)],
        deliveries=[
            {
                "id": row.pk,
                "recipient": row.recipient,
                "channel": row.channel.name,
                "address": row.address,
                "part": f"{row.part.number}/{row.part.of}",
                "state": row.state,
                "why": row.detail,
            }
            for row in rows
        ],
    )


def _execute(approval: ApprovalRequest, plain: Redelivery) -> ApprovalState:
    message = Message.objects.get(pk=plain.message)
    _require_alive(message)
    _requeue(message, _locked(approval.payload["deliveries"], _AGAIN), approval.reason)
    return ApprovalState.EXECUTED


approvals.carries_out(ACTION, approvals.Procedure(describe=_describe, execute=_execute))


def _requeue(message: Message, rows: Sequence[Delivery], reason: str) -> None:
    """Begin anew: the receiver takes it for another message, and the tries count from the first."""
    now = timezone.now()
    Delivery.objects.filter(pk__in=[row.pk for row in rows]).update(
        state=DeliveryState.QUEUED,
        not_before=now,
        attempts_before=F("attempts"),
        first_tried_at=None,
        parcel=None,
        code="",
        detail="",
    )
    settled = {"settled_as": DeliveryState.QUEUED.value}
    record_all(Entry(what=Event.DELIVERY_SETTLED, target=row, why=reason, facts=settled) for row in rows)
    reopened = Message.objects.filter(pk=message.pk, state__in=[MessageState.PARTLY_SENT, MessageState.FAILED]).update(
        state=MessageState.RELEASED, finished_at=None
    )
    if reopened:
        record(Event.MESSAGE_RELEASED, target=message, why=reason, facts={"again": len(rows)})
    messages.wake(message.pk, now)


def _require(deliveries: Collection[int], by: User, reason: str) -> str:
    if not by.has_perm("workflows.settle_delivery"):
        raise NotPermitted(_("Your role does not include settling deliveries."))
    if not deliveries:
        raise Invalid(_("Choose the deliveries first."), field="deliveries")
    if len(deliveries) > MOST:
        raise Invalid(_("At most %(most)s deliveries at a time: choose fewer.") % {"most": MOST}, field="deliveries")
    reason = clean_reason(reason)
    if not reason:
        raise ReasonRequired(_("Say how you know."))
    return reason


def _lost(deliveries: Collection[int]) -> uuid.UUID | None:
    """What the decision follows from, where it is about one."""
    return story.latest(Event.DELIVERY_UNKNOWN, Delivery(pk=next(iter(deliveries)))) if len(deliveries) == 1 else None


def _rows(deliveries: Collection[int]) -> QuerySet[Delivery]:
    return Delivery.objects.filter(pk__in=deliveries).select_related("message__author", "channel", "part")


def _locked(deliveries: Collection[int], states: Collection[DeliveryState]) -> list[Delivery]:
    """The rows, locked, all of them in one of ``states``. Raises WrongState."""
    rows = list(_rows(deliveries).select_for_update(of=("self",)).order_by("pk"))
    if len(rows) != len(set(deliveries)) or any(row.state not in states for row in rows):
        raise WrongState(_("Some of these deliveries have moved on meanwhile: look again."))
    return rows


def _by_message(rows: Sequence[Delivery]) -> dict[Message, list[Delivery]]:
    found: dict[Message, list[Delivery]] = defaultdict(list)
    for row in rows:
        found[row.message].append(row)
    return found


def _require_alive(message: Message) -> None:
    if message.state == MessageState.CANCELLED:
        raise WrongState(_("“%(subject)s” was cancelled.") % {"subject": message.subject})
    if message.valid_until is not None and message.valid_until <= timezone.now():
        raise WrongState(_("The time of “%(subject)s” is over.") % {"subject": message.subject})
