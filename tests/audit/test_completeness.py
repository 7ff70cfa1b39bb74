"""The trail's look at itself: each thing that can be missing is told, and nothing else is."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import completeness, sealing, search_index
from audit.completeness import Finding, Window
from audit.models import AuditEvent, AuditForwarder, AuditHold, AuditPurge, AuditPurgeGrant
from audit.recorder import Outcome, record
from audit.verification import Tally, verify_and_record
from audit.vocabulary import AccessEvent, TrailEvent
from compliance_bot.guardrails import policy

pytestmark = pytest.mark.django_db


@pytest.fixture
def installed(db: None) -> None:
    """What installing has recorded may have waited for a seal for longer than a test takes."""
    sealing.sweep(timezone.now())


def found(name: str, after: timedelta = timedelta()) -> list[str]:
    results = completeness.run(timezone.now() + after)
    (result,) = [result for result in results if result.check.name == name]
    return [f"{finding.where} {finding.what}" for finding in result.findings]


def seal() -> None:
    record(AccessEvent.DENIED)
    sealing.sweep(timezone.now())


def grant(archive: Path, *, n: int | None = None, granted_at: datetime | None = None) -> int:
    """For one event, with an archive whose turn to be read is today."""
    now = timezone.now()
    row = AuditPurgeGrant.objects.create(
        n=n or now.toordinal() % 7 + 7,
        granted_at=granted_at or now,
        before=now,
        events=1,
        events_digest=bytes(32),
        first_pk=0,
        last_pk=2**40,
        first_at=now,
        last_at=now,
        archive=archive.name,
        archive_sha256=hashlib.sha256(archive.read_bytes() if archive.exists() else b"").digest(),
    )
    return row.n


def test_a_new_trail_lacks_nothing() -> None:
    seal()
    assert [result.check.name for result in completeness.run(timezone.now()) if result.findings] == []


def test_every_check_says_what_it_promises() -> None:
    for check in completeness.checks():
        assert str(check.label)
        assert check.look.__doc__


class TestWhatIsMissing:
    @pytest.mark.usefixtures("installed")
    def test_a_seal(self) -> None:
        pk = record(AccessEvent.DENIED).pk
        assert found("sealing") == []
        late = f"event {pk} has waited for its seal for more than two minutes"
        assert found("sealing", timedelta(minutes=3)) == [late]

    @pytest.mark.usefixtures("installed")
    def test_a_purge_that_fails_every_night(self) -> None:
        days = policy.current().audit.retention_days
        pk = record(AccessEvent.DENIED).pk
        seal()
        assert found("overdue", timedelta(days=days + 1)) == []
        (line,) = found("overdue", timedelta(days=1000))
        assert "still not archived and purged" in line
        assert AuditEvent.objects.filter(pk=pk).exists()

    def test_a_guard(self) -> None:
        on = " ON audit_auditevent" if connection.vendor == "postgresql" else ""
        connection.cursor().execute(f"DROP TRIGGER audit_auditevent_kept{on}")
        assert found("guards") == ["database the database lacks its guards: audit_auditevent_kept"]

    def test_an_event_that_no_search_finds(self) -> None:
        record(AccessEvent.DENIED)
        lost = record(AccessEvent.DENIED, outcome=Outcome.REFUSED)
        assert found("search_index") == []
        search_index.remove([lost])
        assert found("search_index") == [f"event {lost.pk} is not in the search index"]

    def test_a_verification(self) -> None:
        seal()
        assert found("verification", timedelta(days=6)) == []
        assert found("verification", timedelta(days=8)) == ["verification the trail was never verified"]
        verify_and_record(Tally())
        assert found("verification", timedelta(days=6)) == []
        assert found("verification", timedelta(days=8)) == [
            "verification the trail was not verified for more than a week"
        ]

    def test_the_good_end_of_a_verification(self) -> None:
        record(TrailEvent.VERIFIED, outcome=Outcome.FAILURE)
        assert found("verification") == ["verification the last verification found problems"]

    def test_a_receiver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seal()
        AuditForwarder.objects.create(name="syslog", seal_n=0, failures=9)
        assert found("forwarding") == []  # switched off
        monkeypatch.setattr(settings, "AUDIT_SYSLOG", "udp://127.0.0.1:514")
        AuditForwarder.objects.update(failures=2, problem="down")
        assert found("forwarding") == []
        assert found("forwarding", timedelta(hours=2)) == ["syslog was not told of events for more than an hour"]
        AuditForwarder.objects.update(failures=3)
        assert found("forwarding") == ["syslog down"]
        AuditForwarder.objects.update(failures=0, seal_n=1)
        assert found("forwarding", timedelta(hours=2)) == []


class TestCheckpoints:
    def test_one_that_did_not_reach_its_file(self) -> None:
        seal()
        file = settings.AUDIT_CHECKPOINT_FILE
        before = file.read_bytes()
        seal()
        assert found("checkpoints", timedelta(minutes=2)) == []
        file.write_bytes(before)
        assert found("checkpoints", timedelta(minutes=2)) == ["seal 2 its checkpoint is not in checkpoints.jsonl"]

    def test_a_line_that_a_crash_cut_off_hides_none(self) -> None:
        seal()
        with settings.AUDIT_CHECKPOINT_FILE.open("a") as file:
            file.write(json.dumps({"n": 9})[:-2])
        assert found("checkpoints", timedelta(minutes=2)) == []

    def test_a_file_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "AUDIT_CHECKPOINT_FILE", tmp_path / "nowhere" / "checkpoints.jsonl")
        assert found("checkpoints") == ["checkpoints checkpoints.jsonl cannot be written"]

    def test_asking_makes_no_file(self) -> None:
        assert found("checkpoints") == []
        assert not settings.AUDIT_CHECKPOINT_FILE.exists()


NAME = "audit-00000001-0123456789abcdef.jsonl.gz"


class TestArchives:
    @pytest.fixture
    def archive(self) -> Path:
        file = Path(settings.AUDIT_ARCHIVE_DIR) / NAME
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"archived")
        return file

    def test_one_that_is_there_is_no_finding(self, archive: Path) -> None:
        grant(archive)
        assert found("archives") == []

    def test_one_that_is_gone(self, archive: Path) -> None:
        n = grant(archive)
        archive.unlink()
        assert found("archives") == [f"grant {n} its archive {NAME} is gone"]

    def test_one_that_was_changed(self, archive: Path) -> None:
        n = grant(archive)
        archive.write_bytes(b"altered!")
        assert found("archives") == [f"grant {n} its archive {NAME} was changed"]

    def test_each_is_read_once_a_week(self, archive: Path) -> None:
        grant(archive)
        archive.write_bytes(b"altered!")
        days = [bool(found("archives", timedelta(days=day))) for day in range(14)]
        assert days == [True, *[False] * 6] * 2

    def test_one_whose_time_is_over_may_be_gone(self, archive: Path, set_policy: Callable[[str], None]) -> None:
        set_policy("security: {audit: {archive_days: 200}}")
        grant(archive)
        archive.unlink()
        assert len(found("archives", timedelta(days=199))) == 1
        assert found("archives", timedelta(days=201)) == []

    def test_one_that_was_removed_under_an_earlier_policy_may_be_gone(self, archive: Path) -> None:
        n = grant(archive)
        archive.unlink()
        record(TrailEvent.ARCHIVE_EXPIRED, facts={"grant": n})
        assert found("archives") == []

    def test_a_grant_that_names_another_file(self, archive: Path) -> None:
        other = archive.with_name("other.txt")
        other.write_bytes(b"archived")
        n = grant(other)
        assert found("archives") == [f"grant {n} its archive other.txt is gone"]


class TestPurges:
    @pytest.fixture
    def begun(self) -> int:
        """A grant for one event that is due at the end of its 30 days."""
        record(AccessEvent.DENIED)
        return grant(Path(NAME))

    def test_one_that_does_not_end(self, begun: int) -> None:
        assert found("purges", timedelta(days=29)) == []
        assert found("purges", timedelta(days=31)) == [f"grant {begun} 1 of 1 events are not purged yet"]

    def test_one_that_was_granted_today_is_given_time(self, begun: int) -> None:
        late = timezone.now() + timedelta(days=30)
        grant(Path("other"), n=begun + 7, granted_at=late)
        assert found("purges", timedelta(days=30, hours=23)) == [f"grant {begun} 1 of 1 events are not purged yet"]

    def test_one_that_ended(self, begun: int) -> None:
        AuditPurge.objects.create(event_pk=AuditEvent.objects.order_by("-pk")[0].pk, grant_n=begun)
        assert found("purges", timedelta(days=31)) == []

    def test_what_is_on_hold_is_not_waited_for(self, begun: int) -> None:
        now = timezone.now()
        AuditHold.objects.create(
            starts_at=now - timedelta(days=1), reason="Lawsuit", owner="Legal", placed_by="olivia", placed_at=now
        )
        assert found("purges", timedelta(days=31)) == []


@pytest.mark.usefixtures("installed")
class TestRunning:
    def test_what_came_of_it_is_on_the_trail(self) -> None:
        record(TrailEvent.VERIFIED, outcome=Outcome.FAILURE)
        completeness.run_and_record(timezone.now())
        event = AuditEvent.objects.get(what=TrailEvent.CHECKED)
        assert event.outcome == Outcome.FAILURE
        assert event.facts["checks"]["verification"] == 1
        assert event.facts["checks"]["sealing"] == 0
        assert event.facts["first"] == [
            {"check": "verification", "where": "verification", "what": "the last verification found problems"}
        ]

    def test_a_clean_one_is_a_success(self) -> None:
        completeness.run_and_record(timezone.now())
        event = AuditEvent.objects.get(what=TrailEvent.CHECKED)
        assert (event.outcome, event.facts["first"]) == (Outcome.SUCCESS, [])

    def test_looking_alone_records_nothing(self) -> None:
        before = AuditEvent.objects.count()
        completeness.run(timezone.now())
        assert AuditEvent.objects.count() == before

    def test_it_ends_however_much_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def endless(window: Window) -> Iterator[Finding]:
            while True:
                yield Finding(where="row", what="is missing")

        monkeypatch.setattr(completeness, "_checks", {})
        completeness.check("endless", "Endless")(endless)
        (result,) = completeness.run_and_record(timezone.now())
        assert len(result.findings) == completeness.MOST
        event = AuditEvent.objects.get(what=TrailEvent.CHECKED)
        assert event.facts["checks"] == {"endless": 100}
        assert len(event.facts["first"]) == 10

    def test_the_window_never_reaches_back_into_what_may_be_purged(self, set_policy: Callable[[str], None]) -> None:
        now = timezone.now()
        assert now - timedelta(days=30) < completeness._since(now) < now - timedelta(days=29)
        set_policy("security: {audit: {retention_days_by_class: {access: 7}}}")
        assert now - timedelta(days=7) < completeness._since(now) < now - timedelta(days=6)

    def test_the_window_follows_the_last_clean_check(self) -> None:
        now = timezone.now()
        checked = record(TrailEvent.CHECKED)
        record(TrailEvent.CHECKED, outcome=Outcome.FAILURE)
        assert completeness._since(now) == checked.at - timedelta(days=1)


@pytest.mark.usefixtures("installed")
class TestBadge:
    def told(self, after: timedelta = timedelta()) -> tuple[str, str]:
        return completeness.badge(timezone.now() + after)

    def test_before_the_first_check(self) -> None:
        assert self.told() == ("pending", "Not checked for gaps yet.")

    def test_after_a_clean_one(self) -> None:
        completeness.run_and_record(timezone.now())
        sealing.sweep(timezone.now())
        assert self.told() == ("success", "The trail is whole.")
        assert self.told(timedelta(days=3)) == ("pending", "Not checked for gaps lately.")

    def test_when_something_is_missing(self) -> None:
        record(TrailEvent.CHECKED, outcome=Outcome.FAILURE)
        assert self.told() == ("failed", "Something is missing on the trail or around it.")

    def test_when_the_sealer_stands_still(self) -> None:
        record(TrailEvent.CHECKED)
        assert self.told(timedelta(minutes=2)) == ("failed", "Sealing is behind.")

    def test_when_the_trail_is_broken_nothing_else_counts(self) -> None:
        record(TrailEvent.CHECKED)
        record(TrailEvent.VERIFIED, outcome=Outcome.FAILURE)
        assert self.told() == ("failed", "The trail is not intact.")

    def test_it_costs_the_same_however_long_the_trail(self) -> None:
        for _ in range(50):
            record(TrailEvent.CHECKED)
        with CaptureQueriesContext(connection) as queries:
            self.told()
        assert len(queries) <= 6
