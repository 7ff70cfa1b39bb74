"""The part of ``make bench-trail`` that runs inside one installation; its argument is the number of events."""

import itertools
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import django

django.setup()

# ruff: noqa: E402 - the product has to be set up first
from auditlog.admin import LogEntryAdmin
from auditlog.models import AbstractLogEntry, LogEntryManager
from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, transaction
from django.http import HttpRequest
from django.template import engines
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from audit import retention, sealing, triggers, verification
from audit.export import columns
from audit.export.stream import Export, stream
from audit.models import AuditEvent, AuditLeaf, AuditSeal, FieldChange
from audit.recorder import record
from audit.search import Search
from audit.vocabulary import AccessEvent
from compliance_bot.guardrails import policy
from tests.audit.many import fill
from workflows.models import Source

ROUNDS = 3


class StockEntry(AbstractLogEntry):  # type: ignore[misc]
    """django-auditlog's own log entry, which the product does without."""

    objects = LogEntryManager()

    class Meta:
        app_label = "auditlog"
        db_table = "bench_logentry"


def main(events: int) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    sam = User.objects.create_superuser("sam")
    few = min(events, 10_000)
    now = timezone.now()
    begins, soon = now - timedelta(days=30), now - timedelta(days=30) * (1 - few / events)
    fill(few, begins=begins, ends=soon)
    small = _seconds_to_record()
    fill(events - few, begins=soon, ends=now)
    _settle()
    large = _seconds_to_record()
    _say(f"recording one event: {_ms(large)}, with {few:,} rows {_ms(small)}: x {large / small:.2f}")
    _stock_list(sam, _search(sam))
    _saving(sam)
    _exporting()
    _sealing()
    _verifying()
    _purging(min(events, 1_000_000))


