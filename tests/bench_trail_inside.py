"""The part of ``make bench-trail`` that runs inside one installation; its argument is the number of events,
or ``export`` for the part that a process of its own measures.
"""

import gc
import itertools
import json
import os
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
from audit.vocabulary import AccessEvent, TrailEvent
from compliance_bot.guardrails import policy
from tests.audit.many import fill
from workflows.models import Source

ROUNDS = 8
# Flat is what costs as much as on a trail of so many events.
FEW = 10_000


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
    few = min(events, FEW)
    now = timezone.now()
    begins, soon = now - timedelta(days=30), now - timedelta(days=30) * (1 - few / events)
    sealing.sweep(now)  # what the installation told of itself
    fill(few, begins=begins, ends=soon)
    _settle()
    small = _costs()
    fill(events - few, begins=soon, ends=now)
    _settle()
    _stock_list(sam, _search(sam))
    _saving(sam)
    _exporting()
    large = _costs()
    _purging(1_000_000)
    for part, seconds in large.items():
        _say(f"{part}, an event: {_us(seconds)}; with {few:,} rows {_us(small[part])}: x {seconds / small[part]:.2f}")


def _settle() -> None:
    """What the database does by itself in a quiet hour; and what was written is in memory again."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if connection.vendor == "sqlite" else "VACUUM ANALYZE")
        cursor.execute("SELECT count(length(why)) FROM audit_auditevent")
    # What filled the trail is no part of the product.
    gc.collect()
    gc.freeze()


def _costs() -> dict[str, float]:
    """Seconds an event that the same work takes on a trail of any size; the best of several rounds."""
    return {
        "recording": _best(_seconds_to_record),
        "sealing": _best(_seconds_to_seal),
        "verifying": _seconds_to_verify(),
        "exporting": _best(_seconds_to_export),
        "purging": _seconds_to_purge(),
    }


def _best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(5))


def _seconds_to_record() -> float:
    """Many transactions of one event."""
    started = time.perf_counter()
    for number in range(500):
        with transaction.atomic():
            record(AccessEvent.DENIED, why=f"Measured, number {number}: 为测量而记录")
    return (time.perf_counter() - started) / 500


def _seconds_to_seal() -> float:
    """The newest seals are taken off, behind the guards' back, and made again."""
    sealing.sweep(timezone.now())
    kept = AuditSeal.objects.latest("n").n - 8
    above = AuditLeaf.objects.filter(seal_n__gt=kept).earliest("event_pk").event_pk - 1
    triggers.GUARDS.remove(connection)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_auditleaf WHERE seal_n > %s", [kept])
        cursor.execute("DELETE FROM audit_auditseal WHERE n > %s", [kept])
    triggers.GUARDS.install(connection)
    file = settings.AUDIT_CHECKPOINT_FILE
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if json.loads(line)["n"] <= kept))
    started = time.perf_counter()
    sealed = 0
    while (made := sealing._seal_next(above, timezone.now(), sealing._all)) is not None:
        sealed, above = sealed + made.seal.size, made.up_to
    return (time.perf_counter() - started) / sealed


def _seconds_to_verify() -> float:
    tally = verification.Tally()
    started = time.perf_counter()
    problems = list(itertools.islice(verification.verify(timezone.now(), tally), 5))
    assert not problems, problems
    return (time.perf_counter() - started) / tally.events


def _seconds_to_export() -> float:
    """The newest few."""
    since = AuditEvent.objects.order_by("-pk")[FEW - 1].at
    _rows, seconds = _exported(Search(since=since))
    return seconds / FEW


