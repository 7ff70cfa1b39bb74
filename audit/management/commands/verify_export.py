"""Proves that an exported file is what the trail says was exported, and that the trail still says the same."""

import csv
import hashlib
import io
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit.export import BOM, as_row, original
from audit.models import AuditEvent
from audit.vocabulary import TrailEvent


class Command(BaseCommand):
    help = "Verify an exported CSV or JSON Lines file against its manifest and the trail. Exit code 1 when it differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise CommandError(f"{file} cannot be read ({error.strerror}).") from error
        manifest = _manifest(hashlib.sha256(content).hexdigest())
        if manifest is None:
            raise CommandError(f"{file} is not a file that was exported here, or it was changed since.")
        rows = list(_rows(content.decode("utf-8").removeprefix(BOM), manifest["form"]))
        for number, row in enumerate(rows, 1):
            event = AuditEvent.objects.filter(event_id=row["event_id"]).first()
            if event is None:
                raise CommandError(f"Row {number}: event {row['event_id']} is no longer in the trail.")
            if {name: str(value) for name, value in as_row(event).items()} != row:
                raise CommandError(f"Row {number}: event {row['event_id']} says something else in the trail now.")
        complete = "complete" if manifest["complete"] else "NOT complete: the download broke off"
        self.stdout.write(f"{len(rows)} rows as exported; {complete}. Query: {manifest['query']}")


def _manifest(sha256: str) -> dict[str, Any] | None:
    for event in AuditEvent.objects.filter(what=TrailEvent.EXPORT_FINISHED).order_by("-pk").iterator(chunk_size=200):
        facts: dict[str, Any] = event.facts
        if facts["sha256"] == sha256:
            return facts
    return None


def _rows(text: str, form: str) -> Iterator[dict[str, str]]:
    if form == "jsonl":
        for line in io.StringIO(text, newline="\n"):
            yield {name: str(value) for name, value in json.loads(line).items()}
        return
    for row in csv.DictReader(io.StringIO(text, newline="")):
        yield {name: original(value) for name, value in row.items()}
