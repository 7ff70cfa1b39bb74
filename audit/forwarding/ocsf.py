"""Events in the shape of the Open Cybersecurity Schema Framework (schema.ocsf.io)."""

from dataclasses import dataclass
from typing import Any

from audit.models import AuditEvent
from audit.vocabulary import AccessEvent, ObjectEvent

VERSION = "1.3.0"
_OTHER = 99
_INFORMATIONAL, _LOW, _MEDIUM = 1, 2, 3
_SUCCESS, _FAILURE = 1, 2


@dataclass(frozen=True, slots=True)
class _Class:
    uid: int
    category: int


_AUTHENTICATION = _Class(3002, 3)
_ENTITY_MANAGEMENT = _Class(3004, 3)
_API_ACTIVITY = _Class(6003, 6)
_CLASS_OF_AREA = {"access": _AUTHENTICATION, "object": _ENTITY_MANAGEMENT}

_ACTIVITY: dict[str, int] = {
    AccessEvent.SIGNED_IN: 1,
    AccessEvent.SIGN_IN_FAILED: 1,
    AccessEvent.SIGNED_OUT: 2,
    ObjectEvent.CREATED: 1,
    ObjectEvent.CHANGED: 3,
    ObjectEvent.DELETED: 4,
}
_SEVERITY: dict[str, int] = {
    AuditEvent.Outcome.SUCCESS: _INFORMATIONAL,
    AuditEvent.Outcome.REFUSED: _LOW,
    AuditEvent.Outcome.FAILURE: _MEDIUM,
}
_USER_TYPE = {"user": 1, "system": 3}


def shaped(event: AuditEvent) -> dict[str, Any]:
    """One event as OCSF says it. What may hold personal data and can be erased is not in it."""
    kind = _CLASS_OF_AREA.get(event.what.partition(".")[0], _API_ACTIVITY)
    activity = _ACTIVITY.get(event.what, _OTHER)
    user = {"name": event.who_label, "uid": event.who_id, "type_id": _USER_TYPE.get(event.who_kind, 0)}
    told: dict[str, Any] = {
        "category_uid": kind.category,
        "class_uid": kind.uid,
        "activity_id": activity,
        "activity_name": event.what,
        "type_uid": kind.uid * 100 + activity,
        "severity_id": _SEVERITY[event.outcome],
        "status_id": _SUCCESS if event.outcome == AuditEvent.Outcome.SUCCESS else _FAILURE,
        "status": event.outcome,
        "time": int(event.at.timestamp() * 1000),
        "message": event.why,
        "actor": {"user": user},
        "metadata": {
            "version": VERSION,
            "product": {"name": "Compliance Bot", "vendor_name": "Compliance Bot"},
            "uid": str(event.event_id),
            "correlation_uid": str(event.request_id),
        },
        **_of_class(kind, event, user),
        "unmapped": {**event.facts, "on_behalf_of": event.on_behalf_of},
    }
    if event.ip:
        told["src_endpoint"] = {"ip": event.ip}
    return told


def _of_class(kind: _Class, event: AuditEvent, user: dict[str, Any]) -> dict[str, Any]:
    """What the class asks for beyond what all have."""
    thing = {"type": event.target_type, "uid": event.target_id, "name": event.target_label}
    if kind is _AUTHENTICATION:
        return {"user": user}
    if kind is _ENTITY_MANAGEMENT:
        return {"entity": thing}
    return {"api": {"operation": event.what}, "resources": [thing] if event.target_type else []}
