"""Proof that nothing was changed, put in, taken out, reordered or cut off: seals, events, checkpoints."""

import hmac
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from audit import keys, proof
from audit.canonical import row_mac
from audit.models import AuditEvent, AuditLeaf, AuditSeal
from audit.recorder import Outcome, record
from audit.sealing import NO_HASH, statement
from audit.vocabulary import TrailEvent

_SEALS_AT_ONCE = 200
# A seal is at most this far behind; an event that waits longer was put in behind the sealer's back, or it stands still.
LATEST = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """``where`` names the row: "event 17", "seal 3", "checkpoint 3"."""

    where: str
    what: str


@dataclass(slots=True)
class Tally:
    """What a verification has looked at."""

    events: int = 0
    seals: int = 0


def verify(now: datetime, tally: Tally) -> Iterator[Problem]:
    """Every problem there is, in the order of the seals; the sealed part first. Memory is constant.

    The public keys come from the secret store and the checkpoints from their file: neither is the database's to change.
    """
    public = keys.public_keys()
    previous = NO_HASH
    for seals in _batches():
        leaves = _leaves(seals)
        events = _events([leaf.event_pk for group in leaves.values() for leaf in group])
        for seal in seals:
            tally.seals += 1
            yield from _check_seal(seal, previous, leaves[seal.n], public)
            for leaf in leaves[seal.n]:
                tally.events += 1
                yield from _check_sealed(leaf, events.get(leaf.event_pk))
            previous = bytes(seal.seal_hash)
    yield from _check_unsealed(now, tally)
    yield from _check_checkpoints()


def verify_and_record(tally: Tally, most: int = 100) -> list[Problem]:
    """Verify, and put on the trail that it was done and what came of it. At most ``most`` problems."""
    problems = list(islice(verify(timezone.now(), tally), most))
    facts = {"events": tally.events, "seals": tally.seals, "problems": [f"{p.where}: {p.what}" for p in problems[:10]]}
    with transaction.atomic():
        record(TrailEvent.VERIFIED, outcome=Outcome.FAILURE if problems else Outcome.SUCCESS, facts=facts)
    return problems


def _batches() -> Iterator[list[AuditSeal]]:
    last = 0
    while seals := list(AuditSeal.objects.filter(n__gt=last).order_by("n")[:_SEALS_AT_ONCE]):
        yield seals
        last = seals[-1].n


def _leaves(seals: Sequence[AuditSeal]) -> Mapping[int, list[AuditLeaf]]:
    grouped: defaultdict[int, list[AuditLeaf]] = defaultdict(list)
    rows = AuditLeaf.objects.filter(seal_n__gte=seals[0].n, seal_n__lte=seals[-1].n)
    for leaf in rows.order_by("seal_n", "position"):
        grouped[leaf.seal_n].append(leaf)
    return grouped


def _events(pks: Sequence[int]) -> dict[int, AuditEvent]:
    found: dict[int, AuditEvent] = {}
    for start in range(0, len(pks), 500):
        found |= AuditEvent.objects.in_bulk(pks[start : start + 500])
    return found


def _check_seal(
    seal: AuditSeal, previous: bytes, leaves: Sequence[AuditLeaf], public: Mapping[str, Ed25519PublicKey]
) -> Iterator[Problem]:
    where = f"seal {seal.n}"
    said = statement(seal)
    if bytes(seal.previous_hash) != previous:
        yield Problem(where=where, what="does not follow the seal before it: one was taken out or put in")
    if bytes(seal.seal_hash) != proof.leaf_hash(said):
        yield Problem(where=where, what="was changed: its hash is not that of what it says")
    if [leaf.position for leaf in leaves] != list(range(seal.size)):
        yield Problem(where=where, what=f"holds {len(leaves)} leaves instead of {seal.size}")
    elif proof.root([bytes(leaf.row_hash) for leaf in leaves]) != bytes(seal.root):
        yield Problem(where=where, what="its leaves were changed: they do not lead to its root")
    if seal.key_id not in public:
        yield Problem(where=where, what=f"is signed by the unknown key {seal.key_id}")
        return
    try:
        public[seal.key_id].verify(bytes(seal.signature), said)
    except InvalidSignature:
        yield Problem(where=where, what="its signature is not valid")


def _check_sealed(leaf: AuditLeaf, event: AuditEvent | None) -> Iterator[Problem]:
    where = f"event {leaf.event_pk}"
    if event is None:
        yield Problem(where=where, what="was taken out after it was sealed")
        return
    yield from _check_event(event)
    if bytes(event.row_hash) != bytes(leaf.row_hash):
        yield Problem(where=where, what="is not the event that was sealed in this place")


def _check_event(event: AuditEvent) -> Iterator[Problem]:
    """The row against itself: every column against the text, the text against its hash."""
    where = f"event {event.pk}"
    if proof.row_hash(event.canon, bytes(event.nonce)) != bytes(event.row_hash):
        yield Problem(where=where, what="its text was changed")
        return
    if differing := _differing_columns(event):
        yield Problem(where=where, what=f"was changed in {', '.join(differing)}")


def _differing_columns(event: AuditEvent) -> list[str]:
    told: dict[str, Any] = json.loads(event.canon)
    told.pop("facts")
    digest = told.pop("payload")
    shown = {name: getattr(event, name) for name in told}
    shown["at"] = event.at.astimezone(UTC).isoformat(timespec="microseconds")
    for name in ("event_id", "request_id", "parent_event_id"):
        shown[name] = None if shown[name] is None else str(shown[name])
    differing = [name for name, value in told.items() if shown[name] != value]
    if (None if event.payload_digest is None else bytes(event.payload_digest).hex()) != digest:
        differing.append("payload_digest")
    return differing


def _check_unsealed(now: datetime, tally: Tally) -> Iterator[Problem]:
    key = settings.AUDIT_KEY.encode()
    sealed = AuditLeaf.objects.filter(event_pk=OuterRef("pk"))
    for event in AuditEvent.objects.filter(~Exists(sealed)).order_by("pk").iterator(chunk_size=2000):
        tally.events += 1
        where = f"event {event.pk}"
        yield from _check_event(event)
        if not hmac.compare_digest(bytes(event.row_mac), row_mac(bytes(event.row_hash), key)):
            yield Problem(where=where, what="was not recorded by this installation: its MAC is wrong")
        if event.schema_v != proof.ROW_VERSION:
            yield Problem(where=where, what=f"has the unknown version {event.schema_v}")
        if now - event.at > LATEST:
            yield Problem(
                where=where, what="has waited for a seal for too long: put in later, or the sealer stands still"
            )


def _check_checkpoints() -> Iterator[Problem]:
    """What was once written outside has to be there still, unchanged."""
    try:
        file = settings.AUDIT_CHECKPOINT_FILE.open(encoding="ascii")
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
