"""Sealing, and a tamper drill that edits the database behind the product's back."""

import base64
import json
from datetime import datetime, timedelta
from io import StringIO

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from audit import keys, sealing, triggers
from audit.models import AuditEvent, AuditLeaf, AuditSeal
from audit.recorder import record
from audit.verification import Tally, verify
from audit.vocabulary import AccessEvent
from compliance_bot.guardrails import secrets
from workflows.domain.events import Event

pytestmark = pytest.mark.django_db


def events(count: int, why: str = "") -> list[int]:
    return [record(AccessEvent.DENIED, why=f"{why}{number}").pk for number in range(count)]


def seal_all() -> None:
    sealing.sweep(timezone.now())


def problems() -> list[str]:
    return [f"{problem.where}: {problem.what}" for problem in verify(timezone.now(), Tally())]


class TestSealing:
    def test_a_quiet_event_waits_for_company(self) -> None:
        seal_all()  # what installing has recorded
        events(1)
        now = timezone.now()
        assert sealing.seal_due(now) is None
        seal = sealing.seal_due(now + sealing.PATIENCE)
        assert seal is not None
        assert seal.size == 1

    def test_a_decision_is_sealed_at_once(self) -> None:
        record(Event.APPROVAL_GRANTED, why="Reads well")
        assert sealing.seal_due(timezone.now()) is not None

    def test_what_was_not_recorded_here_is_never_sealed(self) -> None:
        """Whoever can write into the table cannot make an event of it by waiting for the next seal."""
        forged = events(1, "forged")[0]
        triggers.GUARDS.remove(connection)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE audit_auditevent SET row_mac = nonce WHERE id = %s", [forged])
        triggers.GUARDS.install(connection)
        genuine = events(1, "genuine")[0]
        seal_all()
        assert AuditLeaf.objects.filter(event_pk=genuine).exists()
        assert not AuditLeaf.objects.filter(event_pk=forged).exists()
        assert problems() == [f"event {forged}: was not recorded by this installation: its MAC is wrong"]

    def test_a_backlog_is_sealed_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seal_all()
        monkeypatch.setattr(sealing, "BATCH", 3)
        events(8)
        sealing.seal_due(timezone.now() + sealing.PATIENCE)
        assert list(AuditSeal.objects.order_by("-n").values_list("size", flat=True)[:3]) == [2, 3, 3]

    def test_nothing_waiting_makes_no_seal(self) -> None:
        seal_all()
        before = AuditSeal.objects.count()
        assert sealing.seal_due(timezone.now() + timedelta(days=1)) is None
        assert AuditSeal.objects.count() == before

    def test_seals_follow_each_other(self) -> None:
        for _ in range(3):
            events(2)
            seal_all()
        first, second, third = AuditSeal.objects.order_by("n")
        assert (first.n, second.n, third.n) == (1, 2, 3)
        assert bytes(second.previous_hash) == bytes(first.seal_hash)
        assert bytes(third.previous_hash) == bytes(second.seal_hash)

    def test_an_event_that_commits_late_is_not_skipped(self) -> None:
        late = record(AccessEvent.DENIED, why="late")
        columns = {field.name: getattr(late, field.attname) for field in AuditEvent._meta.fields}
        triggers.GUARDS.remove(connection)
        connection.cursor().execute("DELETE FROM audit_auditevent WHERE id = %s", [late.pk])
        events(3)
        seal_all()
        AuditEvent(**columns).save(force_insert=True)  # its lower id becomes visible only now
        triggers.GUARDS.install(connection)
        sealing.seal_due(timezone.now() + sealing.PATIENCE)
        assert AuditLeaf.objects.filter(event_pk=late.pk).exists()
        assert problems() == []

    def test_every_event_has_exactly_one_leaf(self) -> None:
        events(sealing.BATCH + 5)
        seal_all()
        assert AuditLeaf.objects.count() == AuditEvent.objects.count()

    def test_a_rotated_key_signs_new_seals_and_old_ones_stay_valid(self) -> None:
        events(1)
        seal_all()
        keys.rotate()
        events(1)
        seal_all()
        first, second = AuditSeal.objects.order_by("n")
        assert first.key_id != second.key_id
        assert set(keys.public_keys()) == {first.key_id, second.key_id}
        assert problems() == []


