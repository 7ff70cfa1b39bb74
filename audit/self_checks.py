"""What the trail checks about itself: sealed, guarded, found, kept, verified, told to others."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.core import checks
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit import archive, forwarding, holds, purged, retention, sealing, search_index, verification
from audit.completeness import MOST, Finding, Window, check, newest
from audit.models import AuditEvent, AuditForwarder, AuditPurge, AuditPurgeGrant, AuditSeal
from audit.queries_by_target import pk_before
from audit.vocabulary import TrailEvent
from compliance_bot.guardrails import policy

# Verified at least this often, by somebody or by the night.
_VERIFIED_WITHIN = timedelta(days=7)
_TOLD_WITHIN = timedelta(hours=1)
_TRIES = 3
_PURGED_WITHIN = timedelta(days=1)
_OVERDUE = timedelta(days=2)
# A purge that stands still is among the newest grants; older ones were finished before these began.
_GRANTS = 100
# Of the window, the newest events: what a night's look can afford. Older ones were looked at on earlier nights.
_EVENTS = 200_000
_END = 2**63 - 1
# A checkpoint is a few hundred bytes; a crash may have cut the last one off.
_TAIL = 16 * 1024


@check("sealing", gettext_lazy("Every event is sealed in time"))
def unsealed(window: Window) -> Iterator[Finding]:
    """Looks at every event: one with a low key may have been put in, or committed late."""
    late = sealing.waiting_since(window.now - verification.LATEST).order_by("pk")
    for pk in late.values_list("pk", flat=True)[:MOST]:
        yield Finding(where=f"event {pk}", what=_("has waited for its seal for more than two minutes"))


@check("guards", gettext_lazy("The database has its guards"))
def guards(window: Window) -> Iterator[Finding]:
    """Looks at every room's triggers, as ``manage.py check --database default`` sees them."""
    yield from (Finding(where=_("database"), what=problem) for problem in missing_guards())


@check("search_index", gettext_lazy("Every event can be found"))
def unsearchable(window: Window) -> Iterator[Finding]:
    """Looks at the window's newest 200,000 events."""
    above = pk_before(window.since)
    last = AuditEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    for pk in search_index.missing(above=max(above, last - _EVENTS), below=_END, limit=MOST):
        yield Finding(where=f"event {pk}", what=_("is not in the search index"))


@check("verification", gettext_lazy("The trail is verified each week"))
def unverified(window: Window) -> Iterator[Finding]:
    """Looks at the last verification; a trail younger than a week needs none yet."""
    last, limit = newest(TrailEvent.VERIFIED), window.now - _VERIFIED_WITHIN
    if last is None and AuditEvent.objects.filter(at__lt=limit).exists():
        yield Finding(where=_("verification"), what=_("the trail was never verified"))
    elif last is not None and last.at < limit:
        yield Finding(where=_("verification"), what=_("the trail was not verified for more than a week"))
    if last is not None and last.outcome == AuditEvent.Outcome.FAILURE:
        yield Finding(where=_("verification"), what=_("the last verification found problems"))


@check("checkpoints", gettext_lazy("Checkpoints reach their file"))
def checkpoints(window: Window) -> Iterator[Finding]:
    """Looks at the file's end and at the newest seal that is older than a minute."""
    file = settings.AUDIT_CHECKPOINT_FILE
    if not _can_write(file):
        yield Finding(where=_("checkpoints"), what=_("%(file)s cannot be written") % {"file": file.name})
    seals = AuditSeal.objects.filter(sealed_at__lt=window.now - timedelta(minutes=1)).order_by("-n")
    seal, told = seals.first(), newest_checkpoint()
    if seal is not None and (told is None or told.n < seal.n):
        yield Finding(where=f"seal {seal.n}", what=_("its checkpoint is not in %(file)s") % {"file": file.name})