def _seconds_to_purge() -> float:
    """The oldest few."""
    return _purged(FEW // 2)[1] / (FEW // 2)


def _search(sam: User) -> float:
    """Whole pages through the admin: the newest, from the middle, and near the end. Returns the p95 of all."""
    client = Client()
    client.force_login(sam)
    newest = AuditEvent.objects.latest("pk").pk
    url = reverse("admin:audit_auditevent_changelist")
    taken: dict[str, list[float]] = {}
    for name, search in _searches(newest).items():
        for place in ("", f"&before={newest // 2}", f"&before={newest // 50}"):
            address = f"{url}?{search.address()}{place}"
            client.get(address)
            taken.setdefault(name, []).extend(_timed(client.get, address) for _ in range(ROUNDS))
    seconds = [each for several in taken.values() for each in several]
    _say(f"search, {len(taken)} kinds, {len(seconds)} pages: median {_ms(statistics.median(seconds))}, {_p95(seconds)}")
    slow = sorted(taken, key=lambda name: -_percentile(taken[name], 0.95))
    over = [name for name in slow if _percentile(taken[name], 0.95) > 0.05]
    _say(f"  kinds with a p95 over 50 ms: {len(over)}")
    for name in slow[:8]:
        _say(f"  {name}: {_p95(taken[name])}")
    return _percentile(seconds, 0.95)


def _p95(seconds: list[float]) -> str:
    return f"p95 {_ms(_percentile(seconds, 0.95))}"


def _percentile(seconds: list[float], part: float) -> float:
    return sorted(seconds)[int(len(seconds) * part)]


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
    """Words of every frequency, every filter, and any two or three of these together."""
    half = AuditEvent.objects.filter(pk__gte=newest // 2).order_by("pk")[0]
    quarter: datetime = AuditEvent.objects.filter(pk__gte=newest // 4).order_by("pk")[0].at
    single: dict[str, dict[str, Any]] = {
        "common word": {"q": "compliance"},
        "common 群发": {"q": "群发"},
        "rare word": {"q": "whistleblower"},
        "rare 举报人": {"q": "举报人"},
        "who": {"who": "alice"},
        "what": {"what": "approval.granted"},
        "area": {"what": "approval"},
        "outcome": {"outcome": "refused"},
        "kind": {"kind": "anonymous"},
        "type": {"object": "workflows.message"},
        "object": {"object": "workflows.message:17"},
        "why": {"why": "已手工更正"},
        "time": {"since": quarter, "until": half.at},
        "request": {"request": half.request_id},
    }
    words = {
        "everything": Search(),
        "nothing": Search(q="zzznothing"),
        "one character": Search(q="群"),
        "beginning": Search(q="inspect*"),
        "name of an event": Search(q="批准"),
        "two words": Search(q="quarterly inspection"),
        "words that never meet": Search(q="群发 季度"),
        "four words": Search(q="群发 复核 alice approval"),
        "story": Search(story=half.request_id),
    }
    combined = {}
    for names in itertools.chain.from_iterable(itertools.combinations(single, size) for size in (1, 2, 3)):
        filters = [single[name] for name in names]
        if sum(map(len, filters)) == len(set().union(*filters)):
            combined[" + ".join(names)] = Search(**dict(itertools.chain.from_iterable(f.items() for f in filters)))
    return words | combined


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
    """At most a million rows as CSV, by a process of its own, beside what the database's own tool makes of them."""
    _theirs()  # the rows are in memory then, for both
    export = [sys.executable, "-m", __spec__.name, "export"]
    told = subprocess.run(export, capture_output=True, text=True, check=True).stdout
    lines, seconds, more = map(float, told.split())
    theirs = _theirs()
    _say(f"export: {lines:,.0f} lines, {lines / seconds:,.0f}/s, {more:.0f} MiB more memory")
    _say(f"  the database's own tool: {theirs:,.0f}/s, so x {lines / seconds / theirs:.2f}")


def export() -> None:
    """Tells how many lines, in how many seconds, with how many MiB more than a process that made a small one."""
    newest = AuditEvent.objects.latest("pk").pk
    _exported(Search(since=AuditEvent.objects.get(pk=newest).at))
    before = _peak()
    oldest = AuditEvent.objects.filter(pk=newest - 1_000_000).first()
    lines, seconds = _exported(Search(since=oldest.at) if oldest else Search())
    _say(f"{lines} {seconds} {_peak() - before}")


def _exported(span: Search) -> tuple[int, float]:
    """How many rows, and in how many seconds."""
    asked = Export(search=span, form="csv", columns=columns.DEFAULT, reason="Bench")
    seconds = _timed(lambda: sum(map(len, stream(asked))))
    told: dict[str, Any] = AuditEvent.objects.filter(what=TrailEvent.EXPORT_FINISHED).latest("pk").facts
    return told["rows"], seconds


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _theirs() -> float:
    """Rows a second of the database's own tool, into nothing."""
    names = "who_label, what, at, why, request_id, outcome, on_behalf_of, target_type, target_id, target_label, ip"
    rows = f"SELECT {names}, event_id FROM audit_auditevent ORDER BY id DESC LIMIT 1000000"  # noqa: S608
    database = settings.DATABASES["default"]
    if connection.vendor == "postgresql":
        place = connection.get_connection_params()
        tool = ["psql", "--quiet", *(f"--{name}={place[name]}" for name in ("host", "port") if name in place)]
        tool += ["--dbname", place["dbname"], "--command", f"COPY ({rows}) TO STDOUT (FORMAT csv)"]
        environment = {"PGUSER": str(place["user"]), "PGPASSWORD": str(place.get("password", ""))}
    else:
        tool, environment = ["sqlite3", "-csv", str(database["NAME"]), rows], {}
    started = time.perf_counter()
    subprocess.run(tool, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
    return min(AuditEvent.objects.count(), 1_000_000) / (time.perf_counter() - started)


def _purging(at_most: int) -> None:
    """The oldest events are purged while somebody records all the time: the longest that one record takes."""
    stop, waits = threading.Event(), [0.0]

    def keep_recording() -> None:
        while not stop.is_set():
            waits.append(_timed(_record_once))
        connections.close_all()

    alone = max(_timed(_record_once) for _ in range(2000))
    recorder = threading.Thread(target=keep_recording)
    recorder.start()
    try:
        gone, took = _purged(at_most)
    finally:
        stop.set()
        recorder.join()
    _say(
        f"purge of {gone:,} events: {took:,.0f} s; meanwhile {len(waits):,} events were recorded, "
        f"the slowest in {_ms(max(waits))}, p99 {_ms(_percentile(waits, 0.99))} (alone: slowest {_ms(alone)})"
    )


def _record_once() -> None:
    with transaction.atomic():
        record(AccessEvent.DENIED, why="Somebody works on")


def _purged(at_most: int) -> tuple[int, float]:
    """How many of the oldest went, and in how many seconds."""
    oldest = retention.expired(timezone.now() + timedelta(days=1000)).order_by("pk")
    last = oldest[min(at_most, oldest.count()) - 1].at
    before = oldest.filter(at__lte=last).count()
    started = time.perf_counter()
    retention.purge(last + timedelta(days=policy.Audit().retention_days))
    taken = time.perf_counter() - started
    return before - oldest.filter(at__lte=last).count(), taken


def _timed(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _us(seconds: float) -> str:
    return f"{seconds * 1_000_000:.1f} µs"


def _say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export()
    else:
        main(int(sys.argv[1]))
