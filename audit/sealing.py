"""Seals: from time to time, what was recorded since is put under a Merkle root, signed, and chained to the seal before.

Between two seals an event is bound by its MAC alone. Rows are taken *because they have no leaf yet*, never by "id above
the last": a transaction that commits late would be skipped for ever.
"""

import hmac
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, Max, OuterRef, QuerySet

from audit import checkpoints, keys, proof, vocabulary
from audit.canonical import canonical_json, row_mac
from audit.models import AuditEvent, AuditLeaf, AuditSeal

SCHEMA_VERSION = 1
BATCH = 1000
# An event that is not urgent waits this long for company, so that a quiet hour does not make a seal a second.
PATIENCE = timedelta(seconds=30)
# How far below the newest sealed event a late commit may come to light at once; older ones are found by ``sweep``.
_LOOK_BACK = 10_000
NO_HASH = bytes(32)


class _Waiting(NamedTuple):
    """What a seal needs to know of an event."""

    pk: int
    at: datetime
    what: str
    row_hash: bytes
    row_mac: bytes


class _Made(NamedTuple):
    """A seal, and the highest key under it."""

    seal: AuditSeal
    up_to: int


def seal_due(now: datetime) -> AuditSeal | None:
    """Seal what waits, if something is urgent or has waited long enough. One sealer at a time; others go home.

    Returns the last seal that was made.
    """
    made = last = _seal_next(_newest_sealed() - _LOOK_BACK, now, _is_due)
    while made is not None and made.seal.size == BATCH:
        last, made = made, _seal_next(made.up_to, now, _is_due)
    return (made or last).seal if last else None


def sweep(now: datetime) -> int:
    """Seal everything that has no leaf, however old: the slow, complete look. Returns how many events.

    What is recorded meanwhile is not waited for: on a busy trail there would be no end.
    """
    newest = AuditEvent.objects.aggregate(pk=Max("pk"))["pk"] or 0
    sealed, above = 0, 0
    while above < newest and (made := _seal_next(above, now, _all)) is not None:
        sealed, above = sealed + made.seal.size, made.up_to
    return sealed


def _is_due(waiting: Sequence[_Waiting], now: datetime) -> bool:
    return len(waiting) == BATCH or any(vocabulary.is_urgent(row.what) or now - row.at >= PATIENCE for row in waiting)


def _all(waiting: Sequence[_Waiting], now: datetime) -> bool:
    return bool(waiting)


def _seal_next(above: int, now: datetime, due: Callable[[Sequence[_Waiting], datetime], bool]) -> _Made | None:
    """Seal the first events above a key that wait, if they are ``due``."""
    with transaction.atomic():
        if not _alone():
            return None
        waiting = _unsealed(above)
        if not due(waiting, now):
            return None
        seal = _seal(waiting, now)
    checkpoints.append(seal)
    return _Made(seal, waiting[-1].pk)


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


def _unsealed(above: int) -> list[_Waiting]:
    """At most BATCH, in the order of the keys. What was not recorded here is never sealed: verification names it."""
    rows = AuditEvent.objects.filter(~_HAS_LEAF).order_by("pk").values_list(*_Waiting._fields)
    while True:
        found = [_Waiting(*row) for row in rows.filter(pk__gt=above)[:BATCH]]
        ours = [row for row in found if is_ours(row)]
        if ours or len(found) < BATCH:
            return ours
        above = found[-1].pk


def is_ours(row: _Waiting | AuditEvent) -> bool:
    """Whoever can write into the table, and has no more than that, cannot make the MAC."""
    return hmac.compare_digest(bytes(row.row_mac), row_mac(bytes(row.row_hash), settings.AUDIT_KEY.encode()))


_HAS_LEAF = Exists(AuditLeaf.objects.filter(event_pk=OuterRef("pk")))


def _seal(events: Sequence[_Waiting], now: datetime) -> AuditSeal:
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
    _write_leaves([(event.pk, seal.n, position, bytes(event.row_hash)) for position, event in enumerate(events)])
    return seal


def _write_leaves(leaves: Sequence[tuple[int, int, int, bytes]]) -> None:
    """Straight to the table: a thousand model instances a seal would be most of its cost."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy("COPY audit_auditleaf (event_pk, seal_n, position, row_hash) FROM STDIN") as copy:
                for leaf in leaves:
                    copy.write_row(leaf)
        else:
            insert = "INSERT INTO audit_auditleaf (event_pk, seal_n, position, row_hash) VALUES (%s, %s, %s, %s)"
            cursor.executemany(insert, leaves)


def _alone() -> bool:
    """SQLite's IMMEDIATE transactions are alone by themselves."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('audit:seal', 0))")
        return bool(cursor.fetchone() == (True,))


def status(now: datetime) -> tuple[AuditSeal | None, bool]:
    """(the newest seal, whether something waits longer than it should)."""
    late = waiting_since(now - timedelta(minutes=1)).filter(pk__gt=_newest_sealed() - _LOOK_BACK)
    return AuditSeal.objects.order_by("-n").first(), late.exists()


def waiting_since(before: datetime) -> QuerySet[AuditEvent]:
    """Events older than this that have no leaf. All of them: on a large trail it takes seconds."""
    return AuditEvent.objects.filter(~_HAS_LEAF, at__lt=before)


def _newest_sealed() -> int:
    """The highest sealed key; no leaf that somebody put in reaches further than the events do."""
    leaf = AuditLeaf.objects.aggregate(pk=Max("event_pk"))["pk"] or 0
    event = AuditEvent.objects.aggregate(pk=Max("pk"))["pk"] or 0
    return int(min(leaf, event))
