"""Rows of an exported file against the events they tell of: in the table, or in the archive once they were purged.

What is believed is what somebody with no more than the database cannot make: a signed seal, a MAC, an archive file.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db.models import QuerySet

from audit import archive, payloads, proof, purged, rows, sealing
from audit.archive import Archived
from audit.export.columns import DETAILS, ID
from audit.models import AuditEvent, AuditPurge, AuditPurgeGrant
from audit.sealed import Seals
from audit.vocabulary import TrailEvent

_AT_ONCE = 500

_Cells = dict[str, str]


@dataclass(frozen=True, slots=True)
class _FileRow:
    """``number``: from 1, without the heading."""

    number: int
    cells: Mapping[str, str]

    @property
    def event_id(self) -> str:
        return self.cells[ID]

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.cells["when"])

    def compare(self, told: Mapping[str, str]) -> None:
        """Raises Broken where the trail tells something else; what it can no longer tell is passed over."""
        if any(told.get(name, value) != value for name, value in self.cells.items()):
            raise self.broken("says something else in the trail now")

    def broken(self, what: str) -> proof.Broken:
        return proof.Broken(f"row {self.number}: event {self.event_id} {what}")


@dataclass(slots=True)
class Tally:
    """What is in order, but has to be said. ``unproved``: purged rows whose archive is no longer there."""

    unsealed: int = 0
    purged: int = 0
    grants: set[int] = field(default_factory=set)
    unproved: int = 0


def genuine_facts(events: QuerySet[AuditEvent]) -> Iterator[dict[str, Any]]:
    """The facts of those of these few events that were recorded here, oldest first.

    Whoever can write into the table could tell of any file and any purge, but cannot make the MAC.
    """
    found = {event.pk: event for event in events}
    sound = {row[rows.PK] for row in rows.of_keys(list(found)) if not rows.problem(row)}
    for pk in sorted(sound):
        if sealing.is_ours(found[pk]):
            yield found[pk].facts


class Comparison:
    """Every method raises Broken at the first row that the trail does not prove."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._seals = Seals()

    def gone(self, numbered: Iterator[tuple[int, Mapping[str, str]]]) -> Iterator[_FileRow]:
        """The rows whose events are no longer in the table; every other one is compared on the way."""
        while some := [_FileRow(*row) for row in itertools.islice(numbered, _AT_ONCE)]:
            told = self._told([row.event_id for row in some])
            for row in some:
                if row.event_id in told:
                    row.compare(told[row.event_id])
                else:
                    yield row

    def _told(self, event_ids: Sequence[str]) -> dict[str, _Cells]:
        """What the table holds, by event id, once each event has proved to be the one that was recorded."""
        asked = AuditEvent.objects.filter(event_id__in=event_ids).only("pk", "payload_digest", "row_hash", "row_mac")
        events = {event.pk: event for event in asked}
        sealed, kept = self._seals.hashes_of(events), payloads.texts(events.values())
        found = {}
        for row in rows.of_keys(list(events)):
            pk, told = row[rows.PK], json.loads(row[rows.CANON])
            problem = rows.problem(row) or self._problem(events[pk], sealed.get(pk))
            if problem:
                raise proof.Broken(f"event {told['event_id']} says something else now: it {problem}")
            found[told["event_id"]] = _cells(told, kept.get(pk))
        return found

    def _problem(self, event: AuditEvent, sealed: bytes | None) -> str:
        """Whether the row's hash is the sealed one; while no seal covers it, its MAC speaks for it."""
        if sealed is not None:
            return "" if bytes(event.row_hash) == sealed else "is not the event that was sealed in this place"
        self._tally.unsealed += 1
        return "" if sealing.is_ours(event) else "was not recorded by this installation, its MAC is wrong"

    def check_gone(self, gone: Sequence[_FileRow]) -> None:
        """Rows whose events left the table, against the archive files of the grants under which they may have left."""
        wanted = {row.event_id: row for row in gone}
        without_archive = []
        for grant in self._grants(min(row.at for row in gone), max(row.at for row in gone)):
            if not archive.is_there(grant.archive):
                without_archive.append(grant)
            elif wanted:
                self._check_archived(grant, wanted)
        for row in wanted.values():
            if not any(grant.first_at <= row.at <= grant.last_at for grant in without_archive):
                raise row.broken("is no longer in the trail")
            self._tally.unproved += 1

    def _check_archived(self, grant: AuditPurgeGrant, wanted: dict[str, _FileRow]) -> None:
        """Compare the rows that left under this grant, and take them out of ``wanted``."""
        if archive.digest_of(grant.archive) != bytes(grant.archive_sha256):
            raise proof.Broken(f"grant {grant.n}: its archive file was changed")
        events = [event for event in archive.read(archive.path_of(grant.archive)) if event.told["event_id"] in wanted]
        pks = [event.pk for event in events]
        left_under = dict(AuditPurge.objects.filter(pk__in=pks).values_list("event_pk", "grant_n"))
        sealed, kept = self._seals.hashes_of(pks), _details_of(events)
        for event in events:
            row = wanted[event.told["event_id"]]
            if event.pk not in left_under:  # it was on hold when the others left
                raise row.broken("was taken out of the trail, and no purge took it")
            if left_under[event.pk] == grant.n:
                if sealed.get(event.pk) != event.row_hash:
                    raise row.broken("is archived with another text than was sealed")
                row.compare(_cells(event.told, kept.get(event.pk)))
                self._tally.purged += 1
                self._tally.grants.add(grant.n)
                del wanted[row.event_id]

    def _grants(self, first: datetime, last: datetime) -> list[AuditPurgeGrant]:
        """The grants over a time that the trail itself tells of, newest first."""
        grants = AuditPurgeGrant.objects.filter(first_at__lte=last, last_at__gte=first).order_by("-n")
        return [grant for grant in grants if self._granted.get(grant.n) == purged.facts_of(grant)]

    @cached_property
    def _granted(self) -> dict[int, dict[str, Any]]:
        """What the trail tells of each grant."""
        events = AuditEvent.objects.filter(what=TrailEvent.PURGE_GRANTED)
        return {facts["grant"]: facts for facts in genuine_facts(events)}


def _details_of(events: Sequence[Archived]) -> dict[int, str]:
    """The erasable details of archived events: they stay beside the table as long as the archive is kept."""
    return payloads.texts(AuditEvent(pk=event.pk, payload_digest=event.told["payload"]) for event in events)


def _cells(told: Mapping[str, Any], details: str | None) -> _Cells:
    """The cells of an event; without those of which nobody can say any more what they were."""
    cells = proof.cells(told, details)
    if told["payload"] is not None and details is None:
        del cells[DETAILS]
    return cells
