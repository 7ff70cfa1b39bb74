"""Archive files: they prove themselves, are searched like the table, and can be read with any tool."""

import gzip
import json
import sqlite3
import stat
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
import time_machine
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from audit import archive, context, keys, proof, retention, sealing
from audit.models import AuditEvent, AuditPurgeGrant
from audit.recorder import record
from audit.search import Search, page
from tests import people
from workflows.domain.events import Event

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(days=40)


@pytest.fixture
def purged() -> str:
    """The name of a file with events under two seals, made long ago."""
    with time_machine.travel(timezone.now() - LONG_AGO):
        alice = people.alice()
        with transaction.atomic(), context.acting(alice):
            record(Event.MESSAGE_SUBMITTED, target=alice, why="群发前的检查", erasable={"phone": "13800000000"})
        sealing.sweep(timezone.now())
        with transaction.atomic(), context.acting(alice):
            record(Event.APPROVAL_GRANTED, why="Reads well", facts={"quorum": 1})
            record(Event.RUN_FAILED, outcome=AuditEvent.Outcome.FAILURE, why="no answer")
        sealing.sweep(timezone.now())
    retention.purge(timezone.now())
    return AuditPurgeGrant.objects.get().archive


def lines(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in gzip.open(archive.path_of(name), "rt", encoding="utf-8")]


def command(*arguments: str) -> str:
    said = StringIO()
    call_command("audit_archive", *arguments, stdout=said)
    return said.getvalue()


def found(*arguments: str) -> list[str]:
    return [json.loads(line)["what"] for line in command("search", *arguments, "--reason", "Case 7").splitlines()]


class TestTheFile:
    def test_it_is_for_our_eyes_only_and_holds_no_erasable_details(self, purged: str) -> None:
        assert stat.S_IMODE(archive.path_of(purged).stat().st_mode) == 0o600
        assert stat.S_IMODE(settings.AUDIT_ARCHIVE_DIR.stat().st_mode) == 0o700
        assert "13800000000" not in json.dumps(lines(purged))

    def test_it_carries_what_proves_it(self, purged: str) -> None:
        header, *groups = lines(purged)
        assert header["grant"] == 1
        public = {proof.key_id(key): key for key in map(bytes.fromhex, header["public_keys"])}  # type: ignore[call-overload]
        proved = [cells["what"] for group in groups for cells in proof.check_group(group, public)]
        assert {"message.submitted", "approval.granted", "run.failed"} <= set(proved)
        assert archive.check(archive.path_of(purged)) == len(proved)

    @pytest.mark.parametrize(
        ("spoil", "problem"),
        [
            (lambda text: text.replace("Reads well", "Reads bad!"), "an event was changed"),
            (lambda text: text.replace('"size":', '"size":1'), "its signature is not valid"),
            (lambda text: text.replace("audit-archive", "something-else"), "no archive file"),
            (lambda text: text[: len(text) // 2], "damaged"),
        ],
    )
    def test_a_spoiled_one_does_not_prove(self, purged: str, spoil: Callable[[str], str], problem: str) -> None:
        path = archive.path_of(purged)
        text = gzip.decompress(path.read_bytes()).decode()
        path.write_bytes(gzip.compress(spoil(text).encode()))
        with pytest.raises(proof.Broken, match=problem):
            archive.check(path)

    def test_a_cut_off_one_does_not_prove(self, purged: str) -> None:
        path = archive.path_of(purged)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(proof.Broken, match="damaged"):
            archive.check(path)

    def test_one_of_a_key_that_we_never_had_does_not_prove(self, purged: str, monkeypatch: pytest.MonkeyPatch) -> None:
        keys.rotate()
        assert archive.check(archive.path_of(purged))
        monkeypatch.setattr(settings, "DATA_DIR", Path(settings.DATA_DIR) / "elsewhere")
        with pytest.raises(proof.Broken, match="unknown key"):
            archive.check(archive.path_of(purged))

    @pytest.mark.parametrize("name", ["../secret.key", "/etc/passwd", "audit-00000001-0123456789abcdef.jsonl.gz/.."])
    def test_a_name_never_leads_out_of_the_folder(self, name: str) -> None:
        with pytest.raises(archive.ArchiveError, match="not the name"):
            archive.path_of(name)


class TestSearching:
    @pytest.mark.parametrize(
        ("asked", "what"),
        [
            ({"q": "群发"}, ["message.submitted"]),
            ({"q": "reads"}, ["approval.granted"]),
            ({"who": "Alice", "outcome": "failure"}, ["run.failed"]),
            ({"what": "approval"}, ["approval.granted"]),
            ({"kind": "user", "object": "auth.user"}, ["message.submitted"]),
            ({"why": "answer"}, ["run.failed"]),
            ({"q": "nothing like it"}, []),
        ],
    )
    def test_it_finds_what_the_table_would_have_found(
        self, purged: str, asked: dict[str, str], what: list[str]
    ) -> None:
        assert found(*(word for name, value in asked.items() for word in (f"--{name}", value))) == what

    def test_by_request_event_and_time(self, purged: str) -> None:
        events = {event.told["what"]: event.told for event in archive.read(archive.path_of(purged))}
        granted = events["approval.granted"]
        assert found("--q", granted["event_id"]) == ["approval.granted"]
        assert "approval.granted" in found("--request", granted["request_id"])
        assert "run.failed" not in found("--until", events["run.failed"]["at"])
        assert "run.failed" in found("--since", events["run.failed"]["at"])
        assert found("--since", timezone.now().date().isoformat()) == []

    def test_looking_is_recorded_with_its_reason(self, purged: str) -> None:
        command("search", "--q", "群发", "--reason", "Case 7")
        told = AuditEvent.objects.get(what="trail.archive_read")
        assert (told.why, told.facts["search"]) == ("Case 7", "q=%E7%BE%A4%E5%8F%91")
        with pytest.raises(CommandError, match="--reason"):
            command("search", "--q", "群发")


class TestTheCommand:
    def test_it_lists_and_proves(self, purged: str) -> None:
        assert purged in command("list")
        assert f"{purged}: proved" in command("verify")

    def test_a_changed_file_is_told(self, purged: str) -> None:
        path = archive.path_of(purged)
        path.write_bytes(path.read_bytes() + b"\n")
        with pytest.raises(CommandError, match="was changed"):
            command("verify", purged)

    def test_a_restored_file_is_read_with_any_tool(self, purged: str, tmp_path: Path) -> None:
        target = tmp_path / "reading.sqlite3"
        command("restore", purged, "--to", str(target), "--reason", "Case 7")
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        rows = sqlite3.connect(target).execute("SELECT who, why FROM events WHERE what = 'message.submitted'")
        assert rows.fetchall() == [("alice", "群发前的检查")]
        with pytest.raises(CommandError, match="File exists"):
            command("restore", purged, "--to", str(target), "--reason", "Case 7")

    def test_what_left_the_table_is_only_in_the_archive(self, purged: str) -> None:
        assert page(Search(q="群发"), size=10).events == []
        assert found("--q", "群发") == ["message.submitted"]