class TestATamperedTrailIsFoundOut:
    """Each way in which somebody who owns the database could try."""

    @pytest.fixture(autouse=True)
    def _sealed(self) -> None:
        self.pks = events(3, "first ")
        seal_all()
        self.later = events(3, "second ")
        seal_all()
        assert problems() == []
        triggers.GUARDS.remove(connection)  # until this test is rolled back

    def run(self, sql: str, *arguments: int | datetime | str) -> None:
        with transaction.atomic():
            connection.cursor().execute(sql, arguments)

    def test_a_changed_column(self) -> None:
        self.run("UPDATE audit_auditevent SET who_label = 'somebody else' WHERE id = %s", self.pks[1])
        assert problems() == [f"event {self.pks[1]}: was changed in who_label"]

    def test_a_changed_time(self) -> None:
        event = AuditEvent.objects.get(pk=self.pks[1])
        self.run("UPDATE audit_auditevent SET at = %s WHERE id = %s", event.at - timedelta(hours=1), event.pk)
        assert problems() == [f"event {event.pk}: was changed in at"]

    def test_a_changed_text(self) -> None:
        event = AuditEvent.objects.get(pk=self.pks[1])
        canon = event.canon.replace("first 1", "harmless")
        self.run("UPDATE audit_auditevent SET canon = %s, why = 'harmless' WHERE id = %s", canon, event.pk)
        assert problems()[0] == f"event {event.pk}: its text was changed"

    def test_a_row_that_was_rewritten_whole(self) -> None:
        other = record(AccessEvent.DENIED, why="made to look right")
        self.run("DELETE FROM audit_auditevent WHERE id = %s", self.pks[1])
        self.run("UPDATE audit_auditevent SET id = %s WHERE id = %s", self.pks[1], other.pk)
        assert f"event {self.pks[1]}: is not the event that was sealed in this place" in problems()

    def test_two_rows_that_changed_places(self) -> None:
        first, second = self.pks[0], self.later[0]
        for old, new in ((first, 10**9), (second, first), (10**9, second)):
            self.run("UPDATE audit_auditevent SET id = %s WHERE id = %s", new, old)
        assert [line.split(":")[0] for line in problems()] == [f"event {first}", f"event {second}"]

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases refuse such values")
    @pytest.mark.parametrize(
        ("column", "problem"),
        [("at", "was changed in at"), ("request_id", "was changed: a column holds what cannot be read")],
    )
    def test_a_column_with_rubbish(self, column: str, problem: str) -> None:
        self.run(f"UPDATE audit_auditevent SET {column} = 'rubbish' WHERE id = %s", self.pks[1])  # noqa: S608
        assert problems() == [f"event {self.pks[1]}: {problem}"]

    @pytest.mark.parametrize("fact", ["plain", '"', "\\", '},"ip":null', "\x07 \u2028 群发 😀"])
    def test_facts_that_look_like_columns_are_neither_an_alarm_nor_a_way_round(self, fact: str) -> None:
        pk = record(AccessEvent.DENIED, why=fact, facts={"ip": fact, "why": {'},"ip":': fact}}).pk
        seal_all()
        assert problems() == []
        self.run("UPDATE audit_auditevent SET why = %s WHERE id = %s", "another", pk)
        assert problems() == [f"event {pk}: was changed in why"]

    def test_a_deleted_row(self) -> None:
        self.run("DELETE FROM audit_auditevent WHERE id = %s", self.pks[1])
        assert problems() == [f"event {self.pks[1]}: was taken out after it was sealed"]

    def test_a_deleted_row_with_its_leaf(self) -> None:
        self.run("DELETE FROM audit_auditevent WHERE id = %s", self.pks[1])
        self.run("DELETE FROM audit_auditleaf WHERE event_pk = %s", self.pks[1])
        assert problems()[0].startswith("seal 1: holds ")

    def test_a_row_put_in_by_somebody_without_the_key(self) -> None:
        self.run("UPDATE audit_auditevent SET row_mac = nonce WHERE id = %s", record(AccessEvent.DENIED).pk)
        assert "was not recorded by this installation" in problems()[0]

    def test_a_row_put_into_the_past(self) -> None:
        forged = record(AccessEvent.DENIED, why="as if long ago")
        self.run("UPDATE audit_auditevent SET at = %s WHERE id = %s", forged.at - timedelta(days=9), forged.pk)
        assert "has waited for a seal for too long" in problems()[-1]

    @pytest.mark.parametrize("seal_n", [0, 10**9])
    def test_a_row_put_in_with_a_leaf_under_no_seal(self, seal_n: int) -> None:
        forged = record(AccessEvent.DENIED, why="never looked at")
        self.run(
            "INSERT INTO audit_auditleaf (event_pk, seal_n, position, row_hash) "
            "SELECT id, %s, 0, row_hash FROM audit_auditevent WHERE id = %s",
            seal_n,
            forged.pk,
        )
        assert problems() == [f"event {forged.pk}: its leaf was put in: there is no seal {seal_n}"]

    def test_a_leaf_far_ahead_does_not_stop_the_sealer(self) -> None:
        leaf = "INSERT INTO audit_auditleaf (event_pk, seal_n, position, row_hash) SELECT %s, 10, 0, row_hash "
        self.run(leaf + "FROM audit_auditleaf WHERE event_pk = %s", 10**9, self.pks[0])
        late = events(1)[0]
        assert sealing.status(timezone.now() + timedelta(minutes=2))[1]
        sealing.seal_due(timezone.now() + sealing.PATIENCE)
        assert AuditLeaf.objects.filter(event_pk=late).exists()

    @pytest.mark.parametrize("pk", [0, -7])
    def test_a_row_put_in_below_the_first(self, pk: int) -> None:
        """The table's own rule has to be taken away first."""
        forged = record(AccessEvent.DENIED).pk
        if connection.vendor == "sqlite":
            self.run("PRAGMA ignore_check_constraints = 1")
        else:
            self.run("ALTER TABLE audit_auditevent DROP CONSTRAINT audit_id_positive")
        self.run("UPDATE audit_auditevent SET row_mac = nonce, id = %s WHERE id = %s", pk, forged)
        if connection.vendor == "sqlite":
            self.run("PRAGMA ignore_check_constraints = 0")
        assert problems() == [f"event {pk}: was not recorded by this installation: its MAC is wrong"]

    def test_the_newest_seals_cut_off(self) -> None:
        for table, column in (("auditseal", "n"), ("auditleaf", "seal_n")):
            self.run(f"DELETE FROM audit_{table} WHERE {column} = 2")  # noqa: S608
        self.run("DELETE FROM audit_auditevent WHERE id >= %s", self.later[0])
        assert problems() == ["checkpoint 2: its seal is gone: the trail was cut off or replaced"]

    def test_the_whole_table_replaced_under_another_key(self) -> None:
        for table in ("auditevent", "auditleaf", "auditseal"):
            self.run(f"DELETE FROM audit_{table}")  # noqa: S608
        checkpoints = settings.AUDIT_CHECKPOINT_FILE.read_text()
        stranger = Ed25519PrivateKey.generate()
        mine = secrets.get("local").read("audit-seal-keys")
        secrets.get("local").write("audit-seal-keys", base64.b64encode(stranger.private_bytes_raw()).decode())
        events(4)
        seal_all()
        secrets.get("local").write("audit-seal-keys", mine)
        settings.AUDIT_CHECKPOINT_FILE.write_text(checkpoints)
        found = "\n".join(problems())
        assert "seal 1: is signed by the unknown key" in found
        assert "checkpoint 1: its seal is another one: the trail was replaced" in found

    def test_a_changed_seal(self) -> None:
        self.run("UPDATE audit_auditseal SET size = size WHERE n = 1")
        assert problems() == []
        self.run("UPDATE audit_auditseal SET root = previous_hash WHERE n = 2")
        assert {line.split(":")[0] for line in problems()} == {"seal 2"}

    def test_a_checkpoint_file_that_is_gone(self) -> None:
        settings.AUDIT_CHECKPOINT_FILE.unlink()
        assert problems() == ["checkpoints: the file checkpoints.jsonl is gone"]

    def test_a_checkpoint_line_that_a_crash_cut_off_is_no_alarm(self) -> None:
        with settings.AUDIT_CHECKPOINT_FILE.open("a") as file:
            file.write(json.dumps({"n": 3})[:-3])
        assert problems() == []

    def test_the_command_names_the_first_bad_row_and_fails(self) -> None:
        self.run("DELETE FROM audit_auditevent WHERE id = %s", self.pks[1])
        with pytest.raises(CommandError, match=rf"NOT intact .* First: event {self.pks[1]}\."):
            call_command("verify_audit", stdout=StringIO())


