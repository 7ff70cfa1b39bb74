"""Telling receivers outside what happened: seal by seal, in order, each event at least once.

Only sealed events are told, so one that commits late comes with a later seal and is never skipped. A receiver's row
moves on after the receiver took a seal's whole batch: whoever dies between the two tells it again. Nothing here is
recorded, or telling would never come to an end; the row says how far a receiver is and what is wrong.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from audit.forwarding import https, syslog
from audit.forwarding.batch import Batch, NotTaken, of_seal
from audit.models import AuditForwarder, AuditSeal
from compliance_bot.guardrails.redaction import redact

logger = logging.getLogger(__name__)

# A queue task may take 60 s, and one seal up to 20 s: the last one begins well before that.
_TASK_SECONDS = 30.0
# Longer than a queue task may live, so that a live worker is never overtaken and a lost hint is given again.
_LEASE = timedelta(seconds=75)
_LONGEST_WAIT = timedelta(minutes=5)


def receivers() -> dict[str, Callable[[Batch], None]]:
    """Those that are switched on, by name. Each takes a whole batch, or raises NotTaken."""
    known = {"syslog": (settings.AUDIT_SYSLOG, syslog.send), "https": (settings.AUDIT_FORWARD_URL, https.send)}
    return {name: send for name, (address, send) in known.items() if address}


def due(now: datetime) -> list[str]:
    """Which receivers have something to be told now and nobody who does it. Costs nothing while all are off."""
    wanted = receivers()
    newest = AuditSeal.objects.order_by("-n").values_list("n", flat=True).first() if wanted else None
    if newest is None:
        return []
    rows = AuditForwarder.objects.in_bulk(list(wanted))
    return [name for name in wanted if _is_due(rows.get(name, AuditForwarder()), newest, now)]


def reserve(name: str, now: datetime) -> bool:
    """Note that a worker is asked to tell this receiver, so that nobody else is; False where another was first."""
    AuditForwarder.objects.get_or_create(name=name)
    return _at_rest(name, now).update(retry_at=now + _LEASE) == 1


def forward(name: str) -> int:
    """Tell one receiver what it was not told yet, until it knows all or the task's time is over. Returns the seals."""
    send = receivers().get(name)
    lease = _take(name) if send else None
    if send is None or lease is None:
        return 0
    deadline = time.monotonic() + _TASK_SECONDS
    told = 0
    while time.monotonic() < deadline and (seal := _next_seal(lease)) is not None:
        try:
            send(of_seal(seal))
        except NotTaken as error:
            _put_off(lease, error)
            return told
        if not lease.update(seal_n=seal.n, sent_at=timezone.now(), failures=0, problem=""):
            return told  # overtaken: whoever has the lease now goes on
        told += 1
    lease.update(lease_until=None, retry_at=None)
    return told


def _is_due(row: AuditForwarder, newest: int, now: datetime) -> bool:
    return row.seal_n < newest and all(until is None or until <= now for until in (row.retry_at, row.lease_until))


def _at_rest(name: str, now: datetime) -> QuerySet[AuditForwarder]:
    free = Q(lease_until=None) | Q(lease_until__lte=now)
    ready = Q(retry_at=None) | Q(retry_at__lte=now)
    return AuditForwarder.objects.filter(free, ready, name=name)


def _take(name: str) -> QuerySet[AuditForwarder] | None:
    """The receiver's row for as long as nobody else takes it; None where somebody has it."""
    now = timezone.now()
    AuditForwarder.objects.get_or_create(name=name)
    free = AuditForwarder.objects.filter(Q(lease_until=None) | Q(lease_until__lte=now), name=name)
    taken = free.update(lease_until=now + _LEASE)
    return AuditForwarder.objects.filter(name=name, lease_until=now + _LEASE) if taken else None


def _next_seal(lease: QuerySet[AuditForwarder]) -> AuditSeal | None:
    row = lease.first()
    return AuditSeal.objects.filter(n__gt=row.seal_n).order_by("n").first() if row else None


def _put_off(lease: QuerySet[AuditForwarder], error: NotTaken) -> None:
    """Come back later: twice as late each time, up to five minutes, or when the receiver asked for."""
    row = lease.first()
    if row is None:
        return
    problem = redact(str(error))[:300]
    wait = min(timedelta(seconds=2 ** min(row.failures + 1, 20)), _LONGEST_WAIT)
    if error.retry_after is not None:
        wait = max(wait, timedelta(seconds=error.retry_after))
    logger.warning("%s was not told seal %s and what follows; trying again: %s", row.name, row.seal_n + 1, problem)
    retry_at = timezone.now() + wait
    lease.update(failures=row.failures + 1, problem=problem, retry_at=retry_at, lease_until=None)