@check("archives", gettext_lazy("Every archive is there, unchanged"))
def archives(window: Window) -> Iterator[Finding]:
    """Looks whether each archive that has to be kept is there, and reads a seventh of them: each one once a week."""
    kept = window.now - timedelta(days=policy.current().audit.archive_days)
    there = frozenset(archive.names())
    missing = []
    for grant in AuditPurgeGrant.objects.filter(last_at__gt=kept).order_by("n").iterator(chunk_size=500):
        if grant.archive not in there:
            missing.append(grant)
        elif _is_its_turn(grant, window) and archive.digest_of(grant.archive) != bytes(grant.archive_sha256):
            changed = _("its archive %(file)s was changed") % {"file": grant.archive}
            yield Finding(where=f"grant {grant.n}", what=changed)
    # Removed when its time was over; the policy may have been another one then.
    removed = purged.told(TrailEvent.ARCHIVE_EXPIRED) if missing else {}
    for grant in missing:
        if grant.n not in removed:
            yield Finding(where=f"grant {grant.n}", what=_("its archive %(file)s is gone") % {"file": grant.archive})


@check("purges", gettext_lazy("Purges come to their end"))
def purges(window: Window) -> Iterator[Finding]:
    """Looks at the newest hundred grants that are older than a day. What is on hold is not waited for."""
    for grant in AuditPurgeGrant.objects.filter(granted_at__lt=window.now - _PURGED_WITHIN).order_by("-n")[:_GRANTS]:
        left = grant.events - AuditPurge.objects.filter(grant_n=grant.n).count()
        due = holds.not_held(retention.expired(window.now)).filter(pk__gte=grant.first_pk, pk__lte=grant.last_pk)
        if left > 0 and due.exists():
            told = {"left": left, "events": grant.events}
            yield Finding(where=f"grant {grant.n}", what=_("%(left)s of %(events)s events are not purged yet") % told)


@check("overdue", gettext_lazy("Events leave the table in time"))
def overdue(window: Window) -> Iterator[Finding]:
    """Looks for events that should have been archived and purged two nights ago: no disk, no worker, no proof."""
    due = holds.not_held(retention.expired(window.now - _OVERDUE)).order_by("at", "pk")
    for event in due.only("pk", "at")[:1]:
        since = {"at": localtime(event.at).strftime("%Y-%m-%d")}
        what = _("is from %(at)s and was still not archived and purged; the server's log says why") % since
        yield Finding(where=f"event {event.pk}", what=what)


@check("forwarding", gettext_lazy("Receivers are told in time"))
def forwarders(window: Window) -> Iterator[Finding]:
    """Looks at every receiver that is switched on: failing again and again, or an hour behind the seals."""
    rows = AuditForwarder.objects.in_bulk()
    for name in forwarding.receivers():
        receiver = rows.get(name, AuditForwarder(name=name))
        if receiver.failures >= _TRIES:
            yield Finding(where=name, what=receiver.problem or _("cannot be reached"))
        elif AuditSeal.objects.filter(n=receiver.seal_n + 1, sealed_at__lt=window.now - _TOLD_WITHIN).exists():
            yield Finding(where=name, what=_("was not told of events for more than an hour"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a line of the checkpoint file tells of its seal."""

    n: int
    sealed_at: datetime


def newest_checkpoint() -> Line | None:
    """The last whole line of the checkpoint file."""
    try:
        with settings.AUDIT_CHECKPOINT_FILE.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return None
    return next(filter(None, map(_line, reversed(lines))), None)


def missing_guards() -> list[str]:
    """A sentence for each room whose triggers are not all in the database."""
    problems = checks.run_checks(tags=[checks.Tags.database], databases=["default"])
    return [problem.msg for problem in problems if problem.is_serious()]


def _line(text: bytes) -> Line | None:
    try:
        told = json.loads(text)
        return Line(n=int(told["n"]), sealed_at=datetime.fromisoformat(told["sealed_at"]))
    except (ValueError, TypeError, KeyError):
        return None


def _can_write(file: Path) -> bool:
    """Asked without making the file: an empty one would look like one that was emptied."""
    return file.is_file() and os.access(file, os.W_OK) if file.exists() else os.access(file.parent, os.W_OK | os.X_OK)


def _is_its_turn(grant: AuditPurgeGrant, window: Window) -> bool:
    return grant.n % 7 == window.now.toordinal() % 7
