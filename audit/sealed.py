"""Whether a seal is what was signed, and what it says about events.

The public keys come from the secret store: whoever owns the database alone can change seals and leaves, not sign them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit import keys, proof
from audit.models import AuditLeaf, AuditSeal
from audit.sealing import statement

Leaf = tuple[int, bytes]  # position, row_hash

_SEALS_AT_ONCE = 20
# Numbers of seals that are remembered as proved. Neighbouring rows lie under neighbouring seals.
_REMEMBERED = 10_000


def problems_of_seal(seal: AuditSeal, leaves: Sequence[Leaf], public: Mapping[str, Ed25519PublicKey]) -> Iterator[str]:
    """What is wrong with one seal and its leaves, whatever stands before it."""
    said = statement(seal)
    if bytes(seal.seal_hash) != proof.leaf_hash(said):
        yield "was changed: its hash is not that of what it says"
    if [position for position, _hash in leaves] != list(range(seal.size)):
        yield f"holds {len(leaves)} leaves instead of {seal.size}"
    elif proof.root([row_hash for _position, row_hash in leaves]) != bytes(seal.root):
        yield "its leaves were changed: they do not lead to its root"
    if seal.key_id not in public:
        yield f"is signed by the unknown key {seal.key_id}"
        return
    try:
        public[seal.key_id].verify(bytes(seal.signature), said)
    except InvalidSignature:
        yield "its signature is not valid"


class Seals:
    """Looks events up under their seals, and proves each seal when it is first met."""

    def __init__(self) -> None:
        self._public = keys.public_keys()
        self._proved: dict[int, None] = {}

    def hashes_of(self, event_pks: Collection[int]) -> dict[int, bytes]:
        """The row hash under a seal of each of these events; nothing for what no seal covers yet. Raises Broken."""
        leaves = list(AuditLeaf.objects.filter(event_pk__in=event_pks).values_list("event_pk", "seal_n", "row_hash"))
        self._prove({seal_n for _pk, seal_n, _hash in leaves})
        return {pk: bytes(row_hash) for pk, _seal_n, row_hash in leaves}

    def _prove(self, numbers: Collection[int]) -> None:
        unknown = sorted(n for n in numbers if n not in self._proved)
        for start in range(0, len(unknown), _SEALS_AT_ONCE):
            self._prove_some(unknown[start : start + _SEALS_AT_ONCE])
        for n in list(self._proved)[:-_REMEMBERED]:
            del self._proved[n]

    def _prove_some(self, numbers: Sequence[int]) -> None:
        seals = AuditSeal.objects.in_bulk(numbers)
        leaves = _leaves(numbers)
        for n in numbers:
            if n not in seals:
                raise proof.Broken(f"seal {n} is gone")
            for what in problems_of_seal(seals[n], leaves[n], self._public):
                raise proof.Broken(f"seal {n}: {what}")
            self._proved[n] = None


def _leaves(seals: Sequence[int]) -> Mapping[int, list[Leaf]]:
    found: defaultdict[int, list[Leaf]] = defaultdict(list)
    rows = AuditLeaf.objects.filter(seal_n__in=seals).order_by("seal_n", "position")
    for seal_n, position, row_hash in rows.values_list("seal_n", "position", "row_hash"):
        found[seal_n].append((position, bytes(row_hash)))
    return found
