"""What proves events to somebody who does not trust us, in the forms that ``audit.proof`` describes and checks."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from audit import keys, proof, sealing
from audit.models import AuditEvent, AuditLeaf, AuditSeal


class Place(NamedTuple):
    """Where an event stands: the number of its seal, and its position under it, from 0."""

    seal_n: int
    position: int

    @property
    def number(self) -> int:
        """The position as people count."""
        return self.position + 1


def places(pks: Sequence[int]) -> dict[int, Place]:
    """By key, where these events stand. What waits for its seal is not in it."""
    leaves = AuditLeaf.objects.filter(event_pk__in=pks).values_list("event_pk", "seal_n", "position")
    return {pk: Place(seal_n, position) for pk, seal_n, position in leaves}


def seals(found: Mapping[int, Place]) -> list[AuditSeal]:
    """The seals over these places, newest first."""
    return list(AuditSeal.objects.filter(n__in={place.seal_n for place in found.values()}).order_by("-n"))


def text(event: AuditEvent, payload: str | None = None) -> dict[str, Any]:
    """An event as a group holds it; ``payload``: its erasable details, where the file is to hold them."""
    return {"canon": event.canon, "nonce": bytes(event.nonce).hex(), "payload": payload}


def groups(found: Mapping[int, Place], texts: Mapping[int, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events at these places by their seals, newest seal and place first."""
    under: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for pk, place in found.items():
        under[place.seal_n][place.position] = pk
    for seal in seals(found):
        leaves = AuditLeaf.objects.filter(seal_n=seal.n).order_by("position")
        hashes = [bytes(row_hash) for row_hash in leaves.values_list("row_hash", flat=True)]
        positions = sorted(under[seal.n], reverse=True)
        yield {
            "seal": json.loads(sealing.statement(seal)),
            "signature": bytes(seal.signature).hex(),
            "positions": positions,
            "hashes": [branch.hex() for branch in proof.branches(hashes, positions)],
            "events": [texts[under[seal.n][position]] for position in positions],
        }


def groups_of(events: Sequence[AuditEvent]) -> list[dict[str, Any]]:
    """The groups of these events, without their erasable details. What waits for its seal is in one without a seal."""
    found = places([event.pk for event in events])
    waiting = [text(event) for event in events if event.pk not in found]
    sealed = groups(found, {event.pk: text(event) for event in events})
    return [*sealed, *([{"seal": None, "events": waiting}] if waiting else [])]


def signed(said: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with the keys that its file is checked by, and the signature of the one in use."""
    key = keys.signing_key()
    public = [every.public_bytes_raw().hex() for every in keys.public_keys().values()]
    told = {**said, "public_keys": public, "key": keys.key_id(key.public_key())}
    return {**told, "signature": key.sign(proof.canonical(told).encode()).hex()}
