"""The trail as a file: streamed, in constant memory, and with a manifest by which the file proves itself.

A cell that a spreadsheet could take for a formula gets one apostrophe in front, and so does a cell that begins with an
apostrophe; taking one leading apostrophe away therefore always gives back the original (OWASP's rule, made reversible).
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from audit import context
from audit.models import AuditEvent, AuditLeaf
from audit.recorder import Outcome, record
from audit.vocabulary import TrailEvent

COLUMNS = (
    *("who", "what", "when", "why", "request_id"),
    *("outcome", "on_behalf_of", "object_type", "object_id", "object", "address", "event_id", "row_hash", "facts"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\x00", "'")
_CHUNK = 2000
BOM = "\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """``query`` says in words what was asked for; ``reason`` why. ``bom``: what Excel needs to see UTF-8."""

    form: str  # "csv" or "jsonl"
    query: str
    reason: str
    bom: str = ""


def stream(events: QuerySet[AuditEvent], export: Export) -> Iterator[bytes]:
    """The file in pieces. Its beginning and its end are events; what breaks off is recorded as incomplete.

    Nothing recorded after the beginning is in it, so it ends however busy the trail is.
    """
    cause = context.current()
    with transaction.atomic():
        started = record(
            TrailEvent.EXPORT_STARTED, why=export.reason, facts={"query": export.query, "form": export.form}
        )
    rows = _rows(events.filter(pk__lt=started.pk))
    return _told(_FORMS[export.form](rows, export.bom), export, cause, started)


def _told(
    pieces: Iterable[tuple[bytes, int]], export: Export, cause: context.Cause, started: AuditEvent
) -> Iterator[bytes]:
    digest, count, complete = hashlib.sha256(), 0, False
    try:
        for piece, rows in pieces:
            digest.update(piece)
            count += rows
            yield piece
        complete = True
    finally:
        outcome = Outcome.SUCCESS if complete else Outcome.FAILURE
        manifest = {
            "query": export.query,
            "form": export.form,
            "rows": count,
            "sha256": digest.hexdigest(),
            "complete": complete,
            "started_by_event": str(started.event_id),
            "newest_seal": _newest_seal(),
        }
        # The response outlives its request, so the cause is taken up again.
        with context.caused_by(cause), transaction.atomic():
            record(TrailEvent.EXPORT_FINISHED, why=export.reason, outcome=outcome, facts=manifest)


def _rows(events: QuerySet[AuditEvent]) -> Iterator[list[dict[str, Any]]]:
    """Newest first, a chunk at a time by the key: no transaction stays open while somebody downloads."""
    before: int | None = None
    while True:
        page = events.order_by("-pk") if before is None else events.filter(pk__lt=before).order_by("-pk")
        chunk = list(page[:_CHUNK])
        if not chunk:
            return
        yield [as_row(event) for event in chunk]
        before = chunk[-1].pk


def as_row(event: AuditEvent) -> dict[str, Any]:
    return {
        "who": event.who_label or event.who_kind,
        "what": event.what,
        "when": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "why": event.why,
        "request_id": str(event.request_id),
        "outcome": event.outcome,
        "on_behalf_of": event.on_behalf_of,
        "object_type": event.target_type,
        "object_id": event.target_id,
        "object": event.target_label,
        "address": event.ip or "",
        "event_id": str(event.event_id),
        "row_hash": bytes(event.row_hash).hex(),
        "facts": json.dumps(event.facts, ensure_ascii=False, sort_keys=True),
    }


def neutral(text: str) -> str:
    """What no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def original(text: str) -> str:
    """The inverse of ``neutral``."""
    return text.removeprefix("'")


class _Line:
    """csv wants a file; this one hands each line back."""

    def write(self, line: str) -> str:
        return line


def _csv(chunks: Iterable[list[dict[str, Any]]], bom: str) -> Iterator[tuple[bytes, int]]:
    writer = csv.writer(_Line(), lineterminator="\r\n")
    yield (bom + str(writer.writerow(COLUMNS))).encode(), 0
    for chunk in chunks:
        lines = [str(writer.writerow([neutral(str(row[name])) for name in COLUMNS])) for row in chunk]
        yield "".join(lines).encode(), len(chunk)


def _jsonl(chunks: Iterable[list[dict[str, Any]]], bom: str) -> Iterator[tuple[bytes, int]]:
    for chunk in chunks:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in chunk]
        yield "".join(lines).encode(), len(chunk)


_FORMS: Mapping[str, Callable[[Iterable[list[dict[str, Any]]], str], Iterator[tuple[bytes, int]]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
}


def _newest_seal() -> int:
    leaf = AuditLeaf.objects.order_by("-event_pk").first()
    return leaf.seal_n if leaf else 0
