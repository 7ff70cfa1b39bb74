"""Exports that recur: each period's events, in a folder on the server, soon after the period is over."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from itertools import takewhile

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone
from django.utils.text import get_valid_filename
from django.utils.translation import gettext as _

from audit import context, notices
from audit.export import columns, jobs
from audit.export.stream import Export
from audit.forms import SearchForm
from audit.models import AuditReport, Period
from audit.recorder import Outcome, record
from audit.search import Search
from audit.vocabulary import ObjectEvent

# Local time; by then the clocks have changed where they change, and late commits are in.
_HOUR = time(6)
_MOST_MISSED = 5


def next_after(period: str, moment: datetime) -> datetime:
    """When the next report of this kind is due: at six, local time."""
    return next(_due_times(period, moment))


def span(period: str, due_at: datetime) -> tuple[date, date]:
    """The days that the report due then is about; the second one is not among them."""
    end = _begin(period, timezone.localtime(due_at).date())
    return _begin(period, end - timedelta(days=1)), end


def due(now: datetime) -> QuerySet[AuditReport]:
    return AuditReport.objects.filter(enabled=True, next_at__lte=now).select_related("owner").order_by("next_at")


def start(report: AuditReport, now: datetime) -> None:
    """Ask for the export that is due. What was missed is made up for one by one, at most the last five."""
    assert report.next_at is not None  # noqa: S101 - due() says so
    later = list(takewhile(lambda at: at <= now, _due_times(report.period, report.next_at)))
    due_at = [report.next_at, *later][-_MOST_MISSED:][0]
    with transaction.atomic(), context.system_acting(on_behalf_of=report.owner.get_username()):
        same = AuditReport.objects.filter(pk=report.pk, enabled=True, next_at=report.next_at)
        if not same.update(next_at=next_after(report.period, due_at)):
            return
        asked, problem = search_of(report.query), ""
        if asked is None:
            problem = _("Its search can no longer be read.")
        elif not may_have(report.owner):
            problem = _("Its owner may no longer export.")
        else:
            _ask(report, asked, due_at)
        if problem:
            _switch_off(report, problem)
    if problem:
        _tell(report, problem)


def search_of(query: str) -> Search | None:
    """A search as pasted: the address of the list, or what stands behind its question mark, or words."""
    text = query.strip()
    form = SearchForm(QueryDict(text.rpartition("?")[2]) if "=" in text else {"q": text})
    return replace(form.search(), since=None, until=None) if form.is_valid() else None


def may_have(owner: User) -> bool:
    return owner.is_active and owner.has_perm(jobs.PERMISSION)


def file_name(report: AuditReport, due_at: datetime) -> str:
    """What its file is called; a name that could lead out of the folder loses what would."""
    first = span(report.period, due_at)[0]
    label = {Period.DAY: f"{first}", Period.WEEK: f"{first:%G-W%V}", Period.MONTH: f"{first:%Y-%m}"}
    name = get_valid_filename(report.name).encode()[:180].decode(errors="ignore")  # 255 bytes are all that disks take
    return f"{name}-{label[Period(report.period)]}.{report.form}"


def _ask(report: AuditReport, asked: Search, due_at: datetime) -> None:
    first, end = (timezone.make_aware(datetime.combine(day, time.min)) for day in span(report.period, due_at))
    export = Export(
        search=replace(asked, since=first, until=end),
        form=report.form,
        columns=columns.DEFAULT,
        reason=report.reason,
    )
    jobs.ask(export, owner=report.owner, copy_as=file_name(report, due_at))


def _switch_off(report: AuditReport, why: str) -> None:
    AuditReport.objects.filter(pk=report.pk).update(enabled=False)
    facts = {"enabled": [True, False]}
    record(ObjectEvent.CHANGED, target=report, why=why, outcome=Outcome.REFUSED, facts=facts)


def _tell(report: AuditReport, problem: str) -> None:
    facts = {"name": report.name, "problem": problem}
    notices.tell(
        _("Report %(name)s was switched off") % facts,
        _("%(name)s was switched off: %(problem)s") % facts,
    )


def _due_times(period: str, after: datetime) -> Iterator[datetime]:
    day = timezone.localtime(after).date()
    while True:
        if day == _begin(period, day):
            at = timezone.make_aware(datetime.combine(day, _HOUR))
            if at > after:
                yield at
        day += timedelta(days=1)


def _begin(period: str, day: date) -> date:
    """The first day of the period in which ``day`` lies."""
    if period == Period.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == Period.MONTH else day
