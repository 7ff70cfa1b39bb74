"""Several purges at once: real connections."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from audit.models import AuditPurge
from tests.audit.test_retention import left, past, proved, purge

pytestmark = pytest.mark.usefixtures("committed")

PURGES = 2


def test_two_purges_at_once_do_no_damage() -> None:
    old = past(30)
    barrier = Barrier(PURGES)

    def one(_: int) -> None:
        barrier.wait()
        purge()
        connection.close()

    with ThreadPoolExecutor(PURGES) as pool:
        list(pool.map(one, range(PURGES)))
    purge()
    assert left(old) == set()
    assert AuditPurge.objects.filter(event_pk__in=old).count() == 30
    proved()
