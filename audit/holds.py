"""Legal holds: what is on hold outlives every limit. Placing one takes one person, releasing it takes two.

One rule in three forms, which a test compares: ``held`` for many events in the database, ``covered`` for one hold, and
``matches`` for an event in a file. The fourth is the trigger that guards the table (``audit.triggers``).
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from audit import context, reasons
from audit.models import AuditEvent, AuditHold
from audit.recorder import Outcome, record
from audit.vocabulary import TrailEvent

PLACE, RELEASE, VIEW = "audit.add_audithold", "audit.release_audithold", "audit.view_audithold"
_CRITERIA = ("who", "target_type", "target_id", "request_id", "starts_at", "ends_at")


class HoldRefused(Exception):
    """A sentence for the person who asked; ``field`` names where it belongs in a form."""

    def __init__(self, message: str | Promise, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def place(hold: AuditHold, by: User) -> AuditHold:
    """Put a hold into force. From the moment of its commit nothing that it covers is purged."""
    if not by.has_perm(PLACE):
        raise HoldRefused(_("Your role does not include placing legal holds."))
    check(hold)
    hold.placed_by, hold.placed_at = by.get_username(), timezone.now()
    with transaction.atomic(), context.acting(by):
        stand_still()
        hold.save(force_insert=True)
        record(TrailEvent.HOLD_PLACED, target=hold, why=hold.reason, facts={**criteria(hold), "owner": hold.owner})
    return hold


def check(hold: AuditHold) -> None:
    """Whether the hold says what it covers, and why. Raises HoldRefused at the first field that does not."""
    if not any(getattr(hold, name) for name in _CRITERIA):
        raise HoldRefused(_("Name at least one: a person, an object, a request or a time."), field="who")
    if hold.target_id and not hold.target_type:
        raise HoldRefused(_("An object's id needs its kind, such as workflows.message."), field="target_type")
    if hold.starts_at and hold.ends_at and hold.ends_at <= hold.starts_at:
        raise HoldRefused(_("The end lies before the beginning."), field="ends_at")
    for name in ("reason", "owner"):
        if not getattr(hold, name).strip():
            raise HoldRefused(_("This cannot be empty."), field=name)


def ask_release(hold_id: int, by: User, reason: str) -> AuditHold:
    """The first of two persons. The hold stays in force."""
    reason = _clean(reason)
    with _releasing(hold_id, by):
        asked = AuditHold.objects.filter(pk=hold_id, released_at=None, release_asked_by="").update(
            release_asked_by=by.get_username(),
            release_asked_by_pk=by.pk,
            release_asked_at=timezone.now(),
            release_reason=reason,
        )
        if not asked:
            raise HoldRefused(_("Its release was asked for already, or it is released."))
        hold = AuditHold.objects.get(pk=hold_id)
        record(TrailEvent.HOLD_RELEASE_ASKED, target=hold, why=hold.release_reason)
    return hold


def confirm_release(hold_id: int, by: User) -> AuditHold:
    """The second of two persons: from now on the hold keeps nothing."""
    with _releasing(hold_id, by):
        hold = AuditHold.objects.select_for_update().filter(pk=hold_id).first()
        if hold is None or hold.released_at is not None or not hold.release_asked_by:
            raise HoldRefused(_("Its release was not asked for, or it is released."))
        if hold.release_asked_by_pk == by.pk:
            raise HoldRefused(_("Another person has to confirm the release that you asked for."))
        hold.released_by, hold.released_by_pk, hold.released_at = by.get_username(), by.pk, timezone.now()
        hold.save(update_fields=["released_by", "released_by_pk", "released_at"])
        facts = {"asked_by": hold.release_asked_by, **criteria(hold)}
        record(TrailEvent.HOLD_RELEASED, target=hold, why=hold.release_reason, facts=facts)
    return hold


def _clean(reason: str) -> str:
    try:
        text = reasons.clean(reason)
    except reasons.TooLong as error:
        raise HoldRefused(str(error), field="reason") from error
    if not text:
        raise HoldRefused(_("Say why it may be released; the trail keeps the reason."), field="reason")
    return text


@contextmanager
def _releasing(hold_id: int, by: User) -> Iterator[None]:
    """One step of a release, in a transaction. A refusal, which comes before anything is written, is recorded too."""
    refusal = None
    with transaction.atomic(), context.acting(by):
        try:
            if not by.has_perm(RELEASE):
                raise HoldRefused(_("Your role does not include releasing legal holds."))
            yield
        except HoldRefused as error:
            refusal = error
            hold = AuditHold.objects.filter(pk=hold_id).first()
            record(TrailEvent.HOLD_RELEASE_REFUSED, target=hold, why=str(error), outcome=Outcome.REFUSED)
    if refusal is not None:
        raise refusal  # after the commit, so that its record stays


def criteria(hold: AuditHold) -> dict[str, str]:
    """What it names, as texts."""
    named = {name: getattr(hold, name) for name in _CRITERIA}
    return {
        name: value.isoformat() if isinstance(value, datetime) else str(value) for name, value in named.items() if value
    }


def stand_still() -> None:
    """Until this transaction ends no hold is placed: for whoever deletes. SQLite's writers are alone anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('audit:holds', 0))")


