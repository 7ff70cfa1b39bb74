"""Exports: complete, inert in a spreadsheet, reversible, and the same from every database."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import proof, sealing, triggers
from audit.export import columns
from audit.export.stream import Export, stream
from audit.models import AuditEvent
from audit.proof import BOM, neutral, original
from audit.recorder import record
from audit.search import Search
from audit.vocabulary import AccessEvent
from tests import people
from tests.audit.many import fill

pytestmark = pytest.mark.django_db

WHYS = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "'quoted'",
    'says "hi", twice',
    "two\r\nlines",
    "群发：理由",
    "\tx",
]
DENIED = Search(what=AccessEvent.DENIED)


def denied(whys: Sequence[str] = WHYS) -> list[AuditEvent]:
    return [record(AccessEvent.DENIED, why=why) for why in whys]


def exported(
    form: str = "csv", *, asked: Search = DENIED, names: Sequence[str] = columns.DEFAULT, bom: str = ""
) -> bytes:
    return b"".join(stream(Export(search=asked, form=form, columns=names, reason="Quarterly report", bom=bom)))


def read(content: bytes, form: str) -> list[dict[str, str]]:
    return list(proof.rows(io.StringIO(content.decode("utf-8-sig"), newline=""), form))


def told(names: Sequence[str] = columns.DEFAULT, *, what: str = AccessEvent.DENIED) -> list[dict[str, str]]:
    """What the texts say that are hashed, newest first."""
    every = AuditEvent.objects.filter(what=what).order_by("-pk").values_list("canon", flat=True)
    return [{name: proof.cells(json.loads(canon))[name] for name in names} for canon in every]


@given(st.text())
def test_neutralising_is_reversible_and_leaves_no_formula(text: str) -> None:
    assert original(neutral(text)) == text
    assert not neutral(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\x00"))


def test_every_event_is_in_the_file_newest_first_with_the_five_answers_first() -> None:
    events = denied()
    rows = read(exported(), "csv")
    assert list(rows[0])[:5] == ["who", "what", "when", "why", "request_id"]
    assert [row["why"] for row in rows] == WHYS[::-1]
    assert [row["event_id"] for row in rows] == [str(event.event_id) for event in reversed(events)]


def test_the_file_is_csv_by_the_rfc() -> None:
    denied(["a"])
    content = exported()
    assert content.startswith(b"who,what,when,")
    assert content.count(b"\r\n") == content.count(b"\n") == 2


def test_excel_is_told_that_it_is_utf8() -> None:
    denied()
    assert exported(bom=BOM).startswith(b"\xef\xbb\xbfwho,")
    assert exported().startswith(b"who,")


def test_no_cell_begins_a_formula() -> None:
    denied()
    cells = [cell for row in csv.reader(io.StringIO(exported().decode(), newline="")) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
starts = st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "\n", "'", '"', '","', "\r\n", "群"])


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(whys=st.lists(st.tuples(starts, texts).map("".join), min_size=1, max_size=5))
def test_a_row_from_the_database_says_what_the_hashed_text_says(form: str, whys: list[str]) -> None:
    denied(whys)
    assert read(exported(form), form) == told()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_every_column_of_many_kinds_of_events_comes_out_as_it_was_hashed(form: str) -> None:
    fill(300)
    record(AccessEvent.SIGNED_IN, target=people.alice(), facts={"n": 1})
    texts = list(AuditEvent.objects.values_list("canon", flat=True))
    rows = {row["event_id"]: row for row in read(exported(form, asked=Search()), form)}
    assert len(rows) == len(texts) > 300
    for canon in texts:
        cells = proof.cells(json.loads(canon))
        assert rows[cells["event_id"]] == {name: cells[name] for name in columns.DEFAULT}


def test_whole_seconds_have_their_six_digits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now().replace(microsecond=0)
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    denied(["x"])
    assert read(exported(), "csv") == told()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_details_hold_the_facts_and_the_erasable_ones(form: str) -> None:
    record(AccessEvent.DENIED, why="=1", facts={"path": "/x"}, erasable={"name": "李娜"})
    names = columns.chosen(["details"])
    (row,) = read(exported(form, names=names), form)
    assert list(row) == ["who", "what", "when", "why", "request_id", "event_id", "details"]
    assert json.loads(row["details"]) == {"path": "/x", "name": "李娜"}
    assert row["why"] == "=1"


def test_only_the_chosen_columns_are_in_it_and_the_fixed_ones_always() -> None:
    denied(["x"])
    header = exported(names=columns.chosen(["object"])).split(b"\r\n")[0]
    assert header == b"who,what,when,why,request_id,object,event_id"
    assert read(exported(names=columns.chosen([])), "csv")[0]["why"] == "x"


@pytest.mark.parametrize("asked", [DENIED, Search()])
@pytest.mark.parametrize("names", [columns.DEFAULT, columns.chosen(["details"])])
def test_more_than_one_piece_is_not_truncated(
    asked: Search, names: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.export.rows._FOUND", 3)
    monkeypatch.setattr("audit.export.rows._NEIGHBOURS", 3)
    denied()
    before = AuditEvent.objects.count()
    rows = read(exported(asked=asked, names=names), "csv")
    assert len(rows) == (len(WHYS) if asked == DENIED else before)
    assert len({row["event_id"] for row in rows}) == len(rows)


def test_times_alone_choose_exactly_what_lies_between() -> None:
    fill(500)
    at = list(AuditEvent.objects.order_by("pk").values_list("at", flat=True)[:500])
    rows = read(exported(asked=Search(since=at[100], until=at[200])), "csv")
    assert len(rows) == 100
    assert read(exported(asked=Search(until=at[0] - timedelta(days=1))), "csv") == []


def test_a_search_that_finds_nothing_gives_a_heading_only() -> None:
    assert exported(asked=Search(q="nowhere")) == (",".join(columns.DEFAULT) + "\r\n").encode()
    assert exported("jsonl", asked=Search(q="neither")) == b""


def test_what_is_recorded_after_the_beginning_is_not_in_it() -> None:
    denied(["before"])
    pieces = stream(Export(search=DENIED, form="csv", columns=columns.DEFAULT, reason="Report"))
    denied(["after"])
    assert [row["why"] for row in read(b"".join(pieces), "csv")] == ["before"]


def test_no_transaction_stays_open_while_somebody_downloads(committed: None) -> None:
    fill(50)
    for _piece in streaming():
        assert not connection.in_atomic_block


def streaming() -> Iterator[bytes]:
    return stream(Export(search=Search(), form="csv", columns=columns.DEFAULT, reason="Report"))


def test_an_export_is_on_the_trail_with_its_reason_and_manifest() -> None:
    denied()
    exported()
    started = AuditEvent.objects.get(what="trail.export_started")
    finished = AuditEvent.objects.get(what="trail.export_finished")
    assert (started.why, finished.outcome) == ("Quarterly report", "success")
    assert (finished.facts["rows"], finished.facts["complete"]) == (len(WHYS), True)
    assert finished.facts["started_by_event"] == str(started.event_id)
    assert finished.facts["columns"] == list(columns.DEFAULT)


def test_the_manifest_names_the_seals() -> None:
    fill(3000)
    exported(asked=Search())
    facts = AuditEvent.objects.latest("pk").facts
    assert (facts["first_seal"], facts["last_seal"]) == (1, 3)


def manifest() -> dict[str, Any]:
    return dict(AuditEvent.objects.filter(what="trail.export_finished").latest("pk").facts)


@pytest.mark.parametrize("names", [columns.DEFAULT, columns.chosen(["details"])])
def test_the_manifest_counts_the_rows_that_no_seal_covers_yet(names: Sequence[str]) -> None:
    denied()
    exported(names=names)
    assert (manifest()["first_seal"], manifest()["last_seal"], manifest()["unsealed"]) == (None, None, len(WHYS))
    sealing.sweep(timezone.now())
    denied(["later", "latest"])
    exported(names=names)
    assert (manifest()["first_seal"], manifest()["last_seal"], manifest()["unsealed"]) == (1, 1, 2)


@pytest.mark.parametrize("asked", [DENIED, Search(since=timezone.now() - timedelta(days=1))])
def test_the_manifest_names_the_seal_of_an_event_that_was_committed_late(asked: Search) -> None:
    late, *_others = denied(["late", "in time", "in time too"])
    columns_of_it = {field.name: getattr(late, field.attname) for field in AuditEvent._meta.fields}
    triggers.GUARDS.remove(connection)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_auditevent WHERE id = %s", [late.pk])
    sealing.sweep(timezone.now())
    AuditEvent(**columns_of_it).save(force_insert=True)
    triggers.GUARDS.install(connection)
    sealing.sweep(timezone.now())
    exported(asked=asked)
    assert (manifest()["first_seal"], manifest()["last_seal"]) == (1, 2)


def test_the_manifest_tells_only_of_seals_over_its_rows() -> None:
    for why in ("before", "wanted", "after"):
        denied([why])
        sealing.sweep(timezone.now())
    exported(asked=Search(q="wanted"))
    assert (manifest()["first_seal"], manifest()["last_seal"], manifest()["unsealed"]) == (2, 2, 0)


def test_a_download_that_breaks_off_is_recorded_as_incomplete() -> None:
    denied()
    pieces = streaming()
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    finished = AuditEvent.objects.get(what="trail.export_finished")
    assert (finished.outcome, finished.facts["complete"]) == ("failure", False)
