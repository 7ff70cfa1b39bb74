"""Whether what is gone from the trail was allowed to go.

A purge row says under which grant an event was deleted. The grant is believed because the trail says so too: its own
event is sealed, is never purged itself, and names the archive and the rows by their hashes.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from django.db import connection
from django.db.models import Exists, OuterRef

from audit import archive
from audit.models import AuditEvent, AuditPurge, AuditPurgeGrant
from audit.vocabulary import TrailEvent

# Events by which grants, exported files and erased details are judged stay in the table for good. They are few.
KEPT = (
    *(TrailEvent.PURGE_GRANTED, TrailEvent.ARCHIVE_EXPIRED),
    *(TrailEvent.EXPORT_FINISHED, TrailEvent.PAYLOAD_ERASED),
)
_AT_ONCE = 1000


def facts_of(grant: AuditPurgeGrant) -> dict[str, Any]:
    """What the trail tells of a grant, and what ties the grant to it."""
    return {
        "grant": grant.n,
        "before": grant.before.isoformat(),
        "events": grant.events,
        "events_digest": bytes(grant.events_digest).hex(),
        "first_pk": grant.first_pk,
        "last_pk": grant.last_pk,
        "first_at": grant.first_at.isoformat(),
        "last_at": grant.last_at.isoformat(),
        "archive": grant.archive,
        "archive_sha256": bytes(grant.archive_sha256).hex(),
    }


def digest_of(events: Iterable[tuple[int, bytes]]) -> bytes:
    """A grant's ``events_digest``, over keys and row hashes in the order of the keys."""
    digest = hashlib.sha256()
    for pk, row_hash in events:
        digest.update(f"{pk}:{row_hash.hex()}\n".encode())
    return digest.digest()


def unlawful(pks: Sequence[int]) -> dict[int, str]:
    """Which of these events, that are gone, were not purged under a grant that the trail tells of; and why."""
    grant_of: dict[int, int] = {}
    for start in range(0, len(pks), _AT_ONCE):
        rows = AuditPurge.objects.filter(event_pk__in=pks[start : start + _AT_ONCE])
        grant_of |= dict(rows.values_list("event_pk", "grant_n"))
    grants = set(AuditPurgeGrant.objects.filter(n__in=set(grant_of.values())).values_list("n", flat=True))
    found = {pk: "was taken out after it was sealed" for pk in pks if pk not in grant_of}
    return found | {
        pk: f"was purged under grant {n}, which is not there" for pk, n in grant_of.items() if n not in grants
    }


def check() -> Iterator[tuple[str, str]]:
    """Every problem of grants, purge rows and archives, as (where, what)."""
    for pk in AuditPurge.objects.filter(_is_there()).order_by("pk").values_list("pk", flat=True)[:_AT_ONCE]:
        yield f"event {pk}", "is marked as purged, but is there"
    # The table is read before the trail and again after it, so that a purge at the same time is no alarm.
    grants = list(AuditPurgeGrant.objects.order_by("n"))
    on_trail = told(TrailEvent.PURGE_GRANTED)
    missing = []
    for grant in grants:
        if on_trail.get(grant.n) != facts_of(grant):
            yield f"grant {grant.n}", "is not what the trail tells of it: it was forged or changed"
        elif archive.is_there(grant.archive):
            yield from _check_with_archive(grant)
        else:
            missing.append(grant.n)
    expired = told(TrailEvent.ARCHIVE_EXPIRED)
    for n in missing:
        if n not in expired:
            yield f"grant {n}", "its archive file is gone"
        elif purged_digest(n) != expired[n].get("purged_digest"):
            yield f"grant {n}", "what was purged under it is not what it was when its archive was removed"
    there = set(AuditPurgeGrant.objects.values_list("n", flat=True))
    yield from (
        (f"grant {n}", "is on the trail, but was taken out of its table") for n in sorted(set(on_trail) - there)
    )


def _is_there() -> Exists:
    return Exists(AuditEvent.objects.filter(pk=OuterRef("event_pk")))


def told(what: TrailEvent) -> dict[int, dict[str, Any]]:
    """The facts of these events by the grant they tell of; the first one counts."""
    found: dict[int, dict[str, Any]] = {}
    for canon in AuditEvent.objects.filter(what=what).order_by("pk").values_list("canon", flat=True).iterator():
        # A row that is not of this form is not ours, which its own check says.
        with suppress(json.JSONDecodeError, KeyError, TypeError):
            facts = json.loads(canon)["facts"]
            found.setdefault(facts["grant"], facts)
    return found


def purged_digest(n: int) -> str:
    """Over all that was purged under a grant, in hex."""
    return digest_of(_purged(n)).hex()


def _check_with_archive(grant: AuditPurgeGrant) -> Iterator[tuple[str, str]]:
    if archive.digest_of(grant.archive) != bytes(grant.archive_sha256):
        yield f"grant {grant.n}", "its archive file was changed"
    else:
        yield from _check_rows(grant, _Keys(grant.archive))


def _check_rows(grant: AuditPurgeGrant, allowed: Container[int]) -> Iterator[tuple[str, str]]:
    """The purged rows against the grant: all of them by their digest; while some are left, each by its key."""
    purged = _purged(grant.n)
    if len(purged) == grant.events:
        lawful = digest_of(purged) == bytes(grant.events_digest)
    else:
        lawful = all(pk in allowed for pk, _row_hash in purged)
    if not lawful:
        yield f"grant {grant.n}", "what was purged under it is not what it was granted for"


def _purged(n: int) -> list[tuple[int, bytes]]:
    """(key, hash) of what was purged under a grant, in the order of the keys. At most as many as one archive holds."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT p.event_pk, l.row_hash FROM audit_auditpurge p
            JOIN audit_auditleaf l ON l.event_pk = p.event_pk WHERE p.grant_n = %s ORDER BY p.event_pk""",
            [n],
        )
        return [(pk, bytes(row_hash)) for pk, row_hash in cursor.fetchall()]


class _Keys:
    """The keys in an archive file, read when somebody asks."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _keys(self) -> frozenset[int]:
        return frozenset(event.pk for event in archive.read(archive.path_of(self._name)))

    def __contains__(self, pk: object) -> bool:
        return pk in self._keys
