"""Proof that nothing was changed, put in, taken out, reordered or cut off: seals, events, purges, checkpoints.

An event that is gone although it was sealed is in order when it was purged under a grant: the grant is on the trail
itself, it names the rows that may go by their hashes, and their archive file is where it should be.
"""

import hmac
import json
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import accumulate, islice
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from audit import erasure, keys, payloads, proof, purged, rows
from audit.canonical import row_mac
from audit.models import AuditLeaf, AuditPayload, AuditSeal
from audit.recorder import Outcome, record
from audit.sealed import problems_of_seal
from audit.sealing import NO_HASH
from audit.vocabulary import TrailEvent

_SEALS_AT_ONCE = 200
# Events that are held in memory at once, and looked up by one query.
_ROWS_AT_ONCE = 5_000
_IN_ONE_QUERY = 1_000
# A seal is at most this far behind; an event that waits longer was put in behind the sealer's back, or it stands still.
LATEST = timedelta(minutes=2)

# Whoever puts in a row chooses its number: none is too low to be looked at.
_BELOW_ALL = -(2**63)

_Leaf = tuple[int, bytes]  # position, row_hash
_LEAF = 4  # as many columns of the leaf stand before the event's


# Events that are verified within seconds.
AT_ONCE = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """``where`` names the row: "event 17", "seal 3", "grant 2", "checkpoint 3"."""

    where: str
    what: str


@dataclass(slots=True)
class Tally:
    """What a verification has looked at. ``purged`` and ``erased`` are in order: they were meant to go."""

    events: int = 0
    seals: int = 0
    purged: int = 0
    erased: int = 0


def verify(now: datetime, tally: Tally) -> Iterator[Problem]:
    """Every problem there is, in the order of the seals; the sealed part first. Memory is constant.

    The public keys come from the secret store and the checkpoints from their file: neither is the database's to change.
    """
    public = keys.public_keys()
    previous, erased = NO_HASH, erasure.told()
    for seals in _batches():
        sealed = list(rows.of_seals(seals[0].n, seals[-1].n))
        leaves = _by_seal(sealed)
        for seal in seals:
            tally.seals += 1
            yield from _check_seal(seal, previous, leaves[seal.n], public)
            previous = bytes(seal.seal_hash)
        yield from _check_sealed(sealed, tally, erased)
    yield from _check_leaves()
    yield from _check_unsealed(now, tally, erased)
    yield from (Problem(where=where, what=what) for where, what in purged.check())
    yield from _check_checkpoints()


def is_long() -> bool:
    """Whether a verification takes longer than somebody waits, or than a task may run."""
    return AuditLeaf.objects.order_by()[: AT_ONCE + 1].count() > AT_ONCE


def verify_and_record(tally: Tally, most: int = 100) -> list[Problem]:
    """Verify, and put on the trail that it was done and what came of it. At most ``most`` problems."""
    problems = list(islice(verify(timezone.now(), tally), most))
    facts = {**asdict(tally), "problems": [f"{p.where}: {p.what}" for p in problems[:10]]}
    with transaction.atomic():
        record(TrailEvent.VERIFIED, outcome=Outcome.FAILURE if problems else Outcome.SUCCESS, facts=facts)
    return problems


def _batches() -> Iterator[list[AuditSeal]]:
    """Seals in order, as many as hold about _ROWS_AT_ONCE events together."""
    last = _BELOW_ALL
    while seals := list(AuditSeal.objects.filter(n__gt=last).order_by("n")[:_SEALS_AT_ONCE]):
        while seals:
            taken = _few(seals)
            yield seals[:taken]
            last = seals[taken - 1].n
            seals = seals[taken:]


def _few(seals: Sequence[AuditSeal]) -> int:
    sizes = list(accumulate(seal.size for seal in seals))
    return max(1, sum(1 for size in sizes if size <= _ROWS_AT_ONCE))


def _by_seal(sealed: Sequence[rows.Row]) -> Mapping[int, list[_Leaf]]:
    grouped: defaultdict[int, list[_Leaf]] = defaultdict(list)
    for seal_n, position, _pk, row_hash, *_row in sealed:
        grouped[seal_n].append((position, bytes(row_hash)))
    return grouped


def _check_seal(
    seal: AuditSeal, previous: bytes, leaves: Sequence[_Leaf], public: Mapping[str, Ed25519PublicKey]
) -> Iterator[Problem]:
    where = f"seal {seal.n}"
    if bytes(seal.previous_hash) != previous:
        yield Problem(where=where, what="does not follow the seal before it: one was taken out or put in")
    yield from (Problem(where=where, what=what) for what in problems_of_seal(seal, leaves, public))


def _check_leaves() -> Iterator[Problem]:
    """A leaf under no seal would keep its event from ever being looked at."""
    under_a_seal = Exists(AuditSeal.objects.filter(n=OuterRef("seal_n")))
    for leaf in AuditLeaf.objects.filter(~under_a_seal).order_by("pk").iterator():
        yield Problem(where=f"event {leaf.pk}", what=f"its leaf was put in: there is no seal {leaf.seal_n}")


