"""The rows of deliveries, claimed in waves before their calls; ``outcomes`` tells them the truth afterwards.

A wave is what one worker sends side by side: rows of one message, channel and part. It is marked ``sending`` and
committed before the first call, so a worker that dies leaves rows with a lease, and what became of them is ``unknown``
- or, where the receiver recognises a repetition, they are repeated as the very parcels that they were.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Count, DateTimeField, Exists, F, Min, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.formats import localize
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import Entry, Outcome, record, record_all
from workflows import channels
from workflows.channels import Parcel
from workflows.domain.errors import WrongState
from workflows.domain.events import Event
from workflows.domain.states import (
    APPROVAL_CARRIED_OUT,
    DELIVERY_DUE,
    DeliveryState,
    MessageState,
)
from workflows.models import ApprovalRequest, Channel, Delivery, DeliveryAttempt, Message, Suppression
from workflows.models.suppression import folded
from workflows.services import pacing, pauses, standing

# Longer than any adapter's call may take (a token, an upload, both once more, and the call itself), so that a live
# worker is never overtaken.
LEASE = timedelta(seconds=100)
# Seconds after the first call of a wave in which its last one may begin.
_LAST_BEGINS = 20.0
_CALLS_A_THREAD = 4
# So many more urgent messages are looked at between two waves.
_STEPS_ASIDE = 5
_KEYS = uuid.UUID("5d1c3f0a-8f5e-4a53-9d2f-6a0f4a1f9b57")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The rows of one parcel; an attempt's number tells a late answer from a newer try."""

    parcel: Parcel
    rows: Sequence[Delivery]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """What one worker alone may send now."""

    message: Message
    channel: Channel
    fingerprint: str
    loads: Sequence[Load]
    grant: pacing.Grant


@transaction.atomic
def claim(message_id: int) -> Wave | None:
    """Take the next wave of a message, or of a more urgent one; None when nothing can be sent now.

    Nobody pauses sending before the claim is committed.
    """
    pauses.keep_switch()
    now = timezone.now()
    for message in _by_urgency(message_id, now):
        with under(message):
            if message.valid_until is not None and message.valid_until <= now:
                _expire(message)
            elif gate_is_open(message) and (wave := _next_wave(message, now)) is not None:
                return wave
    return None


def _by_urgency(message_id: int, now: datetime) -> list[Message]:
    """A mass send steps aside between two waves for what is more urgent."""
    own = Message.objects.get(pk=message_id)
    due = Delivery.objects.filter(message=OuterRef("pk"), not_before__lte=now)
    urgent = Message.objects.filter(Exists(due), state=MessageState.RELEASED, priority__lt=own.priority)
    return [*urgent.order_by("priority", "id")[:_STEPS_ASIDE], own]


def gate_is_open(message: Message) -> bool:
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


def _next_wave(message: Message, now: datetime) -> Wave | None:
    while (
        first := _due(message.pk, now).select_related("channel", "part").order_by("not_before", "id").first()
    ) is not None:
        rows = _rows_with(first, now)
        if not rows:
            return None  # another worker takes them at this moment, or their recipients have had enough for now
        loads = _loads(message, first, _without_the_suppressed(message, rows))
        if not loads:
            continue
        grant = pacing.take(pacing.channel_lanes(first.channel), now, wanted=len(loads))
        if grant.calls:
            wave = Wave(
                message=message,
                channel=first.channel,
                fingerprint=first.channel_fingerprint,
                loads=loads[: grant.calls],
                grant=grant,
            )
            _take(wave, now)
            return wave
        # The channel is busy: everything of this message that goes through it waits for the same instant.
        hold_back(_due(message.pk, now).filter(channel=first.channel_id), grant.ask_again)
    return None


def _due(message_id: int, now: datetime) -> QuerySet[Delivery]:
    """What may be claimed now: parts arrive in order, so those before it to the same recipient are through."""
    earlier = Delivery.objects.filter(
        message=message_id,
        channel=OuterRef("channel"),
        address=OuterRef("address"),
        part__number__lt=OuterRef("part__number"),
        state__in=sorted(DELIVERY_DUE | {DeliveryState.SENDING}),
    )
    return not_held(message_id, now).filter(Q(part__number=1) | ~Exists(earlier), not_before__lte=now)


