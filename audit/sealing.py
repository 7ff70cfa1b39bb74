"""Seals: from time to time, what was recorded since is put under a Merkle root, signed, and chained to the seal before.

Between two seals an event is bound by its MAC alone. Rows are taken *because they have no leaf yet*, never by "id above
the last": a transaction that commits late would be skipped for ever.
"""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, Max, OuterRef, QuerySet

from audit import keys, proof, vocabulary
from audit.canonical import canonical_json
from audit.models import AuditEvent, AuditLeaf, AuditSeal

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
BATCH = 1000
# An event that is not urgent waits this long for company, so that a quiet hour does not make a seal a second.
PATIENCE = timedelta(seconds=30)
# How far below the newest sealed event a late commit may come to light at once; older ones are found by ``sweep``.
_LOOK_BACK = 2_000
NO_HASH = bytes(32)


def seal_due(now: datetime) -> AuditSeal | None:
    """Seal what waits, if something is urgent or has waited long enough. One sealer at a time; others go home."""
    with transaction.atomic():
        if not _alone():
            return None
        newest = AuditLeaf.objects.aggregate(pk=Max("event_pk"))["pk"] or 0
        waiting = _unsealed(above=newest - _LOOK_BACK)[:BATCH]
        due = any(vocabulary.is_urgent(event.what) or now - event.at >= PATIENCE for event in waiting)
        if len(waiting) < BATCH and not due:
            return None
        seal = _seal(waiting, now)
    _write_checkpoint(seal)
    return seal


def sweep(now: datetime) -> int:
    """Seal everything that has no leaf, however old: the slow, complete look. Returns how many events."""
    sealed = 0
    while True:
        with transaction.atomic():
            waiting = list(_unsealed(above=0)[:BATCH]) if _alone() else []
            if not waiting:
                return sealed
            seal = _seal(waiting, now)
        _write_checkpoint(seal)
        sealed += seal.size


def statement(seal: AuditSeal) -> bytes:
    """What a seal says, as the bytes that are hashed and signed."""
    return canonical_json(
        {
            "schema": seal.schema_v,
            "n": seal.n,
            "sealed_at": seal.sealed_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "size": seal.size,
            "root": bytes(seal.root).hex(),
            "previous": bytes(seal.previous_hash).hex(),
            "key": seal.key_id,
        }
    ).encode()


def _unsealed(*, above: int) -> QuerySet[AuditEvent]:
    sealed = AuditLeaf.objects.filter(event_pk=OuterRef("pk"))
    rows = AuditEvent.objects.filter(~Exists(sealed), pk__gt=above).order_by("pk")
    return rows.only("pk", "at", "what", "row_hash")


def _seal(events: Sequence[AuditEvent] | QuerySet[AuditEvent], now: datetime) -> AuditSeal:
    key = keys.signing_key()
    last = AuditSeal.objects.order_by("-n").first()
    hashes = [bytes(event.row_hash) for event in events]
    seal = AuditSeal(
        n=last.n + 1 if last else 1,
        sealed_at=now,
        size=len(hashes),
        root=proof.root(hashes),
        previous_hash=bytes(last.seal_hash) if last else NO_HASH,
        key_id=keys.key_id(key.public_key()),
        schema_v=SCHEMA_VERSION,
    )
    said = statement(seal)
    seal.seal_hash = proof.leaf_hash(said)
    seal.signature = key.sign(said)
    seal.save(force_insert=True)
    AuditLeaf.objects.bulk_create(
        AuditLeaf(event_pk=event.pk, seal_n=seal.n, position=position, row_hash=bytes(event.row_hash))
        for position, event in enumerate(events)
    )
    return seal


def _alone() -> bool:
    """SQLite's IMMEDIATE transactions are alone by themselves."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('audit:seal', 0))")
        return bool(cursor.fetchone() == (True,))


def _write_checkpoint(seal: AuditSeal) -> None:
    """One line outside the database a seal: whoever cuts off or replaces the table cannot also cut this.

    Point AUDIT_CHECKPOINT_FILE at another disk or a mounted share to put it outside the machine as well.
    """
    line = {
        "origin": "compliance-bot/audit",
        "n": seal.n,
        "sealed_at": seal.sealed_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "seal_hash": bytes(seal.seal_hash).hex(),
        "key": seal.key_id,
        "signature": bytes(seal.signature).hex(),
    }
    try:
        with settings.AUDIT_CHECKPOINT_FILE.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")
    except OSError:
        # The seal stands; a verification will say that its checkpoint is missing.
        logger.exception("seal %s: its checkpoint could not be written", seal.n)


def status(now: datetime) -> tuple[AuditSeal | None, bool]:
    """(the newest seal, whether something waits longer than it should)."""
    newest = AuditLeaf.objects.aggregate(pk=Max("event_pk"))["pk"] or 0
    late = _unsealed(above=newest - _LOOK_BACK).filter(at__lt=now - timedelta(minutes=1)).exists()
    return AuditSeal.objects.order_by("-n").first(), late
