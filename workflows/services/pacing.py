"""One limiter for all processes: rows of calls. It schedules, it does not reject.

A slot is counted from before its call until a window after its end. Whenever in between the receiver counted the call,
it sees no more than the limit in any window of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Min, Sum

from compliance_bot.guardrails import policy
from workflows.models import Channel, SendSlot

# A receiver's minute, and some for a clock that is being corrected.
WINDOW = timedelta(seconds=60.5)
# A call that never comes to its end is counted this long before its window begins.
_LONGEST_CALL = timedelta(seconds=100)


@dataclass(frozen=True, slots=True)
class Lane:
    """At most ``limit`` calls in any ``WINDOW`` under ``name``."""

    name: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """How many calls may be made now, and the slots that they hold. None: ask again at ``ask_again``."""

    calls: int
    ask_again: datetime
    slots: tuple[int, ...] = ()


def channel_lanes(channel: Channel) -> list[Lane]:
    """Whatever leaves by a channel keeps to the channel's own pace and to the one of all together."""
    return [
        Lane(f"channel:{channel.pk}", channel.per_minute),
        Lane("outbound", policy.current().actions.rate_limit_per_minute),
    ]


def take(lanes: Sequence[Lane], now: datetime, *, wanted: int = 1) -> Grant:
    """Take slots for up to ``wanted`` calls in every lane at once. Needs a transaction.

    Whoever counts first holds the lane until commit, so two processes never share the last slot.
    """
    _lock(lanes)
    names = [lane.name for lane in lanes]
    SendSlot.objects.filter(lane__in=names, held_until__lte=now).delete()
    rows = SendSlot.objects.filter(lane__in=names).order_by().values("lane")
    held = {row["lane"]: row for row in rows.annotate(calls=Sum("calls"), first=Min("held_until"))}
    free = {lane.name: lane.limit - (held[lane.name]["calls"] if lane.name in held else 0) for lane in lanes}
    calls = min(wanted, *free.values())
    if calls < 1:
        first = max(held[name]["first"] for name, room in free.items() if room < 1 and name in held)
        # The first to come free may be a call that is still being made: its end is nearer than it is counted for.
        return Grant(calls=0, ask_again=min(first, now + WINDOW))
    until = now + _LONGEST_CALL + WINDOW
    slots = SendSlot.objects.bulk_create(SendSlot(lane=name, calls=calls, held_until=until) for name in names)
    return Grant(calls=calls, ask_again=now, slots=tuple(slot.pk for slot in slots))


def free(grant: Grant, now: datetime) -> None:
    """The calls have come to their end: a window from now they are not counted any more."""
    SendSlot.objects.filter(pk__in=grant.slots).update(held_until=now + WINDOW)


def _lock(lanes: Sequence[Lane]) -> None:
    """SQLite's IMMEDIATE transactions are already alone; PostgreSQL takes one advisory lock a lane."""
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("a slot is taken inside a transaction")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for name in sorted(lane.name for lane in lanes):
                cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"pace:{name}"])
