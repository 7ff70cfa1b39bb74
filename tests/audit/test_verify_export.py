"""A file against the trail, and a package against itself, with nothing of ours installed."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command
from django.db import connection

from audit import keys, proof, triggers
from audit.export import columns, files, jobs
from audit.export.stream import Export, stream
from audit.models import AuditExport, AuditPayload
from audit.recorder import record
from audit.search import Search
from audit.vocabulary import AccessEvent
from tests import people
from tests.audit.many import fill
from workflows import roles

pytestmark = pytest.mark.django_db
DENIED = Search(what=AccessEvent.DENIED)
WHYS = ["=1", "群发：理由", "plain"]


def plain(tmp_path: Path, form: str = "csv", bom: str = "", names: tuple[str, ...] = columns.DEFAULT) -> Path:
    path = tmp_path / "export"
    export = Export(search=DENIED, form=form, columns=names, reason="Report", bom=bom)
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
    return [str(record(AccessEvent.DENIED, why=why, erasable={"name": why}).event_id) for why in WHYS]


class TestAFile:
    @pytest.mark.parametrize(("form", "bom"), [("csv", ""), ("csv", proof.BOM), ("jsonl", "")])
    def test_proves_itself(self, tmp_path: Path, form: str, bom: str) -> None:
        denied()
        assert verified(plain(tmp_path, form, bom)) == "3 rows as exported; complete. Query: what=access.denied\n"

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
        with connection.cursor() as cursor:
            cursor.execute("UPDATE audit_auditevent SET why = 'harmless' WHERE why = 'plain'")
        with pytest.raises(CommandError, match=rf"event {events[2]} says something else"):
            verified(path)

    def test_finds_out_an_event_that_was_taken_away(self, tmp_path: Path) -> None:
        events = denied()
        path = plain(tmp_path)
        triggers.GUARDS.remove(connection)
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM audit_auditevent WHERE why = 'plain'")
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
