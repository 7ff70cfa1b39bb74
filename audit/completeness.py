"""Is everything there that should be? Checks that compare what happened with what the trail tells of it.

Rooms register their own checks (``check``); the trail's are in ``audit.self_checks``. A verification proves that what
was recorded is unchanged; completeness asks whether it was recorded, sealed, kept and passed on at all.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.db import transaction
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from audit import sealing
from audit.models import AuditEvent
from audit.recorder import Outcome, record
from audit.vocabulary import TrailEvent
from compliance_bot.guardrails import policy

MOST = 100
"""No more findings of one check: whoever has to look into a hundred begins with the first."""
_NEWEST = 20
_TOLD = 10
# What is at the edge of retention may be purged between two looks.
_EDGE = timedelta(hours=1)
_OVERLAP = timedelta(days=1)
# The night comes once a day; a bit of patience for a machine that was off.
_STALE = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is missing. ``where`` names the row: "message 17", "seal 3"."""

    where: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a check looks at: rows and events from ``since`` on.

    That is since a day before the last check that found nothing, and never so far back that retention may have taken
    the events. What is found therefore stays found until it is mended or the events' time is over.
    """

    now: datetime
    since: datetime


Look = Callable[[Window], Iterable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    label: str | Promise
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one check found: at most ``MOST``."""

    check: Check
    findings: list[Finding]


_checks: dict[str, Check] = {}


def check(name: str, label: str | Promise) -> Callable[[Look], Look]:
    """Register a check under a name for the trail and a label for people.

    A check reads the row before the event that tells of it, and where it starts from events, the event before the
    row: both are committed together, so what is just happening is no finding.
    """

    def register(look: Look) -> Look:
        _checks[name] = Check(name=name, label=label, look=look)
        return look

    return register


def checks() -> list[Check]:
    return list(_checks.values())


def run(now: datetime) -> list[Result]:
    """Every check's findings. Changes nothing."""
    window = Window(now=now, since=_since(now))
    return [Result(check=one, findings=list(islice(one.look(window), MOST))) for one in checks()]


def run_and_record(now: datetime) -> list[Result]:
    """Check, and put on the trail that it was done and what came of it."""
    results = run(now)
    found = [
        {"check": result.check.name, "where": finding.where, "what": finding.what}
        for result in results
        for finding in result.findings
    ]
    facts = {"checks": {result.check.name: len(result.findings) for result in results}, "first": found[:_TOLD]}
    with transaction.atomic():
        record(TrailEvent.CHECKED, outcome=Outcome.FAILURE if found else Outcome.SUCCESS, facts=facts)
    return results


def newest(name: TrailEvent) -> AuditEvent | None:
    """The last event with this name, if it was recorded here: who writes into the table could say that all is well."""
    return next(filter(sealing.is_ours, AuditEvent.objects.filter(what=name).order_by("-pk")[:_NEWEST]), None)


def badge(now: datetime) -> tuple[str, str]:
    """(colour, one sentence) about the whole trail: ``success``, ``failed``, or ``pending`` when nobody looked lately.

    Cheap: the newest verification, the newest check and the sealer's state; six queries.
    """
    verified, checked = newest(TrailEvent.VERIFIED), newest(TrailEvent.CHECKED)
    if verified is not None and verified.outcome == Outcome.FAILURE:
        return "failed", _("The trail is not intact.")
    if sealing.status(now)[1]:
        return "failed", _("Sealing is behind.")
    if checked is None:
        return "pending", _("Not checked for gaps yet.")
    if checked.outcome == Outcome.FAILURE:
        return "failed", _("Something is missing on the trail or around it.")
    if now - checked.at > _STALE:
        return "pending", _("Not checked for gaps lately.")
    return "success", _("The trail is whole.")


def _since(now: datetime) -> datetime:
    days = policy.current().audit
    kept = timedelta(days=min([days.retention_days, *days.retention_days_by_class.values()])) - _EDGE
    clean = AuditEvent.objects.filter(what=TrailEvent.CHECKED, outcome=Outcome.SUCCESS).order_by("-pk").first()
    return max(now - kept, clean.at - _OVERLAP) if clean else now - kept
