"""The part of ``make bench`` that runs inside one installation: the queue and the home page over many requests."""

import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import django

django.setup()

# ruff: noqa: E402 - the product has to be set up first
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests import people, world
from workflows import triggers
from workflows.models import ApprovalRequest
from workflows.services import messages

PENDING = 10_000
PAST = 1_000_000
LOADS = 200

_TABLE = ApprovalRequest._meta.db_table
# How the columns of the n-th copy differ from those of the first request.
_PENDING_COPY = {
    "subject_id": "'p' || n",
    "subject_label": "'Reminder ' || n",
    "requested_by_id": "CASE n % 3 WHEN 0 THEN {other} ELSE requested_by_id END",
    "action": "CASE n % 5 WHEN 0 THEN 'permission_change' ELSE action END",
}
_PAST_COPY = {
    **_PENDING_COPY,
    "subject_id": "'c' || n",
    "state": "CASE n % 8 WHEN 0 THEN 'denied' WHEN 1 THEN 'expired' WHEN 2 THEN 'void' ELSE 'executed' END",
    "closed_at": "expires_at",
    "remind_at": "NULL",
}
_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) ",
    "postgresql": "WITH numbers(n) AS (SELECT generate_series(1, {count})) ",
}


def main() -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    alice, olivia = people.alice(), people.olivia()
    draft = world.message(alice, world.audience(world.robot(alice)))
    messages.submit(message_id=draft.pk, by=alice)
    browser = Client()
    browser.force_login(olivia)
    pages = _pages()
    with _unguarded():
        _copy(10, {**_PENDING_COPY, "subject_id": "'f' || n"}, other=olivia)
        few = {name: _queries(browser, address) for name, address in pages.items()}
        # In the order of their making: what is past is older than most of what waits.
        _copy(PAST, _PAST_COPY, other=olivia)
        _copy(PENDING - ApprovalRequest.objects.filter(state="pending").count(), _PENDING_COPY, other=olivia)
    _settle()
    many = {name: _queries(browser, address) for name, address in pages.items()}
    changed = {name: (few[name], many[name]) for name in pages if few[name] != many[name]}
    _say(f"  queries a page, the same with 10 and {PENDING:,} pending: {not changed} {changed or ''}")
    _load(browser, pages)


def _pages() -> dict[str, str]:
    queue = reverse("admin:workflows_approvalrequest_changelist")
    return {
        "queue": queue,
        "queue, page 2": f"{queue}?p=2",
        "queue, last page": f"{queue}?p=200",
        "queue of one action": f"{queue}?action=permission_change",
        "queue, searched": f"{queue}?q=reminder+77",
        "queue, searched in vain": f"{queue}?q=nowhere",
        "queue by expiry": f"{queue}?o=7",
        "executed": f"{queue}?state=executed",
        "all, page 2": f"{queue}?state=all&p=2",
        "all, searched": f"{queue}?state=all&q=reminder+77",
        "all, searched in vain": f"{queue}?state=all&q=nowhere",
        "home": reverse("admin:index"),
    }


@contextmanager
def _unguarded() -> Iterator[None]:
    """Closed requests cannot be written otherwise."""
    triggers.GUARDS.remove(connection)
    yield
    triggers.GUARDS.install(connection)


def _copy(count: int, differing: Mapping[str, str], *, other: User) -> None:
    """``count`` copies of the first request."""
    columns = [field.column for field in ApprovalRequest._meta.concrete_fields if not field.primary_key]
    values = ", ".join(differing.get(column, column).format(other=other.pk) for column in columns)  # type: ignore[arg-type]
    first = ApprovalRequest.objects.earliest("pk").pk
    numbers = _NUMBERS[connection.vendor].format(count=count)
    copies = f"SELECT {values} FROM {_TABLE}, numbers WHERE id = {first} ORDER BY n"  # noqa: S608 - our own names
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {_TABLE} ({', '.join(columns)}) {numbers} {copies}")  # type: ignore[arg-type]


def _settle() -> None:
    """What the database does by itself in a quiet hour."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if connection.vendor == "sqlite" else "VACUUM ANALYZE")


def _queries(browser: Client, address: str) -> int:
    """Of the second load: the first one fills caches."""
    browser.get(address)
    with CaptureQueriesContext(connection) as seen:
        assert browser.get(address).status_code == 200, address
    return len(seen)


def _load(browser: Client, pages: Mapping[str, str]) -> None:
    taken: dict[str, list[float]] = {name: [] for name in pages}
    for _ in range(LOADS // len(pages)):
        for name, address in pages.items():
            started = time.perf_counter()
            browser.get(address)
            taken[name].append(time.perf_counter() - started)
    everything = sorted(each for seconds in taken.values() for each in seconds)
    p95 = everything[int(len(everything) * 0.95)]
    _say(f"  {len(everything)} pages: median {_ms(statistics.median(everything))}, p95 {_ms(p95)}")
    for name, seconds in taken.items():
        _say(f"    {name}: median {_ms(statistics.median(seconds))}, slowest {_ms(max(seconds))}")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
