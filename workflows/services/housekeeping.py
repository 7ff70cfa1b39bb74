"""Rows that have served their purpose are removed; the trail still tells what they were about.

What is kept for good: messages, approvals and decisions; every digest that became a message; every item that was
offered to people, because it is the memory of what must not be offered again. What a legal hold names stays too.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _
from django_q.models import Task

from audit import holds
from audit.recorder import record
from audit.retention import older_than
from audit.vocabulary import TrailEvent
from compliance_bot.guardrails import policy
from workflows.domain.states import DELIVERY_OPEN, OFFER_TAKEN, RUN_ACTIVE, ImportState, InboundState, MessageState
from workflows.models import (
    Attachment,
    Delivery,
    DeliveryAttempt,
    Digest,
    DigestEntry,
    InboundEvent,
    Item,
    MemberImport,
    MessagePart,
    Run,
    Workflow,
)

# Rows removed in one transaction: longer ones would keep everybody else waiting.
BATCH = 1_000
# A file of members that nobody confirmed holds addresses for nothing.
_UNCONFIRMED_DAYS = 1
_FINISHED = (MessageState.SENT, MessageState.PARTLY_SENT, MessageState.FAILED, MessageState.CANCELLED)


def _nothing_holds(shield: holds.Shield, row: tuple[Any, ...]) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chore:
    """One kind of rows: which may go and why, whether a hold names one, and how they go with what hangs on them.

    ``rows`` yields the key first; ``kept`` gets the shield and such a row.
    """

    name: str
    why: str
    rows: QuerySet[Any, tuple[Any, ...]]
    remove: Callable[[Sequence[Any]], None]
    is_held: Callable[[holds.Shield, tuple[Any, ...]], bool] = _nothing_holds


def keep_house(now: datetime, until: float | None = None) -> bool:
    """Remove what the policy's ``retention`` no longer keeps; False when time (``until``, monotonic) ran out first.

    Each batch is a transaction of its own, recorded in it; a crash between two loses nothing and is made good later.
    """
    return all(_do(chore, until) for chore in _chores(now))


def _chores(now: datetime) -> Iterator[_Chore]:
    """In the order in which rows hang on each other."""
    keep = policy.current().retention
    yield _deliveries(now, keep.deliveries)
    yield _parts(now, keep.deliveries)
    yield _attachments(now, keep.deliveries)
    yield _runs(now, keep.runs)
    yield _items(now, keep.items)
    yield _Chore(
        name="callbacks",
        why=older_than(keep.runs),
        rows=InboundEvent.objects.exclude(state=InboundState.NEW)
        .filter(received_at__lt=now - timedelta(days=keep.runs))
        .values_list("pk"),
        remove=_raw(InboundEvent),
    )
    yield _Chore(
        name="imports",
        why=older_than(_UNCONFIRMED_DAYS),
        rows=MemberImport.objects.filter(
            state=ImportState.CHECKED, uploaded_at__lt=now - timedelta(days=_UNCONFIRMED_DAYS)
        ).values_list("pk"),
        remove=_raw(MemberImport),
    )
    yield _Chore(
        name="queue",
        why=older_than(keep.queue),
        rows=Task.objects.filter(stopped__lt=now - timedelta(days=keep.queue)).values_list("pk"),
        remove=_raw(Task),
    )
    yield _Chore(
        name="sessions",
        why=_("expired"),
        rows=Session.objects.filter(expire_date__lt=now).values_list("pk"),
        remove=_raw(Session),
    )


def _do(chore: _Chore, until: float | None) -> bool:
    after: Any = None
    while until is None or time.monotonic() < until:
        with transaction.atomic():
            rows = chore.rows.order_by("pk") if after is None else chore.rows.filter(pk__gt=after).order_by("pk")
            batch = list(rows[:BATCH])
            if not batch:
                return True
            holds.stand_still()
            shield = holds.shield()
            going = [row[0] for row in batch if not chore.is_held(shield, row)]
            if going:
                chore.remove(going)
                record(TrailEvent.HOUSE_KEPT, why=chore.why, facts={"what": chore.name, "removed": len(going)})
        after = batch[-1][0]
    return False


def _deliveries(now: datetime, days: int) -> _Chore:
    """Of finished messages, with their attempts; never one whose outcome is open or unknown."""
    rows = _of_finished(Delivery.objects.all(), now - timedelta(days=days)).exclude(state__in=sorted(DELIVERY_OPEN))

    def remove(pks: Sequence[int]) -> None:
        _raw(DeliveryAttempt, "delivery__in")(pks)
        _raw(Delivery)(pks)

    return _Chore(
        name="deliveries",
        why=older_than(days),
        rows=rows.values_list("pk", "message_id", "message__request_id", "message__workflow_id"),
        remove=remove,
        is_held=_delivery_is_held,
    )


def _delivery_is_held(shield: holds.Shield, row: tuple[Any, ...]) -> bool:
    return shield.protects("workflows.delivery", row[0], row[2]) or _message_is_held(shield, row)


def _parts(now: datetime, days: int) -> _Chore:
    """The payloads that no delivery needs any more; the message itself stays."""
    unneeded = ~Exists(Delivery.objects.filter(part=OuterRef("pk")))
    rows = _of_finished(MessagePart.objects.all(), now - timedelta(days=days)).filter(unneeded)
    return _Chore(
        name="parts",
        why=older_than(days),
        rows=rows.values_list("pk", "message_id", "message__request_id", "message__workflow_id"),
        remove=_raw(MessagePart),
        is_held=_message_is_held,
    )


def _attachments(now: datetime, days: int) -> _Chore:
    """The files of messages whose payloads are gone."""
    unneeded = ~Exists(MessagePart.objects.filter(message=OuterRef("message")))
    rows = _of_finished(Attachment.objects.all(), now - timedelta(days=days)).filter(unneeded)
    return _Chore(
        name="attachments",
        why=older_than(days),
        rows=rows.values_list("pk", "message_id", "message__request_id", "message__workflow_id"),
        remove=_raw(Attachment),
        is_held=_message_is_held,
    )


def _of_finished(rows: QuerySet[Any], before: datetime) -> QuerySet[Any]:
    return rows.filter(message__state__in=_FINISHED, message__finished_at__lt=before)


def _message_is_held(shield: holds.Shield, row: tuple[Any, ...]) -> bool:
    return shield.protects("workflows.message", row[1], row[2]) or shield.protects("workflows.workflow", row[3], row[2])


def _runs(now: datetime, days: int) -> _Chore:
    """Finished runs, with a digest that led to no message and holds no item's place."""
    digests = Digest.objects.filter(run=OuterRef("pk"))
    taken = DigestEntry.objects.filter(digest__run=OuterRef("pk"), state__in=sorted(OFFER_TAKEN))
    rows = Run.objects.exclude(state__in=sorted(RUN_ACTIVE)).filter(
        ~Exists(digests.filter(message__isnull=False)), ~Exists(taken), finished_at__lt=now - timedelta(days=days)
    )

    def remove(pks: Sequence[int]) -> None:
        _raw(DigestEntry, "digest__run__in")(pks)
        _raw(Digest, "run__in")(pks)
        _raw(Run)(pks)

    return _Chore(
        name="runs",
        why=older_than(days),
        rows=rows.values_list("pk", "workflow_id", "request_id", "digest__pk"),
        remove=remove,
        is_held=_run_is_held,
    )


