"""A file against the trail, and a package against itself, with nothing of ours installed."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Max, Min
from django.utils import timezone

from audit import archive, keys, proof, retention, sealing, triggers
from audit.export import columns, files, jobs
from audit.export.stream import Export, stream
from audit.models import AuditEvent, AuditExport, AuditLeaf, AuditPayload, AuditPurgeGrant, AuditSeal
from audit.recorder import record
from audit.search import Search
from audit.vocabulary import AccessEvent
from tests import people
from tests.audit.many import fill
from tests.audit.test_retention import granted, hold, past, purge
from workflows import roles
from workflows.domain.events import Event

pytestmark = pytest.mark.django_db
DENIED = Search(what=AccessEvent.DENIED)
WHYS = ["=1", "群发：理由", "plain"]


def plain(
    tmp_path: Path,
    form: str = "csv",
    bom: str = "",
    names: tuple[str, ...] = columns.DEFAULT,
    asked: Search = DENIED,
) -> Path:
    path = tmp_path / "export"
    export = Export(search=asked, form=form, columns=names, reason="Report", bom=bom)
    path.write_bytes(b"".join(stream(export)))
    return path


def package(asked: Search = DENIED, names: tuple[str, ...] = columns.DEFAULT) -> Path:
    auditor = people.person("audrey", roles.AUDITOR)
    export = Export(search=asked, form="zip", columns=names, reason="For the court")
    job = jobs.ask(export, owner=auditor)
    jobs.work(job.pk)
    job = AuditExport.objects.get(pk=job.pk)
    assert (job.state, job.problem) == ("ready", "")
    return files.finished(job)


def verified(path: Path) -> str:
    said = StringIO()
    call_command("verify_export", path, stdout=said)
    return said.getvalue()


def denied() -> list[str]:
    """The ids of three events that no seal covers yet."""
    return [str(record(AccessEvent.DENIED, why=why, erasable={"name": why}).event_id) for why in WHYS]


def sealed() -> list[str]:
    events = denied()
    sealing.sweep(timezone.now())
    return events


def run(sql: str, *arguments: bytes | int | str) -> None:
    """As somebody who owns the database and lifted its guards."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)


def rewrite(event_id: str) -> bytes:
    """Make another event of it, all columns in agreement; its new hash."""
    event = AuditEvent.objects.get(event_id=event_id)
    canon = event.canon.replace(event.why, "harmless")
    row_hash = proof.row_hash(canon, bytes(event.nonce))
    triggers.GUARDS.remove(connection)  # until this test is rolled back
    run(
        "UPDATE audit_auditevent SET why = 'harmless', canon = %s, row_hash = %s WHERE id = %s",
        *(canon, row_hash, event.pk),
    )
    return row_hash


