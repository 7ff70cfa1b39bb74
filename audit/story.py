"""One cause from its beginning to its end: the request that asked, the decision, the deliveries, the receipts.

Events of one request share its id; where one request leads to another (somebody approves what somebody else asked
for), the later events name the earlier one as their parent.
"""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.models import Q

from audit.models import AuditEvent

MOST = 1000
_PIECE = 1000


@dataclass(frozen=True, slots=True)
class Story:
    """Events in the order in which they happened. ``complete``: false when there are more than MOST."""

    events: list[AuditEvent]
    complete: bool


def tell(request_id: uuid.UUID) -> Story:
    """Everything that belongs to the cause that this request is part of."""
    events = sorted(_gather(request_id).values(), key=lambda event: event.pk)
    return Story(events[:MOST], complete=len(events) <= MOST)


def walk(request_id: uuid.UUID) -> Iterator[list[AuditEvent]]:
    """All of it, however long, in pieces: one request after the other, each from its first event to its last."""
    asked, seen = [request_id], {request_id}
    while asked:
        of_request = AuditEvent.objects.filter(request_id=asked.pop(0)).order_by("pk")
        after = 0
        while events := list(of_request.filter(pk__gt=after)[:_PIECE]):
            yield events
            after = events[-1].pk
            further = sorted(_neighbours(events) - seen)
            asked += further
            seen.update(further)


def requests(request_id: uuid.UUID) -> set[uuid.UUID]:
    """The requests that belong to that cause."""
    return {request_id, *(event.request_id for event in _gather(request_id).values())}


def _gather(request_id: uuid.UUID) -> dict[int, AuditEvent]:
    """By key; a little more than MOST when there is more."""
    told: dict[int, AuditEvent] = {}
    asked, seen = {request_id}, set[uuid.UUID]()
    while asked and len(told) <= MOST:
        seen |= asked
        found = _some(Q(request_id__in=asked))
        told |= {event.pk: event for event in found}
        asked = _neighbours(found) - seen
    return told


def latest(what: str, target: models.Model) -> uuid.UUID | None:
    """The id of the last such event about ``target``: the parent of what follows from it."""
    return _about(what, target).order_by("-pk").values_list("event_id", flat=True).first()


def facts(what: str, target: models.Model) -> list[dict[str, Any]]:
    """The facts of every such event about ``target``, oldest first. For events that come a few times at most."""
    return [event.facts for event in _about(what, target).order_by("pk")]


def _about(what: str, target: models.Model) -> models.QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(target_type=target._meta.label_lower, target_id=str(target.pk), what=what)


def _neighbours(events: Iterable[AuditEvent]) -> set[uuid.UUID]:
    """The requests that led to these events, and those that they led to."""
    parents = {event.parent_event_id for event in events if event.parent_event_id is not None}
    own = {event.event_id for event in events}
    linked = AuditEvent.objects.filter(Q(event_id__in=parents) | Q(parent_event_id__in=own))
    return set(linked.order_by().values_list("request_id", flat=True).distinct())


def _some(condition: Q) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(condition).order_by("pk")[: MOST + 1])
