"""What the trail tells of other rooms' rows. Reading only, through indexes, in pieces."""

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audit.models import AuditEvent

_AT_ONCE = 500
# Keys follow the clock, but for transactions and machines that differ by less than this.
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event in short: what happened to which row, and who did it."""

    pk: int
    what: str
    target_id: str
    who_id: str
    at: datetime


_COLUMNS = ("pk", "what", "target_id", "who_id", "at")


def about(target_type: str, ids: Iterable[object], names: Collection[str]) -> Iterator[Told]:
    """Every event with one of these names about these rows of one kind."""
    waiting = map(str, ids)
    while some := list(itertools.islice(waiting, _AT_ONCE)):
        rows = AuditEvent.objects.filter(target_type=target_type, target_id__in=some, what__in=names).order_by()
        yield from map(_told, rows.values_list(*_COLUMNS))


def untold(target_type: str, ids: Iterable[object], names: Collection[str]) -> set[str]:
    """Which of these rows have no event with any of these names."""
    asked = [str(pk) for pk in ids]
    return set(asked) - {told.target_id for told in about(target_type, asked, names)}


def since(moment: datetime, target_type: str, name: str) -> Iterator[Told]:
    """Events with this name about rows of one kind, from a moment on, the oldest first."""
    last = pk_before(moment)
    rows = AuditEvent.objects.filter(what=name, target_type=target_type, at__gte=moment).order_by("pk")
    while some := [_told(row) for row in rows.filter(pk__gt=last).values_list(*_COLUMNS)[:_AT_ONCE]]:
        yield from some
        last = some[-1].pk


def pk_before(moment: datetime) -> int:
    """A key above which every event from ``moment`` on lies, and few others."""
    first = AuditEvent.objects.filter(at__gte=moment - _SKEW).order_by("at", "pk").first()
    if first is not None:
        return int(first.pk) - 1
    newest = AuditEvent.objects.order_by("-pk").first()
    return int(newest.pk) if newest is not None else 0


def _told(row: tuple[Any, ...]) -> Told:
    return Told(**dict(zip(_COLUMNS, row, strict=True)))