def not_held(message_id: int, now: datetime) -> QuerySet[Delivery]:
    """A pause holds deliveries until it is lifted, a channel that is off or out of order until it works again."""
    works = Q(channel__broken_at=None) | Q(channel__probe_at__lte=now)
    return Delivery.objects.filter(pauses.none_holds(message_id), works, message=message_id, channel__enabled=True)


def _rows_with(first: Delivery, now: datetime) -> list[Delivery]:
    """``first`` and what may leave side by side with it, locked. Rows that another worker holds are left to it."""
    adapter = adapter_of(first.channel)
    if first.parcel is not None:
        return _rows_of_parcel(first)
    rows = _due(first.message_id, now).filter(
        channel=first.channel_id, part=first.part_id, channel_fingerprint=first.channel_fingerprint, parcel=None
    )
    most = _rows_at_once(adapter) if adapter and first.channel.broken_at is None else 1
    rows = rows.order_by("not_before", "id")[:most]
    if connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True, of=("self",))
    found = list(rows)
    if first.channel.broken_at is not None and not _begin_probe(first.channel, now):
        return []
    if adapter is not None and adapter.at_once > 1:
        found = found[: adapter.bundle([row.address for row in found])]
    for row in found:
        row.part, row.channel = first.part, first.channel
    return found if adapter is None else _without_the_saturated(found, adapter, now)


def _rows_at_once(adapter: channels.Channel) -> int:
    """Several for each of its threads: what a wave costs by itself is shared by more."""
    return adapter.at_once if adapter.side_by_side == 1 else adapter.side_by_side * _CALLS_A_THREAD


def may_go_on(wave: Wave, began: float) -> bool:
    """Whether a call of the wave may still begin: not once it is paused, nor when its lease could end before it does.

    ``began``: the monotonic time of the first call.
    """
    if time.monotonic() - began > _LAST_BEGINS:
        return False
    return pauses.in_force(wave.loads[0].rows[0]) is None


def _rows_of_parcel(first: Delivery) -> list[Delivery]:
    """All that one call carried: it is repeated as it was, so whoever takes it must get all of it."""
    Message.objects.select_for_update(of=("self",)).get(pk=first.message_id)
    rows = list(Delivery.objects.filter(parcel=first.parcel, state__in=sorted(DELIVERY_DUE)).order_by("pk"))
    for row in rows:
        row.part, row.channel = first.part, first.channel
    return rows


def _begin_probe(channel: Channel, now: datetime) -> bool:
    """One call tries whether a channel works again; the others wait for what comes of it."""
    due = Channel.objects.filter(pk=channel.pk, probe_at__lte=now)
    return due.update(probe_at=now + 2 * LEASE) == 1


def _without_the_saturated(rows: list[Delivery], adapter: channels.Channel, now: datetime) -> list[Delivery]:
    """Without those who have had as much as the receiver lets one person have: the rest would be lost in silence."""
    for window, most in adapter.per_recipient.items():
        if not rows:
            return rows
        recent = Q(sent_at__gt=now - window) | Q(
            state__in=[DeliveryState.SENDING, DeliveryState.UNKNOWN], first_tried_at__gt=now - window
        )
        had = Delivery.objects.filter(recent, channel=rows[0].channel_id, address__in=[row.address for row in rows])
        full = dict(
            had.order_by()
            .values("address")
            .annotate(number=Count("pk"), oldest=Min("first_tried_at"))
            .filter(number__gte=most)
            .values_list("address", "oldest")
        )
        for row in rows:
            if row.address in full:
                Delivery.objects.filter(pk=row.pk).update(not_before=max(full[row.address], now - window) + window)
        rows = [row for row in rows if row.address not in full]
    return rows


def _without_the_suppressed(message: Message, rows: list[Delivery]) -> list[Delivery]:
    """Whoever asked not to be contacted after the release is not, either. A parcel that is repeated stays as it was."""
    if not rows or rows[0].parcel is not None:
        return rows
    address_of = {row.pk: folded(row.address) for row in rows}
    kinds = ("", rows[0].channel.kind)
    suppressed = Suppression.objects.filter(address__in=set(address_of.values()), channel_kind__in=kinds)
    never = set(suppressed.values_list("address", flat=True))
    gone = {pk for pk, address in address_of.items() if address in never}
    if gone:
        why = _("the address is never to be contacted")
        Delivery.objects.filter(pk__in=gone, state__in=sorted(DELIVERY_DUE)).update(
            state=DeliveryState.CANCELLED, not_before=None, code="suppressed", detail=why
        )
        record(Event.DELIVERY_CANCELLED, target=message, why=why, facts={"suppressed": len(gone)})
    return [row for row in rows if row.pk not in gone]


