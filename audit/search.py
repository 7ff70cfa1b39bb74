"""Finding events: one box and exact filters, combined, newest first, by pages that follow a key.

Every search is a walk down the primary key through the index (``search_index``); times become bounds on the key.
"""

import functools
import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import translation

from audit import search_index, story, tokens, vocabulary
from audit.models import AuditEvent
from audit.search_index import Expression

# Keys follow the clock, but for machines whose clocks differ, and by less than this.
_SKEW = timedelta(minutes=5)
_END = 2**63 - 1
COUNT_LIMIT = 10_000
_FEW = 1_000
# Seconds that a page may spend on its count.
_PATIENCE = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is asked for; empty means any. ``object``: ``kind`` or ``kind:id``. ``until`` is exclusive.

    ``request``: one request's events; ``story``: those of all requests that belong to the same cause.
    """

    q: str = ""
    who: str = ""
    what: str = ""
    kind: str = ""
    outcome: str = ""
    object: str = ""
    request: uuid.UUID | None = None
    story: uuid.UUID | None = None
    why: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def address(self) -> str:
        """As a query string; the search form reads it back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {name: value.isoformat() for name, value in values.items() if isinstance(value, datetime)}
        return urlencode({name: value for name, value in values.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events, newest first. ``newer`` and ``older``: the key that the neighbouring page begins beyond, if it exists."""

    events: list[AuditEvent]
    newer: int | None
    older: int | None


def page(search: Search, *, size: int, before: int | None = None, after: int | None = None) -> Page:
    """One page: the newest, or what is older than the key ``before``, or newer than the key ``after``."""
    if after is not None:
        found = list(_take(search, size + 1, above=after, direction=_OLDEST_FIRST))
        more, events = len(found) > size, found[:size][::-1]
        older = events[-1].pk if events else after + 1
        return Page(events=events, newer=events[0].pk if more else None, older=older)
    found = list(_take(search, size + 1, below=_END if before is None else before))
    events = found[:size]
    newer = None if before is None else (events[0].pk if events else before - 1)
    return Page(events=events, newer=newer, older=events[-1].pk if len(found) > size else None)


def count_quickly(search: Search) -> tuple[int, bool]:
    """(how many there are at least, whether that is all), as far as it can be told while somebody waits for a page."""
    try:
        found = count(search, patience=_PATIENCE)
    except search_index.TookTooLong as error:
        return error.counted, False
    return min(found, COUNT_LIMIT), found <= COUNT_LIMIT


def count(search: Search, *, patience: float = search_index.FOR_EVER) -> int:
    """How many there are, counted no further than COUNT_LIMIT + 1. Times at the edge of a bound count roughly."""
    above, below = _bounds(search, 0, _END)
    if _exact(search) is not None:
        return sum(1 for _ in _take(search, COUNT_LIMIT + 1))
    expression = expression_of(search)
    if expression:
        found = search_index.count(expression, above=above, below=below, limit=COUNT_LIMIT + 1, patience=patience)
        if not _between(search) or found > _FEW:
            return found
        # The index knows keys and no times: a few are looked at.
        keys = search_index.newest(expression, above=above, below=below, limit=found)
        return AuditEvent.objects.filter(pk__in=keys, **_between(search)).count()
    rows = AuditEvent.objects.filter(pk__gt=above, pk__lt=below, **_between(search))
    return rows.order_by()[: COUNT_LIMIT + 1].count()


def chunks(search: Search, *, below: int, size: int) -> Iterator[list[int]]:
    """The keys of everything that matches, newest first, ``size`` at a time; no transaction stays open between."""
    light = AuditEvent.objects.only("pk", "at")
    while keys := [event.pk for event in _take(search, size, below=below, rows=light)]:
        yield keys
        below = keys[-1]


def span(search: Search, *, below: int) -> tuple[int, int] | None:
    """The keys (exclusive) between which everything lies that a search by times alone asks for; None for any other."""
    if expression_of(search) or _exact(search) is not None:
        return None
    return _bounds(search, 0, below)


def expression_of(search: Search) -> Expression:
    """The words and exact values as an expression over tokens; empty when there are none."""
    groups: list[list[list[str]]] = [_alternatives(chunk) for chunk in search.q.split() if _uuid(chunk) is None]
    groups += [[[f".why~{token}" for token in tokens.asked(chunk)]] for chunk in search.why.split()]
    named = {"who": search.who, "kind": search.kind, "outcome": search.outcome}
    named["what" if "." in search.what else "area"] = search.what
    named["object" if ":" in search.object else "type"] = search.object
    groups += [[[tokens.named(name, value)]] for name, value in named.items() if value]
    # A chunk of mere punctuation asks for nothing.
    return [[every for every in group if every] for group in groups if any(group)]


def _alternatives(chunk: str) -> list[list[str]]:
    """A word as it stands, or as the name that people see of what happened, in any language."""
    asked = tokens.asked(chunk)
    folded = chunk.casefold()
    names = [what for what, shown in _labels() if folded in shown] if len(folded) > 1 else []
    return [asked, *([tokens.named("what", what)] for what in dict.fromkeys(names))]


@functools.cache
def _labels() -> tuple[tuple[str, str], ...]:
    shown = []
    for language, _name in settings.LANGUAGES:
        with translation.override(language):
            shown += [(what, str(label).casefold()) for what, label in vocabulary.labels()]
    return tuple(shown)


@dataclass(frozen=True, slots=True)
class _Direction:
    """Which way to walk: how rows are ordered, how the index is walked, and what is left after a key."""

    order: str
    walk: Callable[..., list[int]]
    left: Callable[[int, int, int], tuple[int, int]]


_NEWEST_FIRST = _Direction("-pk", search_index.newest, lambda above, below, key: (above, key))
_OLDEST_FIRST = _Direction("pk", search_index.oldest, lambda above, below, key: (key, below))


def _take(
    search: Search,
    limit: int,
    *,
    above: int = 0,
    below: int = _END,
    direction: _Direction = _NEWEST_FIRST,
    rows: QuerySet[AuditEvent] | None = None,
) -> Iterator[AuditEvent]:
    """Up to ``limit`` matching events between two keys, in order."""
    above, below = _bounds(search, above, below)
    ordered = (AuditEvent.objects.all() if rows is None else rows).order_by(direction.order)
    while limit > 0:
        events = _candidates(search, limit, above, below, direction.walk, ordered)
        matching = [event for event in events if _is_in_time(search, event.at)]
        yield from matching
        if len(events) < limit:
            return
        limit -= len(matching)
        above, below = direction.left(above, below, events[-1].pk)


def _candidates(
    search: Search,
    limit: int,
    above: int,
    below: int,
    walk: Callable[..., list[int]],
    ordered: QuerySet[AuditEvent],
) -> list[AuditEvent]:
    """The next events that match in everything but, at the edges, the time."""
    expression, exact = expression_of(search), _exact(search)
    if exact is None and expression:
        return list(ordered.filter(pk__in=walk(expression, above=above, below=below, limit=limit)))
    between = ordered.filter(pk__gt=above, pk__lt=below, **_between(search))
    if exact is None:
        return list(between[:limit])
    if not expression:
        return list(between.filter(exact)[:limit])
    whole = between.filter(exact).defer(None).iterator(chunk_size=500)
    matching = (event for event in whole if search_index.holds(search_index.tokens_of(event), expression))
    return list(itertools.islice(matching, limit))


def _exact(search: Search) -> Q | None:
    """Request and event ids have indexes of their own, and few rows."""
    asked = [_uuid(chunk) for chunk in search.q.split()]
    conditions = [Q(request_id=value) | Q(event_id=value) for value in asked if value is not None]
    if search.request is not None:
        conditions.append(Q(request_id=search.request))
    if search.story is not None:
        conditions.append(Q(request_id__in=story.requests(search.story)))
    return functools.reduce(lambda one, other: one & other, conditions) if conditions else None


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if len(text) in {32, 36} else None
    except ValueError:
        return None


def _bounds(search: Search, above: int, below: int) -> tuple[int, int]:
    """The keys between which everything lies that is in time, and little else.

    What is older by more than the skew than the beginning has a lower key than all that is in time; likewise the end.
    """
    keys = AuditEvent.objects.values_list("pk", flat=True)
    if search.since is not None:
        above = max(above, keys.filter(at__lt=search.since - _SKEW).order_by("-at", "-pk").first() or 0)
    if search.until is not None:
        below = min(below, keys.filter(at__gte=search.until + _SKEW).order_by("at", "pk").first() or _END)
    return above, below


def _between(search: Search) -> dict[str, datetime]:
    bounds = {"at__gte": search.since, "at__lt": search.until}
    return {name: value for name, value in bounds.items() if value is not None}


def _is_in_time(search: Search, at: datetime) -> bool:
    return (search.since is None or at >= search.since) and (search.until is None or at < search.until)
