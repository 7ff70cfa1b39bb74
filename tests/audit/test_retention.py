"""What is due leaves the table for an archive file, provably, and whatever goes wrong can be taken up again."""

import errno
import os
from collections.abc import Callable
from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit import archive, retention, sealing, search_index, triggers
from audit.archive import ArchiveError
from audit.models import AuditEvent, AuditHold, AuditLeaf, AuditPayload, AuditPurge, AuditPurgeGrant
from audit.recorder import record
from audit.search import Search, count
from audit.verification import Tally, verify
from audit.vocabulary import AccessEvent, TrailEvent
from workflows.domain.events import Event

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(days=40)


def past(number: int, *, age: timedelta = LONG_AGO, what: str = Event.RUN_QUEUED, why: str = "群发 old") -> list[int]:
    """Events of that age, sealed."""
    with time_machine.travel(timezone.now() - age), transaction.atomic():
        pks = [record(what, why=f"{why} {n}", erasable={"name": "Ann"} if n == 0 else None).pk for n in range(number)]
        sealing.sweep(timezone.now())
    return pks


def purge() -> bool:
    return retention.purge(timezone.now())


def left(pks: list[int]) -> set[int]:
    return set(AuditEvent.objects.filter(pk__in=pks).values_list("pk", flat=True))


def proved() -> Tally:
    """The trail verifies; what was looked at."""
    tally = Tally()
    sealing.sweep(timezone.now())
    assert [f"{problem.where}: {problem.what}" for problem in verify(timezone.now(), tally)] == []
    return tally


def problems() -> list[str]:
    sealing.sweep(timezone.now())
    return [f"{problem.where}: {problem.what}" for problem in verify(timezone.now(), Tally())]


def hold(**criteria: object) -> AuditHold:
    """Straight into the table: who may place one is another test's business."""
    facts = {"reason": "Case 7", "owner": "Legal", "placed_by": "olivia", "placed_at": timezone.now()}
    return AuditHold.objects.create(**facts, **criteria)


class TestPurging:
    def test_what_is_due_leaves_and_the_trail_stays_proved(self) -> None:
        old, young = past(5), past(2, age=timedelta(days=29))
        assert purge()
        assert left(old) == set()
        assert left(young) == set(young)
        tally = proved()
        assert tally.purged == 5
        assert AuditLeaf.objects.filter(event_pk__in=old).count() == 5

    def test_it_is_on_the_trail_with_the_files_digest(self) -> None:
        past(3)
        purge()
        grant = AuditPurgeGrant.objects.get()
        granted, purged = (AuditEvent.objects.get(what=what).facts for what in ("trail.purge_granted", "trail.purged"))
        assert granted["archive_sha256"] == archive.digest_of(grant.archive).hex()
        assert (granted["events"], purged["purged"], purged["of"]) == (3, 3, 3)

    def test_it_says_why(self, set_policy: Callable[[str], None]) -> None:
        set_policy("security: {audit: {retention_days: 20, retention_days_by_class: {access: 1}}}")
        past(3)
        purge()
        told = AuditEvent.objects.filter(what__in=["trail.purge_granted", "trail.purged"])
        assert [event.why for event in told] == ["older than 1 day"] * 2

    def test_the_index_forgets_what_was_purged(self) -> None:
        pks = past(3)
        assert count(Search(q="群发")) == 3
        purge()
        assert count(Search(q="群发")) == 0
        assert search_index.newest([[["群发"]]], above=0, below=pks[-1] + 1, limit=9) == []

    def test_a_second_purge_finds_nothing(self) -> None:
        past(3)
        purge()
        purge()
        assert AuditPurgeGrant.objects.count() == 1
        assert len(archive.names()) == 1

    def test_what_is_not_sealed_waits(self) -> None:
        with time_machine.travel(timezone.now() - LONG_AGO, tick=False):
            pk = record(AccessEvent.DENIED).pk
        assert retention._segment(timezone.now(), None) == []
        purge()  # seals first
        assert left([pk]) == set()

    def test_many_events_make_several_files_and_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retention, "SEGMENT", 4)
        monkeypatch.setattr(retention, "BATCH", 3)
        old = past(10)
        purge()
        assert left(old) == set()
        assert list(AuditPurgeGrant.objects.order_by("n").values_list("events", flat=True)) == [4, 4, 2]
        assert proved().purged == 10

    def test_each_class_has_its_own_limit(self, set_policy: Callable[[str], None]) -> None:
        set_policy("security: {audit: {retention_days: 30, retention_days_by_class: {access: 90, decision: 10}}}")
        standard, access = past(1), past(1, what=AccessEvent.DENIED)
        decision, fresh = past(1, age=timedelta(days=11), what=Event.APPROVAL_GRANTED), past(1, age=timedelta(days=11))
        purge()
        assert left([*standard, *access, *decision, *fresh]) == {*access, *fresh}

    def test_the_events_that_prove_a_purge_are_never_purged(self) -> None:
        with time_machine.travel(timezone.now() - LONG_AGO):
            past(3)
            purge()
        purge()
        assert AuditEvent.objects.filter(what=TrailEvent.PURGE_GRANTED).count() == AuditPurgeGrant.objects.count() == 2
        assert not AuditEvent.objects.filter(what=TrailEvent.PURGED, at__lt=timezone.now() - LONG_AGO).exists()
        proved()

    def test_without_an_archive_the_database_refuses(self) -> None:
        pk = past(1)[0]
        AuditPurge.objects.create(event_pk=pk, grant_n=1)
        with pytest.raises(DatabaseError, match="nothing is removed"), transaction.atomic():
            connection.cursor().execute("DELETE FROM audit_auditevent WHERE id = %s", [pk])

    def test_a_row_that_was_tampered_with_is_not_purged_away(self) -> None:
        pk = past(2)[0]
        triggers.GUARDS.remove(connection)
        connection.cursor().execute("UPDATE audit_auditevent SET who_label = 'another' WHERE id = %s", [pk])
        triggers.GUARDS.install(connection)
        with pytest.raises(ArchiveError, match=f"event {pk} was changed in who_label"):
            purge()
        assert left([pk]) == {pk}
        assert archive.names() == []