def _run_is_held(shield: holds.Shield, row: tuple[Any, ...]) -> bool:
    pk, workflow, request_id, digest = row
    named = (("workflows.run", pk), ("workflows.workflow", workflow), ("workflows.digest", digest))
    return any(shield.protects(kind, key, request_id) for kind, key in named)


def _items(now: datetime, days: int) -> _Chore:
    """Items that nobody was offered and that could not be offered again even if their source still listed them.

    When a source stopped listing an item is not known. An item that comes back is stored anew as seen today, so only
    those go whose own date keeps them out of every workflow that reads the source.
    """
    before = now - timedelta(days=days)
    unlimited = Q(max_age_days=None) | Q(max_age_days__gt=days)
    readers = Workflow.objects.filter(unlimited, sources=OuterRef("source"))
    rows = Item.objects.filter(
        ~Exists(DigestEntry.objects.filter(item=OuterRef("pk"))),
        ~Exists(readers),
        first_seen_at__lt=before,
        published_at__lt=before,
    )
    return _Chore(
        name="items",
        why=older_than(days),
        rows=rows.values_list("pk", "source_id"),
        remove=_raw(Item),
        is_held=_item_is_held,
    )


def _item_is_held(shield: holds.Shield, row: tuple[Any, ...]) -> bool:
    return shield.protects("workflows.item", row[0]) or shield.protects("workflows.source", row[1])


def _raw(model: type[models.Model], lookup: str = "pk__in") -> Callable[[Sequence[Any]], None]:
    """Delete without loading rows and without cascades: what hangs on them is named above."""

    def remove(pks: Sequence[Any]) -> None:
        rows = model._default_manager.filter(**{lookup: pks})
        rows._raw_delete(rows.db)

    return remove
