"""Items and candidates for these tests, complete but for what a test is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from workflows.curation.normalise import NormalItem, normalise
from workflows.curation.rank import Candidate
from workflows.domain.items import SourceItem

NOW = datetime(2025, 11, 23, 6, 0, tzinfo=UTC)


def source_item(**changes: Any) -> SourceItem:
    values = {"external_id": "", "url": "https://news.example/a", "title": "Title", "summary": ""}
    return SourceItem(**(values | changes))


def normal(**changes: Any) -> NormalItem:
    return normalise(source_item(**changes))


def candidate(id_: int = 1, *, source: str = "Gazette", weight: int = 0, **changes: Any) -> Candidate:
    changes.setdefault("published_at", NOW - timedelta(hours=100))
    changes.setdefault("url", f"https://news.example/{id_}")
    return Candidate(item=normal(**changes), source_name=source, source_weight=weight, id=id_)
