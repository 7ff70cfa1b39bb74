import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.proof import Broken, check_events, leaf_hash, root, row_hash

rows = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, as it is written there."""
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


@given(rows)
def test_the_root_is_that_of_the_rfc(leaves: list[bytes]) -> None:
    assert root(leaves) == by_definition(leaves)


@given(rows, st.data())
def test_any_change_of_any_leaf_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves]
    changed[place] = bytes([changed[place][0] ^ 1]) + changed[place][1:]
    assert root(changed) != root(leaves)


def test_a_node_cannot_pose_as_a_leaf() -> None:
    left, right = b"l" * 32, b"r" * 32
    assert root([leaf_hash(left) + leaf_hash(right)]) != root([left, right])


def test_of_nothing_the_root_is_the_hash_of_nothing() -> None:
    assert root([]) == hashlib.sha256(b"").digest()


def test_two_events_cannot_claim_one_place() -> None:
    """The second would prove, and the first would pass unseen beside it."""
    events = [{"canon": canon, "nonce": "00" * 16} for canon in ('{"forged":1}', '{"genuine":1}')]
    genuine = row_hash(events[1]["canon"], bytes(16))
    seal = {"n": 1, "size": 1, "root": root([genuine]).hex()}
    with pytest.raises(Broken, match="two events claim the same place"):
        check_events({"seal": seal, "positions": [0, 0], "hashes": [], "events": events})
