"""The only writer of the trail."""

import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from audit import context, payloads, proof, search_index, vocabulary
from audit.canonical import canonical_json, row_mac, storable
from audit.context import uuid7
from audit.models import AuditEvent
from compliance_bot.guardrails.redaction import redact

Outcome = AuditEvent.Outcome
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class NotInTransaction(RuntimeError):
    """An event is recorded together with what it tells of, or neither is."""


def record(
    what: str,
    *,
    target: models.Model | None = None,
    why: str = "",
    outcome: Outcome = Outcome.SUCCESS,
    facts: Mapping[str, Any] | None = None,
    erasable: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Append one event under the cause in force. Call it inside the transaction that it tells of.

    ``facts`` are JSON values; what is none, or has no stable text, is kept as text: a fact never aborts the record of
    what it tells of. They, ``why`` and labels are redacted and made storable. ``erasable``
    are facts that may hold personal data: they are encrypted, not searched, and can be erased without a trace in
    the proof.
    """
    _require_recordable(what)
    event = _build(what, target, why, outcome)
    payload = canonical_json(_clean_facts(erasable)) if erasable else None
    if payload is not None:
        event.payload_digest = proof.payload_hash(payload, bytes(event.nonce))
    _bind(event, _clean_facts(facts or {}))
    event.save(force_insert=True)
    if payload is not None:
        payloads.keep(event, payload)
    search_index.add([event])
    return event


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One of many events: the arguments of ``record``."""

    what: str
    target: models.Model
    why: str = ""
    outcome: Outcome = Outcome.SUCCESS
    facts: Mapping[str, Any] = field(default_factory=dict)


def record_all(entries: Iterable[Entry]) -> None:
    """``record`` for many events under one cause, in a few statements."""
    events = []
    for entry in entries:
        _require_recordable(entry.what)
        event = _build(entry.what, entry.target, entry.why, entry.outcome)
        _bind(event, _clean_facts(entry.facts))
        events.append(event)
    search_index.add(AuditEvent.objects.bulk_create(events))


def _require_recordable(what: str) -> None:
    if not transaction.get_connection().in_atomic_block:
        raise NotInTransaction(f"{what}: recorded outside a transaction")
    if not vocabulary.is_declared(what):
        raise ValueError(f"{what!r} is not a declared audit event")


def _build(what: str, target: models.Model | None, why: str, outcome: Outcome) -> AuditEvent:
    cause = context.current()
    actor = cause.actor_of()
    return AuditEvent(
        event_id=uuid7(),
        at=timezone.now(),
        retention_class=vocabulary.retention_class(what),
        who_kind=actor.kind,
        who_id=actor.id,
        who_label=storable(actor.label, 150),
        on_behalf_of=storable(cause.on_behalf_of, 150),
        what=what,
        target_type=target._meta.label_lower if target else "",
        target_id=str(target.pk) if target else "",
        target_label=_clean(str(target), 200) if target else "",
        outcome=outcome,
        why=_clean(why),
        request_id=cause.request_id,
        parent_event_id=cause.parent_event_id,
        ip=cause.ip,
        schema_v=proof.ROW_VERSION,
        nonce=os.urandom(16),
    )


_HASHED = (
    *("retention_class", "who_kind", "who_id", "who_label", "on_behalf_of", "what", "target_type", "target_id"),
    *("target_label", "outcome", "why", "ip"),
)


def _bind(event: AuditEvent, facts: Mapping[str, Any]) -> None:
    fields: dict[str, Any] = {name: getattr(event, name) for name in _HASHED}
    fields["outcome"] = str(event.outcome)
    fields["at"] = event.at.astimezone(UTC).isoformat(timespec="microseconds")
    fields["event_id"] = str(event.event_id)
    fields["request_id"] = str(event.request_id)
    fields["parent_event_id"] = _text(event.parent_event_id)
    fields["payload"] = None if event.payload_digest is None else bytes(event.payload_digest).hex()
    fields["facts"] = facts
    event.canon = canonical_json(fields)
    event.row_hash = proof.row_hash(event.canon, bytes(event.nonce))
    event.row_mac = row_mac(bytes(event.row_hash), settings.AUDIT_KEY.encode())


def _text(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)


def _clean(text: str, limit: int = 4096) -> str:
    # Redaction costs seconds for megabytes; what is far beyond the limit is cut off anyway.
    return storable(redact(text[: 4 * limit]), limit)


def _clean_facts(value: Any) -> Any:
    """As the canonical form takes it: other languages read it too, so whole numbers end at 64 bits."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # In hexadecimal a number of any size can be written at once.
        return int(value) if _SMALLEST <= value <= _LARGEST else _clean(hex(value))
    if isinstance(value, Mapping):
        return {_clean(str(key), 200): _clean_facts(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_clean_facts(entry) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted(_clean(str(entry)) for entry in value)
    return _clean(str(value))