class TestHolds:
    def test_a_hold_beats_the_purge(self) -> None:
        kept, gone = past(2, why="kept", what=Event.RUN_FAILED), past(2)
        request = AuditEvent.objects.get(pk=kept[0]).request_id
        assert AuditEvent.objects.get(pk=gone[0]).request_id == request
        hold(request_id=request)
        purge()
        assert left([*kept, *gone]) == {*kept, *gone}
        assert not AuditPurgeGrant.objects.exists()

    def test_a_hold_that_comes_after_the_grant_wins_too(self) -> None:
        old = past(4)
        granted(old)
        kept = AuditEvent.objects.get(pk=old[1])
        placed = hold(starts_at=kept.at, ends_at=kept.at + timedelta(microseconds=1))
        purge()
        assert left(old) == {kept.pk}
        assert proved().purged == 3
        release(placed)
        purge()
        assert left(old) == set()
        assert AuditPurgeGrant.objects.count() == 1
        assert proved().purged == 4


def granted(pks: list[int]) -> AuditPurgeGrant:
    """As far as a purge has come when it is killed between grant and delete."""
    assert retention._grant(1, pks, timezone.now())
    return AuditPurgeGrant.objects.get(n=1)


def release(placed: AuditHold) -> None:
    asked = {
        "release_asked_by": "olivia",
        "release_asked_by_pk": 1,
        "release_asked_at": timezone.now(),
        "release_reason": "Closed",
    }
    AuditHold.objects.filter(pk=placed.pk).update(
        **asked, released_by="oscar", released_by_pk=2, released_at=timezone.now()
    )


class TestCrashes:
    """Each test puts the trail into the state that the crash leaves behind."""

    def test_between_archive_and_grant(self) -> None:
        old = past(3)
        orphan = archive.write(1, old, timezone.now() - timedelta(hours=1))
        purge()
        assert left(old) == set()
        assert AuditPurgeGrant.objects.count() == 1
        assert orphan.name in archive.names()  # a copy that nothing hangs on; it expires like the others
        proved()

    def test_between_grant_and_delete(self) -> None:
        old = past(3)
        granted(old)
        assert left(old) == set(old)
        proved()
        purge()
        assert left(old) == set()
        assert AuditPurgeGrant.objects.count() == 1
        assert proved().purged == 3

    def test_in_the_middle_of_deleting(self) -> None:
        old = past(5)
        grant = granted(old)
        with transaction.atomic():
            retention._delete_batch(grant, old[:2], timezone.now())
        assert proved().purged == 2
        purge()
        assert left(old) == set()
        assert proved().purged == 5

    def test_in_the_middle_of_writing(self) -> None:
        folder = settings.AUDIT_ARCHIVE_DIR
        folder.mkdir()
        (folder / "unfinished-old").touch()
        (folder / "unfinished-new").touch()
        os.utime(folder / "unfinished-old", (0, 0))
        past(1)
        purge()
        assert {path.name for path in folder.glob("unfinished-*")} == {"unfinished-new"}

    def test_a_full_disk_purges_nothing_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        old = past(3)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ArchiveError, match=r"No space left on device.*nothing was purged"):
            purge()
        monkeypatch.setattr(os, "fsync", os.fdatasync)
        assert left(old) == set(old)
        assert list(settings.AUDIT_ARCHIVE_DIR.iterdir()) == []
        assert not AuditPurgeGrant.objects.exists()
        purge()
        assert left(old) == set()

    def test_out_of_time_it_stops_and_goes_on_later(self) -> None:
        old = past(3)
        assert retention.purge(timezone.now(), until=0) is False
        assert left(old) == set(old)
        granted(old)
        assert retention.purge(timezone.now(), until=0) is False
        assert left(old) == set(old)
        assert purge() is True
        assert left(old) == set()

    def test_an_archive_that_was_changed_lets_nothing_more_go(self, caplog: pytest.LogCaptureFixture) -> None:
        old = past(2)
        first = granted(old)
        archive.path_of(first.archive).write_bytes(b"")
        purge()
        assert "was changed; nothing more is deleted under it" in caplog.text
        assert left(old) == set()  # archived once more, under a grant of its own
        assert AuditPurgeGrant.objects.get(n=2).events == 2