class TestAFile:
    @pytest.mark.parametrize(("form", "bom"), [("csv", ""), ("csv", proof.BOM), ("jsonl", "")])
    def test_proves_itself(self, tmp_path: Path, form: str, bom: str) -> None:
        sealed()
        assert verified(plain(tmp_path, form, bom)) == "3 rows as exported; complete. Query: what=access.denied\n"

    def test_tells_which_rows_no_seal_covers_yet(self, tmp_path: Path) -> None:
        sealed()
        denied()
        assert verified(plain(tmp_path)).splitlines() == [
            "3 rows are not sealed yet; their MACs speak for them.",
            "6 rows as exported; complete. Query: what=access.denied",
        ]

    def test_under_many_seals_is_proved(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("audit.sealed._SEALS_AT_ONCE", 2)
        monkeypatch.setattr("audit.sealed._REMEMBERED", 2)
        monkeypatch.setattr("audit.export.comparison._AT_ONCE", 4)
        for _ in range(5):
            sealed()
        assert verified(plain(tmp_path)) == "15 rows as exported; complete. Query: what=access.denied\n"

    def test_that_was_changed_is_found_out(self, tmp_path: Path) -> None:
        denied()
        path = plain(tmp_path)
        path.write_bytes(path.read_bytes().replace("群发".encode(), "单发".encode()))
        with pytest.raises(CommandError, match="changed since"):
            verified(path)

    def test_finds_out_a_trail_that_was_changed_after_it(self, tmp_path: Path) -> None:
        events = denied()
        path = plain(tmp_path)
        triggers.GUARDS.remove(connection)  # until this test is rolled back
        run("UPDATE audit_auditevent SET why = 'harmless' WHERE why = 'plain'")
        with pytest.raises(CommandError, match=rf"event {events[2]} says something else"):
            verified(path)

    def test_finds_out_an_event_that_was_rewritten_whole_before_the_export(self, tmp_path: Path) -> None:
        events = sealed()
        rewrite(events[1])
        with pytest.raises(CommandError, match=rf"event {events[1]} .* is not the event that was sealed"):
            verified(plain(tmp_path))

    def test_finds_out_an_event_that_was_rewritten_before_it_was_sealed(self, tmp_path: Path) -> None:
        events = denied()
        rewrite(events[1])
        with pytest.raises(CommandError, match=rf"event {events[1]} .* its MAC is wrong"):
            verified(plain(tmp_path))

    def test_finds_out_an_event_that_was_rewritten_together_with_its_leaf(self, tmp_path: Path) -> None:
        events = sealed()
        row_hash, pk = rewrite(events[1]), AuditEvent.objects.get(event_id=events[1]).pk
        run("UPDATE audit_auditleaf SET row_hash = %s WHERE event_pk = %s", row_hash, pk)
        with pytest.raises(CommandError, match=r"seal \d+: its leaves were changed"):
            verified(plain(tmp_path))

    def test_finds_out_an_event_that_was_rewritten_together_with_its_seal(self, tmp_path: Path) -> None:
        row_hash = rewrite(sealed()[1])
        leaf = AuditLeaf.objects.get(event_pk=AuditEvent.objects.get(row_hash=row_hash).pk)
        run("UPDATE audit_auditleaf SET row_hash = %s WHERE event_pk = %s", row_hash, leaf.pk)
        seal = AuditSeal.objects.get(n=leaf.seal_n)
        leaves = AuditLeaf.objects.filter(seal_n=seal.n).order_by("position")
        seal.root = proof.root([bytes(each) for each in leaves.values_list("row_hash", flat=True)])
        seal_hash = proof.leaf_hash(sealing.statement(seal))
        run("UPDATE audit_auditseal SET root = %s, seal_hash = %s WHERE n = %s", seal.root, seal_hash, seal.n)
        with pytest.raises(CommandError, match=rf"seal {seal.n}: its signature is not valid"):
            verified(plain(tmp_path))

    def test_finds_out_a_seal_that_was_taken_away(self, tmp_path: Path) -> None:
        sealed()
        path = plain(tmp_path)
        triggers.GUARDS.remove(connection)
        run("DELETE FROM audit_auditseal")
        with pytest.raises(CommandError, match=r"seal \d+ is gone"):
            verified(path)

    def test_finds_out_an_event_that_was_taken_away(self, tmp_path: Path) -> None:
        events = denied()
        path = plain(tmp_path)
        triggers.GUARDS.remove(connection)
        run("DELETE FROM audit_auditevent WHERE why = 'plain'")
        with pytest.raises(CommandError, match=rf"row 1: event {events[2]} is no longer in the trail"):
            verified(path)

    def test_survives_the_erasing_of_details(self, tmp_path: Path) -> None:
        denied()
        path = plain(tmp_path, names=columns.chosen(["details"]))
        AuditPayload.objects.all().delete()
        assert "3 rows as exported" in verified(path)

    def test_that_cannot_be_read_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="cannot be read"):
            verified(tmp_path / "nothing")


