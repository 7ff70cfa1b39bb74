"""Proves that an exported file is what the trail says was exported, and that the trail still says the same."""

import itertools
import json
import zipfile
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime

from audit import keys, payloads, proof, rows, sealing, search
from audit.export.columns import DETAILS, ID
from audit.export.package import digest
from audit.models import AuditEvent, AuditPurgeGrant
from audit.search import Search
from audit.vocabulary import TrailEvent

_AT_ONCE = 500
_END = 2**63 - 1


class Command(BaseCommand):
    help = "Verify an exported CSV, JSON Lines or ZIP file against the trail. Exit code 1 when it differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            manifest = _check_package(file) if zipfile.is_zipfile(file) else _check_plain(file, self.stdout.write)
        except OSError as error:
            raise CommandError(f"{file} cannot be read ({error.strerror}).") from error
        except (proof.Broken, UnicodeDecodeError) as error:
            raise CommandError(f"{file}: {error}") from error
        complete = "complete" if manifest["complete"] else "NOT complete: it broke off"
        query = manifest["query"] or "everything"
        self.stdout.write(f"{manifest['rows']} rows as exported; {complete}. Query: {query}")


def _check_package(file: Path) -> dict[str, Any]:
    """The package's own proofs, its keys against ours, its manifest against the trail. Raises Broken."""
    try:
        with zipfile.ZipFile(file) as package:
            manifest = proof.check_package(package)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise proof.Broken(f"is no package of ours, or it was changed ({error})") from error
    ours = {key.public_bytes_raw().hex() for key in keys.public_keys().values()}
    if strange := sorted(set(manifest["public_keys"]) - ours):
        raise proof.Broken(f"it is signed by {proof.key_id(bytes.fromhex(strange[0]))}, which is no key of ours")
    told = _manifest(manifest["sha256"])
    for name in ("query", "rows", "complete", "columns", "started_by_event"):
        if told[name] != manifest[name]:
            raise proof.Broken(f"its manifest says another “{name}” than the trail")
    return told


def _check_plain(file: Path, say: Any) -> dict[str, Any]:
    """Row by row against the trail. Raises Broken."""
    manifest = _manifest(digest(file))
    gone = 0
    grants: set[int] = set()
    with file.open(encoding="utf-8-sig", newline="") as text:
        numbered = enumerate(proof.rows(text, manifest["form"]), 1)
        while some := list(itertools.islice(numbered, _AT_ONCE)):
            for number, row in _missing(some):
                grants.add(_grant_of(number, row))
                gone += 1
    if gone:
        numbers = ", ".join(map(str, sorted(grants)))
        say(f"{gone} rows were purged since, under grant {numbers}; the archive still has them.")
    return manifest


def _manifest(sha256: str) -> dict[str, Any]:
    """What the trail says of the file with this digest. Raises Broken."""
    asked = Search(q=sha256, what=TrailEvent.EXPORT_FINISHED)
    for pks in search.chunks(asked, below=_END, size=10):
        # Whoever can write into the table could tell of any file: what counts was recorded here.
        genuine = [row[rows.PK] for row in rows.of_keys(pks) if not rows.problem(row)]
        for event in AuditEvent.objects.filter(pk__in=genuine):
            facts: dict[str, Any] = event.facts if sealing.is_ours(event) else {}
            if facts.get("sha256") == sha256:
                return facts
    raise proof.Broken("is not a file that was exported here, or it was changed since")


def _missing(numbered: Sequence[tuple[int, Mapping[str, str]]]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows whose events are gone; the others are compared. Raises Broken."""
    events = _events([row[ID] for _number, row in numbered])
    for number, row in numbered:
        told = events.get(row[ID])
        if told is None:
            yield number, row
        elif any(told.get(name, value) != value for name, value in row.items()):
            raise proof.Broken(f"row {number}: event {row[ID]} says something else in the trail now")


def _events(ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """The cells that the trail has now, by event id. Raises Broken where it was tampered with."""
    found = {}
    events = AuditEvent.objects.filter(event_id__in=ids).only("pk", "payload_digest")
    kept = payloads.texts(events)
    for event in rows.of_keys([event.pk for event in events]):
        told = json.loads(event[rows.CANON])
        if problem := rows.problem(event):
            raise proof.Broken(f"event {told['event_id']} says something else now: it {problem}")
        cells = proof.cells(told, kept.get(event[rows.PK]))
        if told["payload"] is not None and event[rows.PK] not in kept:
            del cells[DETAILS]  # erased since: the trail cannot say any more what they were
        found[cells[ID]] = cells
    return found


def _grant_of(number: int, row: Mapping[str, str]) -> int:
    """Under which grant the event may have been purged. Raises Broken when there is none."""
    at = parse_datetime(row["when"])
    grant = AuditPurgeGrant.objects.filter(first_at__lte=at, last_at__gte=at).first()
    if grant is None:
        raise proof.Broken(f"row {number}: event {row[ID]} is no longer in the trail")
    return int(grant.n)