class TestForgeriesAreFound:
    """By somebody who owns the database, guards lifted."""

    @pytest.fixture(autouse=True)
    def _purged(self) -> None:
        self.old, self.young = past(3), past(2, age=timedelta(days=2))
        purge()
        sealing.sweep(timezone.now())
        triggers.GUARDS.remove(connection)

    def run(self, sql: str, *arguments: int) -> None:
        connection.cursor().execute(sql, arguments)

    def test_an_event_taken_out_as_if_purged(self) -> None:
        self.run("DELETE FROM audit_auditevent WHERE id = %s", self.young[0])
        assert problems() == [f"event {self.young[0]}: was taken out after it was sealed"]
        self.run("INSERT INTO audit_auditpurge (event_pk, grant_n) VALUES (%s, 1)", self.young[0])
        assert problems() == ["grant 1: what was purged under it is not what it was granted for"]

    def test_a_purge_row_without_its_grant(self) -> None:
        self.run("DELETE FROM audit_auditevent WHERE id = %s", self.young[0])
        self.run("INSERT INTO audit_auditpurge (event_pk, grant_n) VALUES (%s, 7)", self.young[0])
        assert problems() == [f"event {self.young[0]}: was purged under grant 7, which is not there"]

    def test_a_purge_row_exchanged_for_another(self) -> None:
        self.run("DELETE FROM audit_auditevent WHERE id = %s", self.young[0])
        self.run("UPDATE audit_auditpurge SET event_pk = %s WHERE event_pk = %s", self.young[0], self.old[0])
        assert f"event {self.old[0]}: was taken out after it was sealed" in problems()
        assert "grant 1: what was purged under it is not what it was granted for" in problems()

    def test_a_purge_row_less_and_a_stranger_instead_of_two(self) -> None:
        self.run("DELETE FROM audit_auditpurge WHERE event_pk IN (%s, %s)", *self.old[:2])
        self.run("DELETE FROM audit_auditevent WHERE id = %s", self.young[0])
        self.run("INSERT INTO audit_auditpurge (event_pk, grant_n) VALUES (%s, 1)", self.young[0])
        assert "grant 1: what was purged under it is not what it was granted for" in problems()

    def test_a_mark_on_an_event_that_is_there(self) -> None:
        self.run("INSERT INTO audit_auditpurge (event_pk, grant_n) VALUES (%s, 7)", self.young[0])
        assert problems() == [f"event {self.young[0]}: is marked as purged, but is there"]

    def test_a_grant_that_the_trail_does_not_tell_of(self) -> None:
        forged = AuditPurgeGrant.objects.get()
        forged.n, forged.archive, forged._state.adding = 2, "audit-00000002-0123456789abcdef.jsonl.gz", True
        forged.save(force_insert=True)
        assert problems() == ["grant 2: is not what the trail tells of it: it was forged or changed"]

    def test_a_grant_that_was_widened(self) -> None:
        self.run("UPDATE audit_auditpurgegrant SET events = events + 1")
        assert problems() == ["grant 1: is not what the trail tells of it: it was forged or changed"]

    def test_a_grant_that_was_taken_out(self) -> None:
        self.run("DELETE FROM audit_auditpurgegrant")
        assert "grant 1: is on the trail, but was taken out of its table" in problems()

    def test_a_changed_archive(self) -> None:
        path = archive.path_of(AuditPurgeGrant.objects.get().archive)
        path.write_bytes(path.read_bytes() + b"x")
        assert problems() == ["grant 1: its archive file was changed"]

    def test_an_archive_that_is_gone(self) -> None:
        archive.path_of(AuditPurgeGrant.objects.get().archive).unlink()
        assert problems() == ["grant 1: its archive file is gone"]