def test_the_command_says_what_it_looked_at() -> None:
    events(3)
    seal_all()
    said, count = StringIO(), AuditEvent.objects.count()
    call_command("verify_audit", stdout=said)
    assert said.getvalue() == f"The audit trail is intact: {count} events, 1 seals.\n"


def test_public_keys_can_be_handed_to_an_auditor() -> None:
    events(1)
    seal_all()
    said = StringIO()
    call_command("audit_keys", stdout=said)
    assert said.getvalue().startswith(f"# {AuditSeal.objects.get().key_id}\n-----BEGIN PUBLIC KEY-----")


def test_a_new_key_is_on_the_trail_and_sealed_at_once() -> None:
    events(1)
    seal_all()
    old = AuditSeal.objects.get().key_id
    call_command("audit_keys", rotate=True, stdout=StringIO())
    rotated = AuditEvent.objects.get(what="trail.key_rotated")
    assert rotated.facts == {"old": old, "new": next(iter(keys.public_keys()))}
    assert rotated.facts["new"] != old
    seal = sealing.seal_due(timezone.now())
    assert seal is not None
    assert seal.key_id == rotated.facts["new"]


def test_the_first_key_replaces_none() -> None:
    call_command("audit_keys", rotate=True, stdout=StringIO())
    assert AuditEvent.objects.get(what="trail.key_rotated").facts["old"] == ""


def test_looking_at_the_keys_changes_none() -> None:
    call_command("audit_keys", stdout=StringIO())
    assert not AuditEvent.objects.filter(what="trail.key_rotated").exists()