def active() -> QuerySet[AuditHold]:
    return AuditHold.objects.filter(released_at=None)


def held(events: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
    """Those that some hold in force keeps."""
    return events.filter(_is_held())


def not_held(events: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
    """Those that no hold in force keeps."""
    return events.filter(~_is_held())


def _is_held() -> Exists:
    return Exists(
        active().filter(
            Q(who="") | Q(who=OuterRef("who_label")) | Q(who=OuterRef("on_behalf_of")),
            Q(target_type="") | Q(target_type=OuterRef("target_type")),
            Q(target_id="") | Q(target_id=OuterRef("target_id")),
            Q(request_id=None) | Q(request_id=OuterRef("request_id")),
            Q(starts_at=None) | Q(starts_at__lte=OuterRef("at")),
            Q(ends_at=None) | Q(ends_at__gt=OuterRef("at")),
        )
    )


def covered(hold: AuditHold) -> QuerySet[AuditEvent]:
    """The events that match one hold, in force or not."""
    asked: dict[str, Any] = {"target_type": hold.target_type, "target_id": hold.target_id}
    asked |= {"request_id": hold.request_id, "at__gte": hold.starts_at, "at__lt": hold.ends_at}
    events = AuditEvent.objects.filter(**{name: value for name, value in asked.items() if value})
    return events.filter(Q(who_label=hold.who) | Q(on_behalf_of=hold.who)) if hold.who else events


def matches(hold: AuditHold, told: Mapping[str, Any]) -> bool:
    """The same, of an event as its text tells it."""
    at = datetime.fromisoformat(told["at"])
    return (
        hold.who in {"", told["who_label"], told["on_behalf_of"]}
        and hold.target_type in {"", told["target_type"]}
        and hold.target_id in {"", told["target_id"]}
        and (hold.request_id is None or str(hold.request_id) == told["request_id"])
        and (hold.starts_at is None or at >= hold.starts_at)
        and (hold.ends_at is None or at < hold.ends_at)
    )


class Shield:
    """The holds in force, as far as they name objects or requests: what of the product's own rows has to stay.

    A hold that names a person or a time alone keeps what the trail tells of them, not rows.
    """

    def __init__(self, holds: Sequence[AuditHold]) -> None:
        self._holds = [hold for hold in holds if hold.target_type or hold.request_id]

    def protects(self, target_type: str, target_id: object, request_id: uuid.UUID | None = None) -> bool:
        """Whether this row has to stay. Where its request is not known, a hold that names the object is enough."""
        return any(
            hold.target_type in {"", target_type}
            and hold.target_id in {"", str(target_id)}
            and (hold.request_id in {None, request_id} or (request_id is None and hold.target_type != ""))
            for hold in self._holds
        )


def shield() -> Shield:
    return Shield(list(active()))
