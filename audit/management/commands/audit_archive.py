"""Archive files of the audit trail: list, prove, search, or make one readable for any tool."""

import json
import os
import sqlite3
import uuid
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.timezone import get_current_timezone, is_naive, make_aware

from audit import archive, proof
from audit.archive import Archived, ArchiveError
from audit.models import AuditPurgeGrant
from audit.recorder import record
from audit.search import Search
from audit.vocabulary import TrailEvent

_TEXTS = ("q", "who", "what", "kind", "outcome", "object", "why")


class Command(BaseCommand):
    help = "Look into archive files of the audit trail. Searching and restoring are recorded, with their reason."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="the files, with their grants")
        verify = actions.add_parser("verify", help="prove files; all of them when none is named")
        verify.add_argument("file", nargs="*")
        search = actions.add_parser("search", help="print matching events as JSON Lines, oldest first")
        search.add_argument("file", nargs="*", help="look only into these")
        for name in _TEXTS:
            search.add_argument(f"--{name}", default="")
        search.add_argument("--request", type=uuid.UUID)
        for name in ("since", "until"):
            search.add_argument(f"--{name}", type=_instant, help="a date, or date and time")
        restore = actions.add_parser("restore", help="write files' events into an SQLite file with one table")
        restore.add_argument("file", nargs="+")
        restore.add_argument("--to", type=Path, required=True, help="a file that does not exist yet")
        for reader in (search, restore):
            reader.add_argument("--reason", required=True, help="why it is read; the trail keeps it")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        do: Mapping[str, Callable[[dict[str, Any]], None]] = {
            "list": self._list,
            "verify": self._verify,
            "search": self._search,
            "restore": self._restore,
        }
        try:
            do[action](options)
        except (ArchiveError, proof.Broken, OSError) as error:
            raise CommandError(str(error)) from error

    def _list(self, options: dict[str, Any]) -> None:
        grants = {grant.archive: grant for grant in AuditPurgeGrant.objects.filter(archive__in=archive.names())}
        for name in archive.names():
            grant = grants.get(name)
            told = "no grant"
            if grant is not None:
                told = f"{grant.events} events, {grant.first_at:%Y-%m-%d} to {grant.last_at:%Y-%m-%d}"
            self.stdout.write(f"{name}  {archive.path_of(name).stat().st_size} bytes  {told}")

    def _verify(self, options: dict[str, Any]) -> None:
        for name in options["file"] or archive.names():
            events = _proved(name)
            self.stdout.write(f"{name}: proved, {events} events")

    def _search(self, options: dict[str, Any]) -> None:
        search = Search(**{name: options[name] for name in (*_TEXTS, "request", "since", "until")})
        files = options["file"] or _in_time(search)
        _read(files, options["reason"], {"search": search.address()})
        for name, event in _events(files):
            if archive.matches(event, search):
                self.stdout.write(json.dumps({**proof.cells(event.told), "file": name}, ensure_ascii=False))

    def _restore(self, options: dict[str, Any]) -> None:
        target: Path = options["to"]
        for name in options["file"]:
            _proved(name)
        _read(options["file"], options["reason"], {"restored_to": str(target)})
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _write_sqlite(target, _events(options["file"]))
        self.stdout.write(f"{target}: table events, readable with any SQLite tool. Remove it when it is read.")


def _proved(name: str) -> int:
    """How many events the file holds. Raises when it is not the file that was granted, or does not prove."""
    grant = AuditPurgeGrant.objects.filter(archive=name).first()
    if grant is not None and archive.digest_of(name) != bytes(grant.archive_sha256):
        raise ArchiveError(f"{name} was changed: its SHA-256 is not that of grant {grant.n}.")
    return archive.check(archive.path_of(name))


def _in_time(search: Search) -> list[str]:
    """The files that may hold what is asked for; one without a grant may hold anything."""
    out = AuditPurgeGrant.objects.none()
    if search.since:
        out = out | AuditPurgeGrant.objects.filter(last_at__lt=search.since)
    if search.until:
        out = out | AuditPurgeGrant.objects.filter(first_at__gte=search.until)
    names = set(out.values_list("archive", flat=True))
    return [name for name in archive.names() if name not in names]


def _events(files: Iterable[str]) -> Iterator[tuple[str, Archived]]:
    return ((name, event) for name in files for event in archive.read(archive.path_of(name)))


def _read(files: list[str], reason: str, facts: Mapping[str, str]) -> None:
    """Looking is on the trail before anything is shown."""
    with transaction.atomic():
        record(TrailEvent.ARCHIVE_READ, why=reason, facts={**facts, "files": len(files), "first": files[:20]})


def _write_sqlite(target: Path, events: Iterable[tuple[str, Archived]]) -> None:
    columns = ", ".join(f'"{name}" TEXT' for name in (*proof.COLUMNS, "canon", "file"))
    marks = ", ".join("?" * (len(proof.COLUMNS) + 2))
    database = sqlite3.connect(target)
    try:
        with database:
            database.execute(f"CREATE TABLE events ({columns})")
            rows = ((*proof.cells(event.told).values(), event.canon, name) for name, event in events)
            database.executemany(f"INSERT INTO events VALUES ({marks})", rows)  # noqa: S608 - question marks only
    finally:
        database.close()


def _instant(text: str) -> datetime:
    """A date (its beginning) or a date and time, in the configured time zone unless it names one."""
    day = parse_date(text) if len(text) <= 10 else None
    instant = datetime.combine(day, datetime.min.time()) if day else parse_datetime(text)
    if instant is None:
        raise ValueError(text)
    return make_aware(instant, get_current_timezone()) if is_naive(instant) else instant
