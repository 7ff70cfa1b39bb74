"""How long events stay: in the searchable table, then in archive files, then not at all.

A purge goes in this order, and each step can be taken up again where a crash left it: seal, write an archive file and
read it back, grant (a row and an event that bind the file and the rows by their hashes), delete in short transactions.
The database itself refuses to delete what was not granted, and what is on hold.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import connection, transaction
from django.db.models import Count, Exists, Max, Min, OuterRef, Q, QuerySet
from django.utils.translation import ngettext

from audit import archive, holds, payloads, proof, purged, sealing, search_index
from audit.models import AuditEvent, AuditLeaf, AuditPurge, AuditPurgeGrant
from audit.recorder import record
from audit.vocabulary import ACCESS, DECISION, STANDARD, TrailEvent
from compliance_bot.guardrails import policy

logger = logging.getLogger(__name__)

CLASSES = (STANDARD, ACCESS, DECISION)
# Events in one archive file, and under one grant.
SEGMENT = 10_000
# Events deleted in one transaction: longer ones would keep recorders waiting.
BATCH = 250
COUNT_LIMIT = 10_000
# Network logs are kept for at least six months: Cybersecurity Law of the PRC, art. 23 (3), formerly 21 (3).
SIX_MONTHS = 184


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a purge would do with one class now. Counts go no further than COUNT_LIMIT + 1."""

    name: str
    days: int
    before: datetime
    due: int
    held: int
    oldest: datetime | None


def limits(now: datetime) -> dict[str, datetime]:
    """By class, the instant before which events leave the table."""
    return {name: now - timedelta(days=days) for name, days in _days().items()}


def _days() -> dict[str, int]:
    rules = policy.current().audit
    return {name: rules.retention_days_by_class.get(name, rules.retention_days) for name in CLASSES}


def older_than(days: int) -> str:
    """Why something was removed that nobody asked to remove."""
    return ngettext("older than %(days)d day", "older than %(days)d days", days) % {"days": days}


def _past_their_limit() -> str:
    """Why events of any class leave the table: they are older than the shortest limit, at the least."""
    return older_than(min(_days().values()))


def expired(now: datetime) -> QuerySet[AuditEvent]:
    """Events past the limit of their class. Those by which grants are judged stay for good."""
    before = limits(now)
    in_class = Q(at__lt=before[STANDARD]) & ~Q(retention_class__in=[ACCESS, DECISION])
    for name in (ACCESS, DECISION):
        in_class |= Q(retention_class=name, at__lt=before[name])
    return AuditEvent.objects.filter(in_class, at__lt=max(before.values())).exclude(what__in=purged.KEPT)


def preview(now: datetime) -> list[Preview]:
    """What would leave the table now, by class."""
    return [_preview(name, before, now) for name, before in limits(now).items()]


def _preview(name: str, before: datetime, now: datetime) -> Preview:
    due = expired(now).filter(retention_class=name).order_by()
    oldest = AuditEvent.objects.filter(retention_class=name).order_by("at", "pk").first()
    return Preview(
        name=name,
        days=(now - before).days,
        before=before,
        due=holds.not_held(due)[: COUNT_LIMIT + 1].count(),
        held=holds.held(due)[: COUNT_LIMIT + 1].count(),
        oldest=oldest.at if oldest else None,
    )


# Purging


def purge(now: datetime, until: float | None = None) -> bool:
    """Archive and delete everything that is due; False when time (``until``, monotonic) ran out before the end.

    Raises ArchiveError when an archive cannot be written or an event does not prove; nothing is lost then. Several at
    once do no damage: each also helps with what the others began, and of two new grants one gives way.
    """
    sealing.sweep(now)
    handled, after = 0, None
    while True:
        n = _next_number()  # before the rows are chosen: whoever is granted this number meanwhile may have the same
        for grant in _begun(above=handled):
            if not _delete(grant, now, until):
                return False
        handled = n - 1
        segment = _segment(now, after)
        if not segment:
            return True
        if _is_over(until):
            return False
        if not _grant(n, [pk for _at, pk in segment], now):
            return True
        after = segment[-1][0]