def _check_sealed(sealed: Sequence[rows.Row], tally: Tally, erased: Container[str]) -> Iterator[Problem]:
    """Every event against its leaf; what is gone has to be purged, what is kept beside it has to be its own."""
    there = [leaf[_LEAF:] for leaf in sealed if leaf[_LEAF] is not None]
    gone = [leaf[2] for leaf in sealed if leaf[_LEAF] is None]
    tally.events += len(there)
    details, unlawful = _details(there, tally, erased), purged.unlawful(gone)
    tally.purged += len(gone) - len(unlawful)
    for _n, _position, event_pk, row_hash, *row in sealed:
        if row[rows.PK] is None:
            if event_pk in unlawful:
                yield Problem(where=f"event {event_pk}", what=unlawful[event_pk])
            continue
        yield from _check_row(row, details)
        if row[rows.ROW_HASH] != row_hash:
            yield Problem(where=f"event {event_pk}", what="is not the event that was sealed in this place")


def _check_row(row: Sequence[Any], details: Mapping[int, str]) -> Iterator[Problem]:
    """The row against itself, and its erasable details against the row."""
    if what := rows.problem(row):
        yield Problem(where=f"event {row[rows.PK]}", what=what)
    if what := details.get(row[rows.PK], ""):
        yield Problem(where=f"event {row[rows.PK]}", what=what)


def _details(found: Sequence[rows.Row], tally: Tally, erased: Container[str]) -> dict[int, str]:
    """What is wrong with the erasable details of these rows, by key. Gone is in order when the trail says so."""
    asked = {row[rows.PK]: row for row in found if row[rows.DIGEST] is not None}
    pks, wrong, gone = list(asked), {}, dict(asked)
    for start in range(0, len(pks), _IN_ONE_QUERY):
        for payload in AuditPayload.objects.filter(pk__in=pks[start : start + _IN_ONE_QUERY]):
            row = gone.pop(payload.pk)
            if not payloads.is_as_recorded(payload, bytes(row[rows.NONCE]), bytes(row[rows.DIGEST])):
                wrong[payload.pk] = "its details were changed, or were encrypted with another key"
    unlawful = [pk for pk, row in gone.items() if str(row[rows.EVENT_ID]) not in erased]
    tally.erased += len(gone) - len(unlawful)
    return wrong | dict.fromkeys(unlawful, "its details are gone, but the trail tells of no erasing")


def _check_unsealed(now: datetime, tally: Tally, erased: Container[str]) -> Iterator[Problem]:
    last = _BELOW_ALL
    while waiting := list(rows.of_waiting(last, _IN_ONE_QUERY)):
        tally.events += len(waiting)
        details = _details(waiting, tally, erased)
        for row in waiting:
            yield from _check_row(row, details)
            yield from _check_waiting(row, now)
        last = waiting[-1][rows.PK]


def _check_waiting(row: rows.Row, now: datetime) -> Iterator[Problem]:
    """What no seal covers yet: whether we recorded it, and how long it waits."""
    where, row_hash = f"event {row[rows.PK]}", bytes(row[rows.ROW_HASH])
    mac, version = row[-2:]
    if not hmac.compare_digest(bytes(mac), row_mac(row_hash, settings.AUDIT_KEY.encode())):
        yield Problem(where=where, what="was not recorded by this installation: its MAC is wrong")
    if version != proof.ROW_VERSION:
        yield Problem(where=where, what=f"has the unknown version {version}")
    if _has_waited_too_long(row[rows.AT], now):
        yield Problem(where=where, what="has waited for a seal for too long: put in later, or the sealer stands still")


def _has_waited_too_long(at: str, now: datetime) -> bool:
    try:
        return now - datetime.fromisoformat(at) > LATEST
    except ValueError:
        return True  # no time that we wrote


def _check_checkpoints() -> Iterator[Problem]:
    """What was once written outside has to be there still, unchanged."""
    try:
        file = settings.AUDIT_CHECKPOINT_FILE.open(encoding="ascii", errors="replace")
    except FileNotFoundError:
        if AuditSeal.objects.exists():
            yield Problem(where="checkpoints", what=f"the file {settings.AUDIT_CHECKPOINT_FILE.name} is gone")
        return
    with file:
        for line in file:
            told = _read_checkpoint(line)
            if told is None:
                continue  # a line that was cut off by a crash in the middle of writing
            seal = AuditSeal.objects.filter(n=told["n"]).only("seal_hash").first()
            if seal is None:
                yield Problem(
                    where=f"checkpoint {told['n']}", what="its seal is gone: the trail was cut off or replaced"
                )
            elif bytes(seal.seal_hash).hex() != told["seal_hash"]:
                yield Problem(where=f"checkpoint {told['n']}", what="its seal is another one: the trail was replaced")


def _read_checkpoint(line: str) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except json.JSONDecodeError:
        return None
    return told if isinstance(told, dict) and {"n", "seal_hash"} <= set(told) else None
