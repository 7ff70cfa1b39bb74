"""Reading sources. Networks are slow, so nothing here holds a transaction while it waits for one."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as FuturesTimeout
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from audit.recorder import Outcome, record
from workflows import sources as adapters
from workflows.curation.normalise import NormalItem, normalise
from workflows.domain.events import Event
from workflows.domain.items import Fetched
from workflows.models import Item, Source
from workflows.registry import UnknownKind
from workflows.services import outbound
from workflows.sources import SourceError

logger = logging.getLogger(__name__)

# A run is one queue task of at most 60 s; all its sources together get this share of it.
_DEADLINE_SECONDS = 40
_PARALLEL = 8


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of one source: a sentence for the run's notes."""

    source: Source
    new: int
    ok: bool
    note: str


def collect(sources: Sequence[Source]) -> list[Collected]:
    """Read each source once, side by side, and keep what is new. A source that fails does not stop the others."""
    now = timezone.now()
    due = [source for source in sources if source.fetch_after is None or source.fetch_after <= now]
    results = [
        Collected(source, 0, ok=True, note=f"{source.name}: asked us to wait until {source.fetch_after:%H:%M} UTC")
        for source in sources
        if source not in due
    ]
    pool = ThreadPoolExecutor(max_workers=_PARALLEL)
    try:
        waiting = {pool.submit(_fetch, source): source for source in due}
        try:
            for future in as_completed(list(waiting), timeout=_DEADLINE_SECONDS):
                results.append(_keep(waiting.pop(future), future.result()))
        except FuturesTimeout:
            late = SourceError(f"no complete answer within {_DEADLINE_SECONDS} seconds")
            results.extend(_keep(source, late) for source in waiting.values())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return sorted(results, key=lambda result: result.source.name)


def _fetch(source: Source) -> Fetched | SourceError:
    """Runs in a thread of its own: network only, no database."""
    try:
        adapter = adapters.registry.get(source.kind)
        with outbound.session() as http:
            return adapter.fetch(source.config, source.state, http)
    except UnknownKind as error:
        return SourceError(str(error))
    except SourceError as error:
        return error
    except Exception as error:
        # A bug in one adapter, or a configuration it did not expect, is no reason to lose the other sources.
        logger.exception("source %s could not be read", source.pk)
        return SourceError(f"The source could not be read: {type(error).__name__}.")


def _keep(source: Source, result: Fetched | SourceError) -> Collected:
    return _keep_failure(source, result) if isinstance(result, SourceError) else _keep_items(source, result)


@transaction.atomic
def _keep_failure(source: Source, error: SourceError) -> Collected:
    now = timezone.now()
    wait = timedelta(seconds=error.retry_after) if error.retry_after else None
    Source.objects.filter(pk=source.pk).update(
        fetched_at=now,
        last_error=str(error),
        failing_since=source.failing_since or now,
        fetch_after=now + min(wait, timedelta(days=1)) if wait else None,
    )
    record(Event.SOURCE_FAILED, target=source, outcome=Outcome.FAILURE, why=str(error))
    return Collected(source, 0, ok=False, note=f"{source.name}: {error}")


@transaction.atomic
def _keep_items(source: Source, fetched: Fetched) -> Collected:
    now = timezone.now()
    new, edited = (0, 0) if fetched.unchanged else _store([normalise(item) for item in fetched.items], source)
    Source.objects.filter(pk=source.pk).update(
        state=fetched.state,
        fetched_at=now,
        fetch_after=None,
        failing_since=None,
        last_error="",
        notes=list(fetched.notes),
    )
    facts = {"items": len(fetched.items), "new": new, "edited": edited, "notes": list(fetched.notes)}
    record(Event.SOURCE_READ, target=source, facts=facts)
    said = "unchanged" if fetched.unchanged else f"{new} new of {len(fetched.items)}"
    return Collected(source, new, ok=True, note="; ".join([f"{source.name}: {said}", *fetched.notes]))


def _store(items: list[NormalItem], source: Source) -> tuple[int, int]:
    """(new, edited). The unique constraint decides what is new, also between two workers."""
    now = timezone.now()
    by_hash = {item.content_hash: item for item in reversed(items)}
    known = {row.content_hash: row for row in Item.objects.filter(source=source, content_hash__in=list(by_hash))}
    rows = [_row(item, source) for key, item in by_hash.items() if key not in known]
    for row in rows:
        row.first_seen_at = now
    Item.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)
    changed = [_edit(row, by_hash[key]) for key, row in known.items() if row.title != by_hash[key].title]
    for row in changed:
        row.edited_at = now
    Item.objects.bulk_update(changed, ["title", "summary", "url", "story_hash", "edited_at"], batch_size=200)
    return len(rows), len(changed)


def _row(item: NormalItem, source: Source) -> Item:
    return Item(
        source=source,
        content_hash=item.content_hash,
        story_hash=item.story_hash,
        external_id=item.external_id,
        url=item.url,
        title=item.title,
        summary=item.summary,
        author=item.author[:200],
        published_at=item.published_at,
    )


def _edit(row: Item, item: NormalItem) -> Item:
    row.title, row.summary, row.url, row.story_hash = item.title, item.summary, item.url, item.story_hash
    return row