def _is_over(until: float | None) -> bool:
    return until is not None and time.monotonic() >= until


def _begun(*, above: int) -> list[AuditPurgeGrant]:
    """Grants under which something may be left to delete: new ones, a crash, or a hold that was placed afterwards."""
    grants = [grant for grant in AuditPurgeGrant.objects.filter(n__gt=above).order_by("n") if _has_file(grant)]
    purges = AuditPurge.objects.filter(grant_n__in=[grant.n for grant in grants]).order_by()
    done = dict(purges.values_list("grant_n").annotate(Count("pk")))
    return [grant for grant in grants if done.get(grant.n, 0) < grant.events and _is_unchanged(grant)]


def _has_file(grant: AuditPurgeGrant) -> bool:
    return archive.is_there(grant.archive)


def _is_unchanged(grant: AuditPurgeGrant) -> bool:
    """Without its archive nothing goes; what is left of such a grant is archived once more, under another."""
    if archive.digest_of(grant.archive) == bytes(grant.archive_sha256):
        return True
    logger.error("grant %s: its archive %s was changed; nothing more is deleted under it", grant.n, grant.archive)
    return False


def _segment(now: datetime, after: datetime | None) -> list[tuple[datetime, int]]:
    """(at, key) of what is due, oldest first, a file's worth. What was looked at is not looked at again."""
    sealed = AuditLeaf.objects.filter(event_pk=OuterRef("pk"))
    due = holds.not_held(expired(now)).filter(Exists(sealed))
    if after is not None:
        due = due.filter(at__gt=after)
    return list(due.order_by("at", "pk").values_list("at", "pk")[:SEGMENT])


def _grant(n: int, pks: Sequence[int], now: datetime) -> bool:
    """Archive these events, and give leave to delete them; False when another purge got the number.

    The archive is on the disk, and proved, before anything else happens.
    """
    file = archive.write(n, pks, now)
    grant = AuditPurgeGrant(
        n=n,
        granted_at=now,
        before=max(limits(now).values()),
        events=len(file.events),
        events_digest=purged.digest_of(file.events),
        first_pk=file.events[0][0],
        last_pk=file.events[-1][0],
        first_at=file.first_at,
        last_at=file.last_at,
        archive=file.name,
        archive_sha256=file.sha256,
    )
    with transaction.atomic():
        _take_turns()
        free = _next_number() == n
        if free:
            grant.save(force_insert=True)
            record(TrailEvent.PURGE_GRANTED, why=_past_their_limit(), facts=purged.facts_of(grant))
    if not free:
        archive.remove(file.name)
    return free


def _next_number() -> int:
    last = AuditPurgeGrant.objects.order_by("-n").values_list("n", flat=True).first()
    return (last or 0) + 1


