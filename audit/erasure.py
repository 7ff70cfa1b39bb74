"""Erasing personal details on request (PIPL art. 47): the events stay, and stay proved."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from audit import archive, holds, payloads
from audit.models import AuditEvent, AuditHold
from audit.recorder import record
from audit.vocabulary import TrailEvent

_AT_ONCE = 200


class ErasureRefused(Exception):
    """A sentence that says why, and which hold is in the way."""

    def __init__(self, message: str | Promise) -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whose details are meant: one event's, or those of all events about one object."""

    event_id: uuid.UUID | None = None
    target_type: str = ""
    target_id: str = ""

    def in_table(self) -> QuerySet[AuditEvent]:
        events = AuditEvent.objects.filter(payload_digest__isnull=False)
        if self.event_id is not None:
            return events.filter(event_id=self.event_id)
        return events.filter(target_type=self.target_type, target_id=self.target_id)

    def is_meant(self, told: Mapping[str, Any]) -> bool:
        """The same of an archived event."""
        if told["payload"] is None:
            return False
        if self.event_id is not None:
            return bool(told["event_id"] == str(self.event_id))
        return (told["target_type"], told["target_id"]) == (self.target_type, self.target_id)


def erase(about: About, reason: str) -> int:
    """Delete the erasable details, of archived events too. Returns of how many events.

    All or nothing: one event on hold refuses the whole.
    """
    if not reason.strip():
        raise ErasureRefused(_("Say why the details are erased; the trail keeps the reason."))
    with transaction.atomic():
        holds.stand_still()
        active = list(holds.active())
        asked = dict(_in_archives(about, active)) | dict(_in_table(about, active))
        parts = list(_parts(sorted(asked))) or [[]]
        return sum(_erase(about, reason, {pk: asked[pk] for pk in part}) for part in parts)


def told() -> set[str]:
    """The ids of all events whose details were erased, as the trail tells. They are few."""
    events = AuditEvent.objects.filter(what=TrailEvent.PAYLOAD_ERASED).values_list("canon", flat=True)
    found: set[str] = set()
    for canon in events.iterator():
        # A row that is not of this form is not ours, which its own check says.
        with suppress(ValueError, KeyError, TypeError):
            found.update(json.loads(canon)["facts"]["event_ids"])
    return found


def _erase(about: About, reason: str, event_ids: Mapping[int, str]) -> int:
    """The trail names each event, so that details which are gone can be told from details which were taken away."""
    erased = payloads.forget(list(event_ids))
    facts = {"events": erased, "object": f"{about.target_type}:{about.target_id}" if about.target_type else ""}
    record(TrailEvent.PAYLOAD_ERASED, why=reason, facts={**facts, "event_ids": sorted(event_ids.values())})
    return erased


def _in_table(about: About, active: Sequence[AuditHold]) -> list[tuple[int, str]]:
    events = about.in_table()
    for hold in active:
        if events.filter(pk__in=holds.covered(hold).values("pk")).exists():
            raise _refusal(hold)
    return [(pk, str(event_id)) for pk, event_id in events.values_list("pk", "event_id")]


def _in_archives(about: About, active: Sequence[AuditHold]) -> Iterator[tuple[int, str]]:
    """Events that left the table but whose details are still here."""
    for name in archive.names():
        for event in archive.read(archive.path_of(name)):
            if not about.is_meant(event.told):
                continue
            for hold in active:
                if holds.matches(hold, event.told):
                    raise _refusal(hold)
            yield event.pk, event.told["event_id"]


def _refusal(hold: AuditHold) -> ErasureRefused:
    return ErasureRefused(
        _("Legal hold %(hold)s keeps these details (%(reason)s). It has to be released first.")
        % {"hold": hold.pk, "reason": hold.reason}
    )


def _parts(pks: list[int]) -> Iterator[list[int]]:
    return (pks[start : start + _AT_ONCE] for start in range(0, len(pks), _AT_ONCE))
