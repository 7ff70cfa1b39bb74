"""An export that is downloaded while it is made. Its beginning and its end are events on the trail.

What breaks off is recorded as incomplete. The end holds the file's digest, so that a file can be told to be ours.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction

from audit import context
from audit.export import rows
from audit.export.seals import SealRange
from audit.models import AuditEvent
from audit.recorder import Outcome, record
from audit.search import Search
from audit.vocabulary import TrailEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is asked for. ``reason``: why. ``bom``: what Excel needs to see UTF-8."""

    search: Search
    form: str
    columns: Sequence[str]
    reason: str
    bom: str = ""

    def facts(self) -> dict[str, Any]:
        return {"query": self.search.address(), "form": self.form, "columns": list(self.columns)}


def stream(export: Export) -> Iterator[bytes]:
    """The file in pieces. Nothing recorded after the beginning is in it, so it ends however busy the trail is."""
    cause = context.current()
    with transaction.atomic():
        started = record(TrailEvent.EXPORT_STARTED, why=export.reason, facts=export.facts())
    return _told(export, cause, started)


def _told(export: Export, cause: context.Cause, started: AuditEvent) -> Iterator[bytes]:
    digest, count, seals, complete = hashlib.sha256(), 0, SealRange(), False
    try:
        top = rows.heading(export.columns, export.form, export.bom)
        digest.update(top)
        yield top
        for piece in rows.pieces(export.search, export.columns, export.form, below=started.pk):
            digest.update(piece.data)
            count, seals = count + piece.rows, seals.with_rows_of(piece.seals)
            yield piece.data
        complete = True
    finally:
        outcome = Outcome.SUCCESS if complete else Outcome.FAILURE
        manifest = {
            **export.facts(),
            "rows": count,
            "sha256": digest.hexdigest(),
            "complete": complete,
            "started_by_event": str(started.event_id),
            **asdict(seals),
        }
        # The response outlives its request, so the cause is taken up again.
        with context.caused_by(cause), transaction.atomic():
            record(TrailEvent.EXPORT_FINISHED, why=export.reason, outcome=outcome, facts=manifest)
