"""From items to a digest: which items may be offered, and what the digest says."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Coalesce
from django.utils import timezone

from audit.recorder import record
from workflows.curation import compose, dedupe, rank
from workflows.curation.normalise import NormalItem
from workflows.domain.events import Event
from workflows.domain.states import OFFER_TAKEN, OfferState
from workflows.models import Digest, DigestEntry, Item, Run
from workflows.models.workflow import DigestKind

# More candidates than this are never ranked in one run.
_MAX_CANDIDATES = 2000


def curate(run: Run) -> Digest | None:
    """Fold, rank and compose what may be offered now; None where there is nothing. Idempotent for a run."""
    existing = Digest.objects.filter(run=run).first()
    if existing is not None:
        return existing
    now = timezone.now()
    candidates = _candidates(run, now)
    if not candidates:
        return None
    folded = dedupe.fold(candidates)
    ranked = rank.rank(folded, rank.Rules(), now=now)
    content = compose.compose(
        ranked,
        workflow=run.workflow.name,
        kind=run.digest_kind,
        now=now,
        time_zone=run.workflow.time_zone,
        language=run.workflow.language,
        limit=run.workflow.max_entries,
    )
    return _keep(run, content, ranked[: run.workflow.max_entries], now)


def _candidates(run: Run, now: datetime) -> list[rank.Candidate]:
    items = Item.objects.filter(source__workflows=run.workflow, source__enabled=True).select_related("source")
    # The same story from another source is no news either.
    offers = DigestEntry.objects.filter(item__story_hash=OuterRef("story_hash"), workflow=run.workflow)
    if run.digest_kind == DigestKind.SUMMARY:
        midnight = run.workflow.midnight_before(run.due_at)
        items = items.filter(~Exists(offers.filter(state=OfferState.DISMISSED)), first_seen_at__gte=midnight)
    else:
        items = items.filter(~Exists(offers.filter(kind=DigestKind.UPDATE, state__in=sorted(OFFER_TAKEN))))
    if run.workflow.max_age_days is not None:
        oldest = now - timedelta(days=run.workflow.max_age_days)
        items = items.annotate(dated_at=Coalesce("published_at", "first_seen_at")).filter(dated_at__gte=oldest)
    return [_candidate(item) for item in items.order_by("-id")[:_MAX_CANDIDATES]]


def _candidate(item: Item) -> rank.Candidate:
    return rank.Candidate(
        item=NormalItem(
            external_id=item.external_id,
            url=item.url,
            title=item.title,
            summary=item.summary,
            author=item.author,
            published_at=item.published_at,
            content_hash=item.content_hash,
            story_hash=item.story_hash,
        ),
        source_name=item.source.name,
        source_weight=item.source.weight,
        id=item.pk,
    )


@transaction.atomic
def _keep(run: Run, content: dict[str, Any], shown: Sequence[rank.Ranked], now: datetime) -> Digest:
    digest = Digest.objects.create(
        run=run, workflow=run.workflow, kind=run.digest_kind, content=content, created_at=now
    )
    # An entry stands for its repetitions in other sources too: they settle together.
    item_ids = [pk for entry in shown for pk in (entry.candidate.id, *entry.candidate.folded_ids)]
    DigestEntry.objects.bulk_create(
        DigestEntry(digest=digest, workflow=run.workflow, item_id=pk, kind=run.digest_kind) for pk in item_ids
    )
    facts = {"items": item_ids, "considered": content["considered"], "left_out": content["left_out"]}
    record(Event.DIGEST_COMPOSED, target=digest, facts=facts)
    return digest
