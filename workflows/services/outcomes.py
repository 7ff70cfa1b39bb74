"""What came of calls: written to their rows, told to the trail, and to the channel where it is about the channel.

A late answer counts while nobody has overtaken it: a swept row is already ``unknown``, and a certain answer is the
better truth.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.recorder import Entry, Outcome, record, record_all
from workflows.channels import DeliveryError, OutcomeUnknown, Parcel, Receipt, Rejected, TryLater
from workflows.domain import retry
from workflows.domain.content import Part
from workflows.domain.events import Event
from workflows.domain.states import DeliveryState, Priority
from workflows.models import Channel, Delivery, DeliveryAttempt
from workflows.services import ledger, messages, pacing
from workflows.services.queue import enqueue

_NOTHING = Parcel(part=Part(number=1, of=1, text=""), addresses=(), key="")
# A channel that is out of order is tried again after so long, and twice as long each further time.
_FIRST_PROBE, _LAST_PROBE = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What a row becomes."""

    state: DeliveryState
    code: str = ""
    detail: str = ""
    receipt: str = ""
    not_before: datetime | None = None


_EVENT_OF = {
    DeliveryState.SENT: (Event.DELIVERY_SENT, Outcome.SUCCESS),
    DeliveryState.WAITING: (Event.DELIVERY_POSTPONED, Outcome.FAILURE),
    DeliveryState.UNKNOWN: (Event.DELIVERY_UNKNOWN, Outcome.FAILURE),
    DeliveryState.FAILED: (Event.DELIVERY_FAILED, Outcome.FAILURE),
    DeliveryState.DEAD: (Event.DELIVERY_FAILED, Outcome.FAILURE),
}


@transaction.atomic
def finish(wave: ledger.Wave, results: Sequence[Receipt | DeliveryError | BaseException]) -> None:
    """Keep what came of each parcel. A row whose call ended in an unforeseen way is left to its lease."""
    now = timezone.now()
    with ledger.under(wave.message):
        pacing.free(wave.grant, now)
        fates = {
            row: fate
            for load, result in zip(wave.loads, results, strict=True)
            if isinstance(result, Receipt | DeliveryError)
            for row, fate in _fates(wave, load, result, now)
        }
        keep(fates, now)
        for error in (result for result in results if isinstance(result, DeliveryError)):
            _tell_channel(wave.channel, error, now)
        if wave.channel.broken_at is not None and any(isinstance(result, Receipt) for result in results):
            _mark_repaired(wave.channel)


def _fates(
    wave: ledger.Wave, load: ledger.Load, result: Receipt | DeliveryError, now: datetime
) -> Iterator[tuple[Delivery, Fate]]:
    luck = random.random()  # noqa: S311 - jitter, the same for all of a parcel: it stays together
    for row in load.rows:
        match result:
            case Receipt():
                refusal = result.refused.get(row.address)
                yield row, _failed(refusal) if refusal else _sent(result)
            case Rejected(channel_broken=True):
                yield row, _again(wave, row, result, now, luck, otherwise=DeliveryState.DEAD)
            case Rejected():
                yield row, _failed(result)
            case TryLater():
                yield row, _again(wave, row, result, now, luck, otherwise=DeliveryState.DEAD)
            case _:
                yield row, _maybe_again(wave, row, result, now, luck)


def _sent(receipt: Receipt) -> Fate:
    return Fate(state=DeliveryState.SENT, detail=receipt.reply[:500], receipt=receipt.reference[:200])


def _failed(error: DeliveryError) -> Fate:
    return Fate(state=DeliveryState.FAILED, code=error.code[:40], detail=str(error)[:500])


def _again(
    wave: ledger.Wave, row: Delivery, error: DeliveryError, now: datetime, luck: float, *, otherwise: DeliveryState
) -> Fate:
    """Another try, unless there were enough, or the message would be stale by then."""
    tries = row.attempts - row.attempts_before
    asked_for = error.retry_after if isinstance(error, TryLater) else None
    wait = retry.backoff(tries, fraction=luck, at_least=asked_for)
    at = now + timedelta(seconds=wait)
    first = row.first_tried_at or now
    is_worth_it = tries < retry.MAX_ATTEMPTS and at <= first + retry.LONGEST[Priority(wave.message.priority)]
    state = DeliveryState.WAITING if is_worth_it else otherwise
    return Fate(state=state, code=error.code[:40], detail=str(error)[:500], not_before=at if is_worth_it else None)