class TestRowsThatWerePurgedSince:
    @pytest.fixture
    def old(self) -> list[int]:
        return past(3)

    @pytest.fixture
    def exported(self, old: list[int], tmp_path: Path) -> Path:
        return plain(tmp_path, asked=Search(what=Event.RUN_QUEUED), names=columns.chosen(["details"]))

    def test_are_proved_by_their_archive(self, exported: Path) -> None:
        purge()
        assert verified(exported).splitlines() == [
            "3 rows were purged since, under grant 1; the archive says the same.",
            f"3 rows as exported; complete. Query: what={Event.RUN_QUEUED}",
        ]

    def test_are_looked_for_in_each_archive_that_may_have_them(
        self, old: list[int], exported: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention, "SEGMENT", 1)
        monkeypatch.setattr("audit.export.verification._GONE_AT_ONCE", 2)
        purge()
        assert "3 rows were purged since, under grant 1, 2, 3;" in verified(exported)

    def test_survive_the_erasing_of_their_details(self, exported: Path) -> None:
        purge()
        AuditPayload.objects.all().delete()
        assert "3 rows were purged since" in verified(exported)

    def test_do_not_cover_one_on_hold_that_was_taken_away(self, old: list[int], exported: Path) -> None:
        kept = AuditEvent.objects.get(pk=old[1])
        hold(starts_at=kept.at, ends_at=kept.at + timedelta(microseconds=1))
        purge()
        assert "2 rows were purged since" in verified(exported)
        triggers.GUARDS.remove(connection)
        run("DELETE FROM audit_auditevent WHERE id = %s", kept.pk)
        with pytest.raises(CommandError, match=rf"row 2: event {kept.event_id} is no longer in the trail"):
            verified(exported)
        run("INSERT INTO audit_auditpurge (event_pk, grant_n) VALUES (%s, 1)", kept.pk)
        with pytest.raises(CommandError, match=rf"row 2: event {kept.event_id} is no longer in the trail"):
            verified(exported)

    def test_do_not_cover_one_that_is_archived_and_was_held_back(self, old: list[int], exported: Path) -> None:
        granted(old)
        kept = AuditEvent.objects.get(pk=old[1])
        hold(starts_at=kept.at, ends_at=kept.at + timedelta(microseconds=1))
        purge()
        triggers.GUARDS.remove(connection)
        run("DELETE FROM audit_auditevent WHERE id = %s", kept.pk)
        with pytest.raises(CommandError, match=rf"row 2: event {kept.event_id} was taken out .* no purge took it"):
            verified(exported)

    def test_whose_leaf_was_changed_are_found_out(self, old: list[int], exported: Path) -> None:
        purge()
        triggers.GUARDS.remove(connection)
        run("DELETE FROM audit_auditleaf WHERE event_pk = %s", old[1])
        with pytest.raises(CommandError, match=r"seal \d+: holds"):
            verified(exported)

    def test_that_changed_places_under_their_seal_are_found_out(self, old: list[int], exported: Path) -> None:
        purge()
        triggers.GUARDS.remove(connection)
        for pk, other in ((old[0], 10**9), (old[1], old[0]), (10**9, old[1])):
            run("UPDATE audit_auditleaf SET event_pk = %s WHERE event_pk = %s", other, pk)
        with pytest.raises(CommandError, match="is archived with another text than was sealed"):
            verified(exported)

    def test_that_were_exported_with_other_words_than_were_recorded_are_found_out(
        self, old: list[int], tmp_path: Path
    ) -> None:
        event = AuditEvent.objects.get(pk=old[1])
        triggers.GUARDS.remove(connection)
        run("UPDATE audit_auditevent SET why = 'harmless' WHERE id = %s", event.pk)
        path = plain(tmp_path, asked=Search(what=Event.RUN_QUEUED))
        run("UPDATE audit_auditevent SET why = %s WHERE id = %s", event.why, event.pk)
        triggers.GUARDS.install(connection)
        purge()
        with pytest.raises(CommandError, match=rf"row 2: event {event.event_id} says something else"):
            verified(path)

    def test_whose_archive_was_changed_are_found_out(self, exported: Path) -> None:
        purge()
        path = archive.path_of(AuditPurgeGrant.objects.get().archive)
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(CommandError, match="grant 1: its archive file was changed"):
            verified(exported)

    def test_whose_archive_was_removed_are_counted_apart(
        self, exported: Path, set_policy: Callable[[str], None]
    ) -> None:
        purge()
        set_policy("security: {audit: {retention_days: 30, archive_days: 35}}")
        retention.expire_archives(timezone.now())
        assert archive.names() == []
        assert verified(exported).splitlines()[0] == (
            "3 rows were purged and their archive has been removed; only the file's digest speaks for them."
        )

    def test_are_not_excused_by_a_grant_that_the_trail_does_not_tell_of(self, old: list[int], exported: Path) -> None:
        times = AuditEvent.objects.filter(pk__in=old).aggregate(first_at=Min("at"), last_at=Max("at"))
        AuditPurgeGrant.objects.create(
            n=1,
            granted_at=timezone.now(),
            before=timezone.now(),
            events=3,
            events_digest=bytes(32),
            first_pk=old[0],
            last_pk=old[-1],
            archive="audit-00000001-0123456789abcdef.jsonl.gz",
            archive_sha256=bytes(32),
            **times,
        )
        triggers.GUARDS.remove(connection)
        run("DELETE FROM audit_auditevent WHERE id = %s", old[1])
        with pytest.raises(CommandError, match=r"row 2: event .* is no longer in the trail"):
            verified(exported)


