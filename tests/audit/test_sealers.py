"""Several sealers, and a transaction that commits late: real connections."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event

import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit import sealing
from audit.models import AuditEvent, AuditLeaf, AuditSeal
from audit.recorder import record
from audit.verification import Tally, verify
from audit.vocabulary import AccessEvent

pytestmark = pytest.mark.usefixtures("committed")

SEALERS = 4


def denied(count: int) -> None:
    with transaction.atomic():
        for _ in range(count):
            record(AccessEvent.DENIED)


def test_sealers_at_once_seal_every_event_once() -> None:
    denied(50)
    barrier = Barrier(SEALERS)

    def seal(_: int) -> None:
        barrier.wait()
        sealing.seal_due(timezone.now() + sealing.PATIENCE)
        connection.close()

    with ThreadPoolExecutor(SEALERS) as pool:
        list(pool.map(seal, range(SEALERS)))
    assert AuditLeaf.objects.count() == AuditEvent.objects.count()
    assert list(AuditSeal.objects.order_by("n").values_list("n", flat=True)) == [1]
    assert list(verify(timezone.now(), Tally())) == []


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's writers wait for each other")
def test_a_transaction_that_commits_late_is_sealed_after_all() -> None:
    recorded, may_commit = Event(), Event()

    def slow() -> None:
        with transaction.atomic():
            record(AccessEvent.DENIED, why="late")
            recorded.set()
            assert may_commit.wait(20)
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(slow)
        assert recorded.wait(20)
        denied(3)  # with higher ids, and visible at once
        sealing.seal_due(timezone.now() + sealing.PATIENCE)
        assert not AuditEvent.objects.filter(why="late").exists()
        may_commit.set()
        running.result()
    sealing.seal_due(timezone.now() + sealing.PATIENCE + timedelta(seconds=1))
    late = AuditEvent.objects.get(why="late")
    assert AuditLeaf.objects.get(event_pk=late.pk).seal_n == 2
    assert late.pk < AuditEvent.objects.exclude(pk=late.pk).latest("pk").pk
    assert list(verify(timezone.now(), Tally())) == []