def _take_turns() -> None:
    """One grant at a time, so that numbers have no gaps. SQLite's writers are alone anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('audit:purge', 0))")


def _delete(grant: AuditPurgeGrant, now: datetime, until: float | None) -> bool:
    """Delete what was granted and is still due, in short transactions; False when time ran out."""
    pks = sorted(event.pk for event in archive.read(archive.path_of(grant.archive)))
    gone = 0
    for start in range(0, len(pks), BATCH):
        if _is_over(until):
            return False
        started = time.monotonic()
        with transaction.atomic():
            gone += _delete_batch(grant, pks[start : start + BATCH], now)
            if gone and start + BATCH >= len(pks):
                record(TrailEvent.PURGED, why=_past_their_limit(), facts=_outcome(grant, pks))
        # SQLite has no queue of writers: who waits gets in while nobody writes. So we leave for as long as we took.
        time.sleep(time.monotonic() - started)
    return True


def _delete_batch(grant: AuditPurgeGrant, pks: Sequence[int], now: datetime) -> int:
    """Holds win: one that was placed after the grant keeps its rows here, and whoever places one now waits for us."""
    holds.stand_still()
    events = list(holds.not_held(expired(now)).filter(pk__in=pks).order_by("pk"))
    AuditPurge.objects.bulk_create(AuditPurge(event_pk=event.pk, grant_n=grant.n) for event in events)
    search_index.remove(events)
    with connection.cursor() as cursor:
        cursor.executemany("DELETE FROM audit_auditevent WHERE id = %s", [(event.pk,) for event in events])
    return len(events)


def _outcome(grant: AuditPurgeGrant, pks: Sequence[int]) -> dict[str, Any]:
    seals = AuditLeaf.objects.filter(event_pk__in=pks).aggregate(first=Min("seal_n"), last=Max("seal_n"))
    done = AuditPurge.objects.filter(grant_n=grant.n).count()
    told = {"grant": grant.n, "archive": grant.archive, "purged": done, "of": grant.events}
    return {**told, "first_seal": seals["first"], "last_seal": seals["last"]}


# Archives


def expire_archives(now: datetime, until: float | None = None) -> bool:
    """Remove archive files whose newest event is too old, and the erasable details of their events.

    A file with one event on hold, or with one that is still in the table, is kept whole. False: time ran out.
    """
    before = now - timedelta(days=policy.current().audit.archive_days)
    names = archive.names()
    grants = {grant.archive: grant for grant in AuditPurgeGrant.objects.filter(archive__in=names)}
    for name in names:
        if _is_over(until):
            return False
        grant = grants.get(name)
        if grant is not None and grant.last_at >= before:
            continue
        try:
            _expire(name, grant, before)
        except proof.Broken:
            logger.exception("archive %s cannot be read and is kept: what is on hold in it is not known", name)
    return True


def _expire(name: str, grant: AuditPurgeGrant | None, before: datetime) -> None:
    with transaction.atomic():
        holds.stand_still()
        pks = _removable(name, before)
        if pks is None:
            return
        if grant is None or grant.n not in purged.told(TrailEvent.ARCHIVE_EXPIRED):
            erased = sum(payloads.forget(pks[start : start + BATCH]) for start in range(0, len(pks), BATCH))
            told = {"grant": grant.n if grant else None, "archive": name, "events": len(pks), "details": erased}
            if grant is not None:
                told["purged_digest"] = purged.purged_digest(grant.n)
            record(TrailEvent.ARCHIVE_EXPIRED, why=older_than(policy.current().audit.archive_days), facts=told)
    archive.remove(name)


def _removable(name: str, before: datetime) -> list[int] | None:
    """The keys in a file whose every event is too old, on no hold, and gone from the table; otherwise None."""
    active, pks = list(holds.active()), []
    for event in archive.read(archive.path_of(name)):
        if event.at >= before or any(holds.matches(hold, event.told) for hold in active):
            return None
        pks.append(event.pk)
    parts = (pks[start : start + BATCH] for start in range(0, len(pks), BATCH))
    return None if any(AuditEvent.objects.filter(pk__in=part).exists() for part in parts) else pks


@register(Tags.security, deploy=True)
def keeps_six_months(**kwargs: Any) -> list[CheckMessage]:
    """Shorter is legal where the law does not apply; so it is a warning."""
    try:
        days = policy.current().audit.archive_days
    except policy.PolicyError:
        return []  # another check says so
    if days >= SIX_MONTHS:
        return []
    return [
        Warning(
            f"audit.archive_days is {days}: audit events are removed for good after less than six months",
            hint="China's Cybersecurity Law, art. 23 (3) (formerly 21 (3)), asks for six months of network logs: "
            f"set audit.archive_days to {SIX_MONTHS} or more.",
            id="audit.W001",
        )
    ]
