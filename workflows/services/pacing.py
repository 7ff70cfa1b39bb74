"""One limiter for all processes: rows of the last minute. It schedules, it does not reject."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction

from compliance_bot.guardrails import policy
from workflows.models import Channel, SendSlot

# A little more than the minute that a receiver counts: our clock starts before its clock does.
WINDOW = timedelta(seconds=61)


@dataclass(frozen=True, slots=True)
class Lane:
    """At most ``limit`` sends in any ``WINDOW`` under ``name``."""

    name: str
    limit: int


def channel_lanes(channel: Channel) -> list[Lane]:
    """Whatever leaves by a channel keeps to the channel's own pace and to the one of all together."""
    return [
        Lane(f"channel:{channel.pk}", channel.per_minute),
        Lane("outbound", policy.current().actions.rate_limit_per_minute),
    ]


def take_slot(lanes: Sequence[Lane], now: datetime) -> datetime | None:
    """Take a slot in every lane at once: None when taken, else the instant to ask again. Needs a transaction.

    Whoever counts first holds the lane until commit, so two processes never share the last slot.
    """
    _lock(lanes)
    horizon = now - WINDOW
    names = [lane.name for lane in lanes]
    SendSlot.objects.filter(lane__in=names, at__lte=horizon).delete()
    free_at = [_free_at(lane, now) for lane in lanes]
    if wait := [instant for instant in free_at if instant is not None]:
        return max(wait)
    SendSlot.objects.bulk_create(SendSlot(lane=name, at=now) for name in names)
    return None


def _free_at(lane: Lane, now: datetime) -> datetime | None:
    """None where the lane has room; else when the send that blocks it falls out of the window."""
    newest = SendSlot.objects.filter(lane=lane.name).order_by("-at", "-id").values_list("at", flat=True)
    blocking = newest[lane.limit - 1 : lane.limit].first()
    return blocking + WINDOW if blocking else None


def _lock(lanes: Sequence[Lane]) -> None:
    """SQLite's IMMEDIATE transactions are already alone; PostgreSQL takes one advisory lock a lane."""
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("a slot is taken inside a transaction")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for name in sorted(lane.name for lane in lanes):
                cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"pace:{name}"])
