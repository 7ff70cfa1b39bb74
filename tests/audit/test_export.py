"""Exports: complete, inert in a spreadsheet, reversible, and able to prove themselves."""

import csv
import io
import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.http import StreamingHttpResponse
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from audit import triggers
from audit.export import BOM, COLUMNS, Export, neutral, original, stream
from audit.models import AuditEvent
from audit.recorder import record
from audit.vocabulary import AccessEvent
from tests import people
from workflows import roles

pytestmark = pytest.mark.django_db

WHYS = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "'quoted'", 'says "hi", twice', "two\r\nlines", "群发：理由"]


def denied() -> list[AuditEvent]:
    return [record(AccessEvent.DENIED, why=why) for why in WHYS]


def exported(form: str = "csv", bom: str = "") -> bytes:
    events = AuditEvent.objects.filter(what=AccessEvent.DENIED)
    return b"".join(stream(events, Export(form=form, query="what=access.denied", reason="Quarterly report", bom=bom)))


def saved(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "export"
    path.write_bytes(content)
    return str(path)


def verified(path: str) -> str:
    said = StringIO()
    call_command("verify_export", path, stdout=said)
    return said.getvalue()


@given(st.text())
def test_neutralising_is_reversible_and_leaves_no_formula(text: str) -> None:
    assert original(neutral(text)) == text
    assert not neutral(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\x00"))


def test_every_event_is_in_the_file_newest_first_with_the_five_answers_first() -> None:
    events = denied()
    rows = list(csv.DictReader(io.StringIO(exported().decode(), newline="")))
    assert list(rows[0])[:5] == ["who", "what", "when", "why", "request_id"]
    assert [original(row["why"]) for row in rows] == WHYS[::-1]
    assert [row["event_id"] for row in rows] == [str(event.event_id) for event in reversed(events)]
    assert set(rows[0]) == set(COLUMNS)


def test_excel_is_told_that_it_is_utf8() -> None:
    denied()
    assert exported(bom=BOM).startswith(b"\xef\xbb\xbfwho,")
    assert exported().startswith(b"who,")


def test_json_lines_tell_the_same() -> None:
    denied()
    rows = [json.loads(line) for line in exported("jsonl").decode().split("\n") if line]
    assert [row["why"] for row in rows] == WHYS[::-1]


def test_more_than_one_chunk_is_not_truncated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.export._CHUNK", 3)
    denied()
    assert len(exported("jsonl").decode().strip().split("\n")) == len(WHYS)


def test_an_export_is_on_the_trail_with_its_reason_and_manifest() -> None:
    denied()
    exported()
    started = AuditEvent.objects.get(what="trail.export_started")
    finished = AuditEvent.objects.get(what="trail.export_finished")
    assert (started.why, finished.outcome) == ("Quarterly report", "success")
    assert (finished.facts["rows"], finished.facts["complete"]) == (len(WHYS), True)
    assert finished.facts["started_by_event"] == str(started.event_id)


def test_a_download_that_breaks_off_is_recorded_as_incomplete() -> None:
    denied()
    pieces = stream(AuditEvent.objects.all(), Export(form="csv", query="all", reason="Broken"))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    finished = AuditEvent.objects.get(what="trail.export_finished")
    assert (finished.outcome, finished.facts["complete"]) == ("failure", False)


@pytest.mark.parametrize(("form", "bom"), [("csv", ""), ("csv", BOM), ("jsonl", "")])
def test_a_file_proves_itself(tmp_path: Path, form: str, bom: str) -> None:
    denied()
    said = verified(saved(tmp_path, exported(form, bom)))
    assert said == f"{len(WHYS)} rows as exported; complete. Query: what=access.denied\n"


def test_a_file_that_was_changed_is_found_out(tmp_path: Path) -> None:
    denied()
    with pytest.raises(CommandError, match="was changed since"):
        verified(saved(tmp_path, exported().replace("群发".encode(), "单发".encode())))


def test_a_trail_that_was_changed_after_the_export_is_found_out(tmp_path: Path) -> None:
    events = denied()
    path = saved(tmp_path, exported())
    triggers.GUARDS.remove(connection)  # until this test is rolled back
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_auditevent SET why = 'harmless' WHERE id = %s", [events[0].pk])
    with pytest.raises(CommandError, match=rf"event {events[0].event_id} says something else"):
        verified(path)


class TestThePage:
    @pytest.fixture
    def auditor(self) -> Client:
        client = Client()
        client.force_login(people.person("audrey", roles.AUDITOR))
        return client

    def test_the_lists_filters_choose_what_is_exported(self, auditor: Client) -> None:
        denied()
        record(AccessEvent.SIGNED_OUT, why="another")
        url = reverse("admin:audit_export") + "?what=access.denied"
        response = auditor.post(url, {"reason": "Report", "form": "jsonl"})
        assert isinstance(response, StreamingHttpResponse)
        assert b"".join(response).count(b"\n") == len(WHYS)
        finished = AuditEvent.objects.get(what="trail.export_finished")
        assert (finished.who_label, finished.facts["query"]) == ("audrey", "what=access.denied")
        assert str(finished.request_id) == response.headers["X-Request-ID"]

    def test_without_a_reason_nothing_is_exported(self, auditor: Client) -> None:
        html = auditor.post(reverse("admin:audit_export"), {"reason": "", "form": "csv"}).content.decode()
        assert "This field is required." in html
        assert not AuditEvent.objects.filter(what="trail.export_started").exists()

    def test_an_officer_may_look_but_not_export(self) -> None:
        client = Client()
        client.force_login(people.olivia())
        assert client.get(reverse("admin:audit_export")).status_code == 403

    def test_an_impossible_filter_leads_back_to_the_list(self, auditor: Client) -> None:
        assert auditor.get(reverse("admin:audit_export") + "?nonsense__x=1").status_code == 302

    def test_health_verifies_at_the_press_of_a_button(self, auditor: Client) -> None:
        html = auditor.post(reverse("admin:audit_health")).content.decode()
        assert "The trail is intact." in html
        assert AuditEvent.objects.get(what="trail.verified").who_label == "audrey"
