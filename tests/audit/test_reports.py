"""Reports that recur: on time, about the right days, made up for after downtime, and their owner's alone."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.conf import settings
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit import reports
from audit.export import jobs
from audit.models import AuditEvent, AuditExport, AuditReport
from audit.recorder import record
from audit.vocabulary import AccessEvent
from tests import people
from tests.product import free_port
from workflows import roles

pytestmark = pytest.mark.django_db
SHANGHAI = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 3, 4, 12, tzinfo=SHANGHAI)  # a Wednesday


@pytest.fixture
def audrey() -> User:
    return people.person("audrey", roles.AUDITOR)


def report(owner: User, period: str = "day", query: str = "", name: str = "Denied 拒绝") -> AuditReport:
    return AuditReport.objects.create(
        name=name,
        owner=owner,
        period=period,
        query=query,
        reason="Daily look",
        next_at=reports.next_after(period, NOON),
    )


def run(now: datetime) -> None:
    """What the clock and a worker do, until nothing is due."""
    while due := list(reports.due(now)):
        for one in due:
            reports.start(one, now)
    for job in AuditExport.objects.filter(state="queued"):
        jobs.work(job.pk)


def made() -> list[str]:
    return sorted(path.name for path in Path(settings.AUDIT_REPORT_DIR).glob("*"))


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ("day", datetime(2026, 3, 5, 6, tzinfo=SHANGHAI)),
        ("week", datetime(2026, 3, 9, 6, tzinfo=SHANGHAI)),
        ("month", datetime(2026, 4, 1, 6, tzinfo=SHANGHAI)),
    ],
)
def test_the_next_one_is_at_six_local_time(period: str, expected: datetime) -> None:
    assert reports.next_after(period, NOON) == expected
    assert reports.next_after(period, expected) > expected


@pytest.mark.parametrize(
    ("period", "due_at", "expected"),
    [
        ("day", datetime(2026, 3, 5, 6, tzinfo=SHANGHAI), (date(2026, 3, 4), date(2026, 3, 5))),
        ("week", datetime(2026, 3, 9, 6, tzinfo=SHANGHAI), (date(2026, 3, 2), date(2026, 3, 9))),
        ("month", datetime(2026, 1, 1, 6, tzinfo=SHANGHAI), (date(2025, 12, 1), date(2026, 1, 1))),
    ],
)
def test_it_is_about_the_period_before(period: str, due_at: datetime, expected: tuple[date, date]) -> None:
    assert reports.span(period, due_at) == expected


def test_a_report_holds_the_events_of_its_days_and_is_told(audrey: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "AUDIT_MAIL", ["compliance@example.com"])
    for hour, why in ((-1, "the day before"), (1, "=that day"), (25, "the day after")):
        with time_machine.travel(datetime(2026, 3, 4, tzinfo=SHANGHAI) + timedelta(hours=hour), tick=False):
            record(AccessEvent.DENIED, why=why)
    report(audrey, query="https://compliance.example/admin/audit/auditevent/?what=access.denied")
    with time_machine.travel(datetime(2026, 3, 5, 6, 0, 1, tzinfo=SHANGHAI)):
        run(timezone.now())
    assert made() == ["Denied_拒绝-2026-03-04.csv"]
    path = Path(settings.AUDIT_REPORT_DIR) / made()[0]
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text(encoding="utf-8")
    assert [row["why"] for row in csv.DictReader(io.StringIO(text, newline=""))] == ["'=that day"]
    assert ["Report" in message.subject for message in mail.outbox] == [True]


def test_what_was_missed_is_made_up_for_but_no_more_than_five(audrey: User) -> None:
    one = report(audrey)
    run(datetime(2026, 3, 20, 12, tzinfo=SHANGHAI))
    assert made() == [f"Denied_拒绝-2026-03-{day}.csv" for day in range(15, 20)]
    assert AuditReport.objects.get(pk=one.pk).next_at == datetime(2026, 3, 21, 6, tzinfo=SHANGHAI)


def test_two_clocks_start_it_once(audrey: User) -> None:
    one = report(audrey)
    now = datetime(2026, 3, 5, 7, tzinfo=SHANGHAI)
    reports.start(one, now)
    reports.start(one, now)
    assert AuditExport.objects.count() == 1


def test_an_owner_who_may_no_longer_export_gets_none(audrey: User) -> None:
    one = report(audrey)
    audrey.groups.clear()
    run(datetime(2026, 3, 5, 7, tzinfo=SHANGHAI))
    assert not AuditReport.objects.get(pk=one.pk).enabled
    assert not AuditExport.objects.exists()
    event = AuditEvent.objects.get(what="object.changed", target_type="audit.auditreport")
    assert (event.outcome, event.why) == ("refused", "Its owner may no longer export.")


def test_that_it_was_switched_off_is_told(audrey: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "AUDIT_MAIL", ["compliance@example.com"])
    report(audrey)
    audrey.groups.clear()
    run(datetime(2026, 3, 5, 7, tzinfo=SHANGHAI))
    (told,) = mail.outbox
    assert told.subject == "Report Denied 拒绝 was switched off"
    assert told.body == "Denied 拒绝 was switched off: Its owner may no longer export."


def test_that_it_could_not_be_made_is_told(audrey: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "AUDIT_MAIL", ["compliance@example.com"])
    Path(settings.AUDIT_REPORT_DIR).write_text("a file where the folder should be", encoding="utf-8")
    report(audrey)
    run(datetime(2026, 3, 5, 7, tzinfo=SHANGHAI))
    (told,) = mail.outbox
    assert told.subject == "Report Denied_拒绝-2026-03-04.csv could not be made"
    assert "File exists" in told.body


def test_a_receiver_that_cannot_be_told_does_not_undo_the_record_of_the_failure(
    audrey: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "AUDIT_MAIL", ["compliance@example.com"])
    monkeypatch.setattr(settings, "EMAIL_BACKEND", "django.core.mail.backends.smtp.EmailBackend")
    monkeypatch.setattr(settings, "EMAIL_HOST", "127.0.0.1")
    monkeypatch.setattr(settings, "EMAIL_PORT", free_port())
    Path(settings.AUDIT_REPORT_DIR).write_text("a file where the folder should be", encoding="utf-8")
    report(audrey)
    run(datetime(2026, 3, 5, 7, tzinfo=SHANGHAI))
    assert AuditExport.objects.get().state == "failed"
    assert AuditEvent.objects.filter(what="trail.export_finished", outcome="failure").exists()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ""),
        ("rate limit", "q=rate+limit"),
        ("why?", "q=why%3F"),
        ("cut \ud83d off", "q=cut+++off"),
        ("?what=access.denied&since=2026-01-01", "what=access.denied"),
    ],
)
def test_a_search_is_words_or_a_pasted_address_without_its_times(text: str, address: str) -> None:
    asked = reports.search_of(text)
    assert asked is not None
    assert asked.address() == address


def test_what_is_no_search_is_none() -> None:
    assert reports.search_of("nonsense__x=1") is None


class TestThePage:
    @pytest.fixture
    def auditor(self, audrey: User) -> Client:
        client = Client()
        client.force_login(audrey)
        return client

    def set_up(self, client: Client, **changes: str) -> str:
        data = {"name": "Weekly", "query": "", "form": "csv", "period": "week", "reason": "Why", "enabled": "on"}
        url = reverse("admin:audit_auditreport_add")
        return client.post(url, data | changes, follow=True).content.decode()

    def test_whoever_makes_it_owns_it_and_it_is_due(self, auditor: Client, audrey: User) -> None:
        self.set_up(auditor)
        one = AuditReport.objects.get()
        assert (one.owner, one.next_at) == (audrey, reports.next_after("week", timezone.now()))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"query": "nonsense__x=1"}, "This search cannot be read."),
            ({"name": ".."}, "files are called by this name"),
            ({"reason": ""}, "This field is required."),
        ],
    )
    def test_bad_input_is_told_at_its_field(self, auditor: Client, changes: dict[str, str], said: str) -> None:
        assert said in self.set_up(auditor, **changes)
        assert not AuditReport.objects.exists()

    def test_two_reports_do_not_share_a_file(self, auditor: Client) -> None:
        self.set_up(auditor, name="a b")
        assert "Another report" in self.set_up(auditor, name="a_b")

    def test_only_its_owner_changes_it_and_only_exporters_see_it(self, auditor: Client, audrey: User) -> None:
        one = report(audrey)
        url = reverse("admin:audit_auditreport_change", args=[one.pk])
        other = Client()
        other.force_login(people.sam())
        assert other.get(url).status_code == 200
        assert other.post(url, {"name": "Mine"}).status_code == 403
        outsider = Client()
        outsider.force_login(people.alice())
        assert outsider.get(url).status_code == 403


def test_the_hour_is_local_not_universal() -> None:
    assert reports.next_after("day", NOON).astimezone(UTC).hour == 22