def _loads(message: Message, first: Delivery, rows: Sequence[Delivery]) -> list[Load]:
    """One parcel for all of the rows where the channel takes many at once, else one for each."""
    adapter = adapter_of(first.channel)
    part = first.part.as_part()
    if rows and adapter is not None and adapter.at_once > 1:
        rows = sorted(rows, key=lambda row: row.pk)  # the same order when it is repeated
        key = str(first.parcel or uuid.uuid4())
        return [Load(parcel=Parcel(part=part, addresses=tuple(row.address for row in rows), key=key), rows=rows)]
    return [
        Load(parcel=Parcel(part=part, addresses=(row.address,), key=_key(message, row)), rows=[row]) for row in rows
    ]


def _key(message: Message, row: Delivery) -> str:
    """The same whenever it is tried again, and another one once a person has let it be sent again."""
    return str(uuid.uuid5(_KEYS, f"{message.content_digest}:{row.pk}:{row.attempts_before}"))


def _take(wave: Wave, now: datetime) -> None:
    rows = [row for load in wave.loads for row in load.rows]
    parcel = wave.loads[0].parcel.key if len(rows) > len(wave.loads) else None
    taken = Delivery.objects.filter(pk__in=[row.pk for row in rows], state__in=sorted(DELIVERY_DUE)).update(
        state=DeliveryState.SENDING,
        attempts=F("attempts") + 1,
        first_tried_at=Coalesce("first_tried_at", Value(now, DateTimeField())),
        parcel=parcel,
        not_before=None,
        lease_until=now + LEASE,
    )
    if taken != len(rows):
        raise WrongState(_("The deliveries have moved on meanwhile."))
    for row in rows:
        row.attempts += 1
        row.first_tried_at = row.first_tried_at or now
    DeliveryAttempt.objects.bulk_create(
        DeliveryAttempt(delivery=row, number=row.attempts, started_at=now) for row in rows
    )
    record_all(_attempts(wave, parcel))


def _attempts(wave: Wave, parcel: str | None) -> Iterator[Entry]:
    """One event for each call: of one row, or of a message whose rows go together."""
    if parcel is None:
        for load in wave.loads:
            for row in load.rows:
                yield Entry(what=Event.DELIVERY_ATTEMPTED, target=row, facts={"attempt": row.attempts})
        return
    rows = wave.loads[0].rows
    facts = {"parcel": parcel, "recipients": len(rows), "first": rows[0].pk, "last": rows[-1].pk}
    yield Entry(what=Event.DELIVERY_ATTEMPTED, target=wave.message, facts=facts)


def hold_back(rows: QuerySet[Delivery], until: datetime) -> None:
    """Rows that another worker holds at this moment are left to it: waiting for them could be waiting in a circle."""
    if connection.features.has_select_for_update_skip_locked:
        locked = rows.order_by().select_for_update(skip_locked=True, of=("self",))
        rows = Delivery.objects.filter(pk__in=list(locked.values_list("pk", flat=True)))
    rows.update(not_before=until)


def _expire(message: Message) -> None:
    """Its time is over: what has not left, does not leave any more."""
    why = _("it was to leave before %(instant)s") % {"instant": localize(message.valid_until)}
    rest = Delivery.objects.filter(message=message, state__in=sorted(DELIVERY_DUE))
    if late := rest.update(state=DeliveryState.DEAD, not_before=None, code="too_late", detail=why[:500]):
        record(Event.DELIVERY_FAILED, target=message, outcome=Outcome.FAILURE, why=why, facts={"too_late": late})


@contextmanager
def under(message: Message) -> Iterator[None]:
    """Whatever a worker does for a message follows from who released it."""
    if message.request_id is None:
        yield
        return
    with context.system_acting(request_id=message.request_id, on_behalf_of=message.on_behalf_of):
        yield


def adapter_of(channel: Channel) -> channels.Channel | None:
    """None for a kind that this version does not have: its call will say so."""
    return next((adapter for adapter in channels.registry if adapter.kind == channel.kind), None)