class TestExpiry:
    def expire(self, days: int) -> None:
        with time_machine.travel(timezone.now() + timedelta(days=days)):
            assert retention.expire_archives(timezone.now())

    def test_an_archive_goes_when_its_newest_event_is_too_old(self) -> None:
        details = AuditPayload.objects.filter(event_pk=past(2)[0])
        purge()
        self.expire(184 - 41)
        assert len(archive.names()) == 1
        assert details.exists()
        self.expire(184 - 39)
        assert archive.names() == []
        assert not details.exists()
        event = AuditEvent.objects.get(what=TrailEvent.ARCHIVE_EXPIRED)
        facts = event.facts
        assert event.why == "older than 184 days"
        assert (facts["grant"], facts["events"], facts["details"]) == (1, 2, 1)
        with time_machine.travel(timezone.now() + timedelta(days=184 - 39)):
            proved()

    def test_a_hold_keeps_the_whole_file_and_its_details(self) -> None:
        pks = past(2)
        request = AuditEvent.objects.get(pk=pks[1]).request_id
        purge()
        placed = hold(request_id=request)
        self.expire(1000)
        assert len(archive.names()) == 1
        assert AuditPayload.objects.filter(event_pk=pks[0]).exists()
        release(placed)
        self.expire(1000)
        assert archive.names() == []

    def test_a_file_with_an_event_that_is_still_in_the_table_stays(self) -> None:
        granted(past(2))
        self.expire(1000)
        assert len(archive.names()) == 1

    def test_a_file_that_no_grant_names_expires_too(self) -> None:
        archive.write(1, past(2), timezone.now() - timedelta(hours=1))
        purge()
        assert len(archive.names()) == 2
        self.expire(1000)
        assert archive.names() == []

    def test_a_crash_before_the_file_was_removed_is_made_good_and_told_once(self) -> None:
        past(1)
        purge()
        name = archive.names()[0]
        content = archive.path_of(name).read_bytes()
        self.expire(1000)
        archive.path_of(name).write_bytes(content)
        self.expire(1000)
        assert archive.names() == []
        assert AuditEvent.objects.filter(what=TrailEvent.ARCHIVE_EXPIRED).count() == 1

    def test_a_damaged_file_is_kept_and_told_loudly(self, caplog: pytest.LogCaptureFixture) -> None:
        past(1)
        purge()
        archive.path_of(archive.names()[0]).write_bytes(b"no gzip")
        self.expire(1000)
        assert len(archive.names()) == 1
        assert "cannot be read and is kept" in caplog.text


@pytest.mark.parametrize(("days", "warns"), [(183, True), (184, False)])
def test_less_than_six_months_is_warned_of(set_policy: Callable[[str], None], days: int, *, warns: bool) -> None:
    set_policy(f"security: {{audit: {{archive_days: {days}}}}}")
    found = checks.run_checks(tags=["security"], include_deployment_checks=True)
    told = [str(one.hint) for one in found if one.id == "audit.W001"]
    assert ["art. 23 (3)" in hint for hint in told] == ([True] if warns else [])


def test_a_policy_that_cannot_be_read_is_another_checks_business(set_policy: Callable[[str], None]) -> None:
    set_policy("nonsense")
    found = checks.run_checks(tags=["security"], include_deployment_checks=True)
    assert "workflows.E001" in {one.id for one in found}
    assert "audit.W001" not in {one.id for one in found}


class TestTheCommand:
    def test_it_shows_what_would_go(self) -> None:
        past(3)
        past(1, what=Event.RUN_FAILED, why="kept")
        kept = AuditEvent.objects.get(why="kept 0")
        hold(starts_at=kept.at, ends_at=kept.at + timedelta(microseconds=1))
        said = StringIO()
        call_command("audit_retention", stdout=said)
        assert "standard: 30 days" in said.getvalue()
        assert "3 to purge, 1 on hold" in said.getvalue()
        assert not AuditPurgeGrant.objects.exists()

    def test_it_purges_when_told_to(self) -> None:
        old = past(3)
        call_command("audit_retention", "--purge", stdout=StringIO())
        assert left(old) == set()
        said = StringIO()
        call_command("verify_audit", stdout=said)
        assert ", 3 purged under a grant" in said.getvalue()


def test_an_archive_that_is_gone_lets_nothing_more_go(set_policy: Callable[[str], None]) -> None:
    """Without the file a grant's range alone would cover whatever else somebody takes out of it."""
    set_policy("security: {audit: {retention_days_by_class: {decision: 365}}}")
    past(1, age=timedelta(days=201))
    (kept,) = past(1, age=timedelta(days=200), what=TrailEvent.HOLD_RELEASE_ASKED)
    past(1, age=timedelta(days=199))
    assert purge()
    assert retention.expire_archives(timezone.now())
    assert problems() == []
    with connection.cursor() as cursor:  # no guard stands in the way
        cursor.execute("INSERT INTO audit_auditpurge (event_pk, grant_n) VALUES (%s, 1)", [kept])
        cursor.execute("DELETE FROM audit_auditevent WHERE id = %s", [kept])
    assert problems() == ["grant 1: what was purged under it is not what it was when its archive was removed"]