def _settle() -> None:
    """What the database does by itself in a quiet hour; and what was written is in memory again."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if connection.vendor == "sqlite" else "VACUUM ANALYZE")
        cursor.execute("SELECT count(length(why)) FROM audit_auditevent")


def _seconds_to_record() -> float:
    """The best of several rounds, each of many transactions of one event."""

    def once() -> float:
        started = time.perf_counter()
        for number in range(200):
            with transaction.atomic():
                record(AccessEvent.DENIED, why=f"Measured, number {number}: 为测量而记录")
        return (time.perf_counter() - started) / 200

    return min(once() for _ in range(15))


def _search(sam: User) -> float:
    """Whole pages through the admin: the newest, from the middle, and near the end."""
    client = Client()
    client.force_login(sam)
    newest = AuditEvent.objects.latest("pk").pk
    url = reverse("admin:audit_auditevent_changelist")
    taken: list[tuple[float, str]] = []
    for name, search in _searches(newest).items():
        for place in ("", f"&before={newest // 2}", f"&before={newest // 50}"):
            address = f"{url}?{search.address()}{place}"
            client.get(address)
            taken += [(_timed(client.get, address), f"{name}{place}") for _ in range(ROUNDS)]
    seconds = sorted(each for each, _name in taken)
    p95 = seconds[int(len(seconds) * 0.95)]
    _say(f"search, whole pages ({len(seconds)}): median {_ms(statistics.median(seconds))}, p95 {_ms(p95)}")
    for each, name in sorted(taken, reverse=True)[:5]:
        _say(f"  slowest: {_ms(each)} {name}")
    return p95


def _stock_list(sam: User, p95: float) -> None:
    """The same events in django-auditlog's own table, looked at with its own admin."""
    with _stock_log():
        site = _Bare()
        site.register(StockEntry, LogEntryAdmin)
        page = LogEntryAdmin(StockEntry, site)
        middle = str(max(1, StockEntry.objects.count() // page.list_per_page // 2))
        # The list itself, without a frame around it.
        shown = "{% load admin_list %}{% date_hierarchy cl %}{% result_list cl %}{% pagination cl %}"
        page.change_list_template = engines["django"].from_string(shown)
        for name, query in {"first page": {}, "deep page": {"p": middle}, "search": {"q": "whistleblower"}}.items():
            request = RequestFactory().get("/", query)
            request.user = sam
            taken_by_stock = _timed(lambda r=request: page.changelist_view(r).render())
            _say(
                f"  django-auditlog's own list, {name}: {_ms(taken_by_stock)}, x {taken_by_stock / p95:.1f} of our p95"
            )


def _searches(newest: int) -> dict[str, Search]:
    half = AuditEvent.objects.filter(pk__gte=newest // 2).order_by("pk")[0]
    quarter: datetime = AuditEvent.objects.filter(pk__gte=newest // 4).order_by("pk")[0].at
    times = {"since": quarter, "until": half.at}
    return {
        "everything": Search(),
        "common word": Search(q="compliance"),
        "common 群发": Search(q="群发"),
        "rare word": Search(q="whistleblower"),
        "rare 举报人": Search(q="举报人"),
        "nothing": Search(q="zzznothing"),
        "one character": Search(q="群"),
        "beginning": Search(q="inspect*"),
        "name of an event": Search(q="批准"),
        "two words": Search(q="quarterly inspection"),
        "words that never meet": Search(q="群发 季度"),
        "four words": Search(q="群发 复核 alice approval"),
        "who": Search(who="alice"),
        "what": Search(what="approval.granted"),
        "area": Search(what="approval"),
        "outcome": Search(outcome="refused"),
        "kind": Search(kind="anonymous"),
        "type": Search(object="workflows.message"),
        "object": Search(object="workflows.message:17"),
        "why": Search(why="已手工更正"),
        "time": Search(**times),
        "time, word": Search(**times, q="群发"),
        "time, rare": Search(**times, q="whistleblower"),
        "who, what": Search(who="alice", what="approval.granted"),
        "who, what, outcome": Search(who="alice", what="approval.granted", outcome="refused"),
        "word, who, outcome": Search(q="群发", who="李娜", outcome="failure"),
        "word, kind": Search(q="季度", kind="anonymous"),
        "rare, who": Search(q="举报人", who="alice"),
        "request": Search(request=half.request_id),
    }


class _Bare(AdminSite):
    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        return []


@contextmanager
def _stock_log() -> Iterator[None]:
    """The same events as django-auditlog would keep them, with its own indexes."""
    with connection.schema_editor() as editor:
        editor.create_model(StockEntry)
    kind = ContentType.objects.get_for_model(Source).pk
    changes = "canon" if connection.vendor == "sqlite" else "canon::jsonb"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO bench_logentry (content_type_id, object_pk, object_id, object_repr, action, changes_text,
                changes, cid, timestamp) SELECT %s, target_id, id, target_label, 1, '', {changes}, request_id, at
                FROM audit_auditevent""",  # noqa: S608
            [kind],
        )
        cursor.execute("ANALYZE bench_logentry")
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(StockEntry)


def _saving(sam: User) -> None:
    """A form of the admin, saved with our trail and with django-auditlog's own log instead."""
    client = Client()
    client.force_login(sam)
    source = Source.objects.create(name="Bench", config={"url": "https://news.example/feed"})
    url = reverse("admin:workflows_source_change", args=[source.pk])
    filled = {"config_url": "https://news.example/feed", "weight": 0, "enabled": "on"}

    def saved(tag: str) -> float:
        started = time.process_time()
        for number in range(60):
            answer = client.post(url, {**filled, "name": f"Bench {tag} {number}"})
            assert answer.status_code == 302
        return time.process_time() - started

    ours, stock = [], []
    with _stock_table():
        for number in range(ROUNDS):
            ours.append(saved(f"ours {number}"))
            settings.AUDITLOG_LOGENTRY_MODEL = "auditlog.StockEntry"
            stock.append(saved(f"stock {number}"))
            settings.AUDITLOG_LOGENTRY_MODEL = FieldChange._meta.label
    _say(f"an audited save: x {statistics.median(ours) / statistics.median(stock):.2f} of stock django-auditlog's")


@contextmanager
def _stock_table() -> Iterator[None]:
    with connection.schema_editor() as editor:
        editor.create_model(StockEntry)
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(StockEntry)


def _exporting() -> None:
    """The whole trail as CSV, beside what the database's own tool makes of the same columns; at most a million rows."""
    newest = AuditEvent.objects.latest("pk").pk
    oldest = AuditEvent.objects.filter(pk=newest - 1_000_000).first()
    span = Search(since=oldest.at) if oldest else Search()
    _theirs()  # the rows are in memory then, for both
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    export = Export(search=span, form="csv", columns=columns.DEFAULT, reason="Bench")
    lines = sum(piece.count(b"\r\n") for piece in stream(export))
    ours = lines / (time.perf_counter() - started)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    theirs = _theirs()
    _say(f"export: {lines:,} lines, {ours:,.0f}/s, {more:.0f} MiB more memory")
    _say(f"  the database's own tool: {theirs:,.0f}/s, so x {ours / theirs:.2f}")


def _theirs() -> float:
    names = "who_label, what, at, why, request_id, outcome, on_behalf_of, target_type, target_id, target_label, ip"
    rows = f"SELECT {names}, event_id FROM audit_auditevent ORDER BY id DESC LIMIT 1000000"  # noqa: S608
    started = time.perf_counter()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor, cursor.copy(f"COPY ({rows}) TO STDOUT (FORMAT csv)") as copy:
            count = sum(1 for _ in copy)
    else:
        shell = ["sqlite3", "-csv", str(settings.DATABASES["default"]["NAME"]), rows]
        with subprocess.Popen(shell, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            count = sum(1 for _ in process.stdout)
    return count / (time.perf_counter() - started)


def _sealing() -> None:
    """The newest seals are taken off, behind the guards' back, and made again."""
    newest = AuditSeal.objects.latest("n").n
    triggers.GUARDS.remove(connection)
    with connection.cursor() as cursor:
        for table, column in (("audit_auditleaf", "seal_n"), ("audit_auditseal", "n")):
            cursor.execute(f"DELETE FROM {table} WHERE {column} > %s", [newest - min(50, newest // 2)])  # noqa: S608
    triggers.GUARDS.install(connection)
    oldest = AuditLeaf.objects.latest("event_pk").event_pk
    started = time.perf_counter()
    sealed = 0
    while (made := sealing._seal_next(oldest, timezone.now(), sealing._all)) is not None:
        sealed, oldest = sealed + made.seal.size, made.up_to
    _say(f"sealing: {sealed / (time.perf_counter() - started):,.0f} events/s")
    lines = settings.AUDIT_CHECKPOINT_FILE.read_text().splitlines(keepends=True)
    kept = {line.split('"n": ')[1].split(",")[0]: line for line in lines}
    settings.AUDIT_CHECKPOINT_FILE.write_text("".join(kept.values()))


def _verifying() -> None:
    tally = verification.Tally()
    started = time.perf_counter()
    problems = list(itertools.islice(verification.verify(timezone.now(), tally), 5))
    _say(f"verifying: {tally.events / (time.perf_counter() - started):,.0f} events/s, problems: {problems}")


def _purging(events: int) -> None:
    """The oldest events are purged while somebody records all the time: the longest that one record takes."""
    last = AuditEvent.objects.order_by("pk")[events - 1].at
    days = policy.Audit(retention_days=30)
    now = last + timedelta(days=days.retention_days)
    stop, waits = threading.Event(), [0.0]

    def keep_recording() -> None:
        while not stop.is_set():
            started = time.perf_counter()
            with transaction.atomic():
                record(AccessEvent.DENIED, why="Somebody works on")
            waits.append(time.perf_counter() - started)
        connections.close_all()

    alone = _recorded_alone()
    recorder = threading.Thread(target=keep_recording)
    recorder.start()
    started = time.perf_counter()
    retention.purge(now)
    took = time.perf_counter() - started
    stop.set()
    recorder.join()
    left = AuditEvent.objects.filter(at__lte=last).count()
    waits.sort()
    _say(
        f"purge of {events - left:,} events: {took:,.0f} s; meanwhile {len(waits):,} events were recorded, "
        f"the slowest in {_ms(waits[-1])}, p99 {_ms(waits[int(len(waits) * 0.99)])} (alone: slowest {_ms(alone)})"
    )


def _recorded_alone() -> float:
    slowest = 0.0
    for _ in range(2000):
        started = time.perf_counter()
        with transaction.atomic():
            record(AccessEvent.DENIED, why="Somebody works alone")
        slowest = max(slowest, time.perf_counter() - started)
    return slowest


def _timed(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