def _maybe_again(wave: ledger.Wave, row: Delivery, error: DeliveryError, now: datetime, luck: float) -> Fate:
    """It may have arrived: repeated only while the receiver would recognise the repetition."""
    adapter = ledger.adapter_of(wave.channel)
    window = adapter.repeatable_for(wave.channel.config, row.part.form) if adapter else timedelta(0)
    fate = _again(wave, row, error, now, luck, otherwise=DeliveryState.UNKNOWN)
    if fate.not_before is None or fate.not_before + ledger.LEASE <= (row.first_tried_at or now) + window:
        return fate
    return replace(fate, state=DeliveryState.UNKNOWN, not_before=None)


def keep(fates: Mapping[Delivery, Fate], now: datetime) -> None:
    """Write what rows became, unless a newer try or a person has overtaken this one."""
    open_rows = Delivery.objects.filter(
        pk__in=[row.pk for row in fates], state__in=[DeliveryState.SENDING, DeliveryState.UNKNOWN]
    )
    current = dict(open_rows.select_for_update(of=("self",)).order_by("pk").values_list("pk", "attempts"))
    valid = [row for row in fates if current.get(row.pk) == row.attempts]
    alike = defaultdict(list)
    for row in valid:
        alike[fates[row], row.attempts].append(row.pk)
    for (fate, attempt), pks in alike.items():
        Delivery.objects.filter(pk__in=pks).update(
            state=fate.state,
            lease_until=None,
            not_before=fate.not_before,
            sent_at=now if fate.state == DeliveryState.SENT else None,
            code=fate.code,
            detail=fate.detail,
            receipt=fate.receipt,
        )
        DeliveryAttempt.objects.filter(delivery__in=pks, number=attempt).update(
            finished_at=now, outcome=fate.state, code=fate.code, detail=fate.detail
        )
    record_all(_told(row, fates[row]) for row in valid)


def _told(row: Delivery, fate: Fate) -> Entry:
    what, outcome = _EVENT_OF[fate.state]
    facts = {"attempt": row.attempts, "code": fate.code, "detail": fate.detail}
    return Entry(what=what, target=row, outcome=outcome, facts=facts)


def _tell_channel(channel: Channel, error: DeliveryError, now: datetime) -> None:
    if isinstance(error, Rejected) and error.channel_broken:
        _mark_broken(channel, str(error), now)
    elif isinstance(error, TryLater) and error.retry_after is not None:
        # The receiver asked for quiet: nothing goes through this channel before that.
        until = now + timedelta(seconds=error.retry_after)
        ledger.hold_back(Delivery.objects.filter(channel=channel, not_before__lt=until), until)


def _mark_broken(channel: Channel, why: str, now: datetime) -> None:
    """Out of order, and tried again with one call after a while, later and later."""
    since = channel.broken_at or now
    probe_at = now + min(max(_FIRST_PROBE, now - since), _LAST_PROBE)
    newly = Channel.objects.filter(pk=channel.pk, broken_at=None).update(
        broken_at=now, broken_why=why[:300], probe_at=probe_at
    )
    if newly:
        record(Event.CHANNEL_BROKEN, target=channel, outcome=Outcome.FAILURE, why=why)
        enqueue("workflows.tasks.alert_channel", channel.pk)
    else:
        Channel.objects.filter(pk=channel.pk).update(broken_why=why[:300], probe_at=probe_at)


def _mark_repaired(channel: Channel) -> None:
    if Channel.objects.filter(pk=channel.pk, broken_at__isnull=False).update(
        broken_at=None, broken_why="", probe_at=None
    ):
        record(Event.CHANNEL_REPAIRED, target=channel, why=_("it took a message again"))
        messages.look_again(Delivery.objects.filter(channel=channel))


def abandoned(now: datetime) -> QuerySet[Delivery]:
    """Rows whose worker vanished in mid-call."""
    rows = Delivery.objects.filter(state=DeliveryState.SENDING, lease_until__lte=now)
    return rows.select_related("message", "channel", "part")


def give_up(row: Delivery, now: datetime) -> None:
    """Nobody knows whether an abandoned call arrived: repeated where the receiver would notice, else a person looks.

    All rows of one parcel together, so that they stay together.
    """
    gone = OutcomeUnknown("worker_lost", _("The worker stopped during the call; it may have arrived."))
    no_slots = pacing.Grant(calls=1, ask_again=now)
    wave = ledger.Wave(message=row.message, channel=row.channel, fingerprint="", loads=(), grant=no_slots)
    together = Q(pk=row.pk) if row.parcel is None else Q(parcel=row.parcel)
    with transaction.atomic(), ledger.under(row.message):
        fates = _fates(wave, ledger.Load(parcel=_NOTHING, rows=list(abandoned(now).filter(together))), gone, now)
        keep(dict(fates), now)