def alone(path: Path, *arguments: str) -> tuple[int, str]:
    """The verifier out of the package itself, in a Python that has nothing but its standard library."""
    with zipfile.ZipFile(path) as whole:
        program = path.with_name("verify.py")
        program.write_bytes(whole.read("verify.py"))
    command = [sys.executable, "-I", "-S", str(program), str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.stderr == ""
    return done.returncode, done.stdout


def repacked(path: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    forged = path.with_name("forged.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(forged, "w") as new:
        content = {entry: old.read(entry) for entry in old.namelist()}
        content[name] = change(content[name])
        if name == "events.csv":  # whoever forges the rows forges the digest beside them too
            said = json.loads(content["manifest.json"])
            said["sha256"] = sha256(content[name]).hexdigest()
            content["manifest.json"] = json.dumps(said).encode()
        for entry, data in content.items():
            new.writestr(entry, data)
    return forged


def lines_of(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def swapped(data: bytes) -> bytes:
    heading, one, two, *rest = lines_of(data)
    return b"".join([heading, two, one, *rest])


def without_a_row(data: bytes) -> bytes:
    heading, _gone, *rest = lines_of(data)
    return b"".join([heading, *rest])


def changed_text(data: bytes) -> bytes:
    return data.replace("群发".encode(), "单发".encode())


class TestAPackage:
    def test_is_proved_by_itself_and_by_the_trail(self) -> None:
        denied()
        path = package()
        code, said = alone(path, "--key", *keys.public_keys())
        assert (code, said.splitlines()[0]) == (0, "Proved: 3 rows, complete. Search: what=access.denied")
        assert verified(path) == "3 rows as exported; complete. Query: what=access.denied\n"

    def test_of_many_seals_and_chunks_is_proved(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("audit.export.package._CHUNK", 700)
        fill(2500)
        assert alone(package(Search()))[0] == 0

    def test_holds_the_erasable_details_only_when_they_were_chosen(self) -> None:
        denied()
        path = package(names=columns.chosen(["details"]))
        with zipfile.ZipFile(path) as whole:
            assert (
                "群发"
                in json.loads(json.loads(whole.read("proofs.jsonl").splitlines()[0])["events"][1]["payload"])["name"]
            )
        assert alone(path)[0] == 0

    def test_without_the_details_holds_no_erasable_ones(self) -> None:
        denied()
        with zipfile.ZipFile(package()) as whole:
            group = json.loads(whole.read("proofs.jsonl").splitlines()[0])
        assert [event["payload"] for event in group["events"]] == [None] * 3

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("events.csv", changed_text),
            ("events.csv", without_a_row),
            ("events.csv", swapped),
            ("proofs.jsonl", changed_text),
            ("manifest.json", lambda data: data.replace(b'"rows": 3', b'"rows": 4')),
        ],
        ids=["a changed cell", "a dropped row", "swapped rows", "a changed text", "a changed manifest"],
    )
    def test_that_was_tampered_with_is_found_out(self, name: str, change: Callable[[bytes], bytes]) -> None:
        denied()
        forged = repacked(package(), name, change)
        code, said = alone(forged)
        assert (code, said[:10]) == (1, "NOT PROVED")
        with pytest.raises(CommandError):
            verified(forged)

    def test_whose_manifest_asks_for_something_else_is_not_ours(self) -> None:
        denied()
        forged = repacked(package(), "manifest.json", lambda data: data.replace(b"access.denied", b"access.allowed"))
        with pytest.raises(CommandError, match="its manifest was changed"):
            verified(forged)

    def test_signed_by_a_foreign_key_is_found_out(self) -> None:
        denied()
        path = package()
        foreign = Ed25519PrivateKey.generate()

        def sign(data: bytes) -> bytes:
            group = json.loads(data)
            group["seal"]["key"] = keys.key_id(foreign.public_key())
            group["signature"] = foreign.sign(proof.canonical(group["seal"]).encode()).hex()
            return proof.canonical(group).encode() + b"\n"

        def name(data: bytes) -> bytes:
            told = json.loads(data) | {"public_keys": [foreign.public_key().public_bytes_raw().hex()]}
            told |= {"key": keys.key_id(foreign.public_key())}
            del told["signature"]
            signature = foreign.sign(proof.canonical(told).encode()).hex()
            return json.dumps(told | {"signature": signature}).encode()

        forged = repacked(path, "proofs.jsonl", sign)
        forged.rename(path)
        forged = repacked(path, "manifest.json", name)
        assert alone(forged)[0] == 0  # it is signed, only not by us
        code, said = alone(forged, "--key", *keys.public_keys())
        assert (code, "which you did not name" in said) == (1, True)
        with pytest.raises(CommandError, match="no key of ours"):
            verified(forged)

    def test_that_is_no_package_says_so(self, tmp_path: Path) -> None:
        path = tmp_path / "other.zip"
        with zipfile.ZipFile(path, "w") as other:
            other.writestr("readme", "x")
        with pytest.raises(CommandError, match="no package of ours"):
            verified(path)
