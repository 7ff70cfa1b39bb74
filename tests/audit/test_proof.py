import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from audit.canonical import canonical_json
from audit.proof import (
    Broken,
    branches,
    canonical,
    check_events,
    check_group,
    key_id,
    leaf_hash,
    payload_hash,
    root,
    row_hash,
)

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


# The canonical form

# Few characters, and those that JSON itself uses, so that different values come close to the same text.
texts = st.text('{}[]":,\\01 null群\u2028') | st.text(max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=4)


def typed(value: object) -> object:
    """For Python 1 is True; for JSON it is not."""
    if isinstance(value, dict):
        return {name: typed(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [typed(entry) for entry in value]
    return type(value), value


@given(objects)
def test_the_canonical_text_reads_back_as_what_it_was_made_from(value: dict[str, Any]) -> None:
    assert typed(json.loads(canonical_json(value))) == typed(value)


@given(objects, st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        names = list(value)
        random.shuffle(names)
        return {name: shuffled(value[name]) for name in names}

    assert canonical_json(shuffled(value)) == canonical_json(value)


@given(objects, objects)
def test_different_values_have_different_texts(one: dict[str, Any], other: dict[str, Any]) -> None:
    assume(typed(one) != typed(other))
    assert canonical_json(one) != canonical_json(other)


@given(st.floats(), objects)
def test_a_float_is_refused_wherever_it_is(number: float, value: dict[str, Any]) -> None:
    for holder in (number, [number], {"deeper": [number]}):
        with pytest.raises(TypeError, match="holds no floats"):
            canonical_json({**value, "float": holder})


# Groups

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = {key_id(KEY.public_key().public_bytes_raw()): KEY.public_key().public_bytes_raw()}
TOLD = ("who_label", "who_kind", "what", "at", "why", "request_id", "outcome", "on_behalf_of", "target_type")


@st.composite
def groups(draw: st.DrawFn) -> dict[str, Any]:
    """A seal with some or all of its events, as an export or an archive holds them."""
    nonces = draw(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=12, unique=True))
    events = [event_of(nonce, draw(texts), draw(st.none() | objects)) for nonce in nonces]
    hashes = [row_hash(event["canon"], nonce) for event, nonce in zip(events, nonces, strict=True)]
    positions = draw(st.lists(st.sampled_from(range(len(events))), min_size=1, unique=True))
    seal = {
        "schema": 1,
        "n": draw(st.integers(1, 10**6)),
        "sealed_at": "2026-03-02T06:00:00.000000+00:00",
        "size": len(events),
        "root": root(hashes).hex(),
        "previous": draw(st.binary(min_size=32, max_size=32)).hex(),
        "key": next(iter(PUBLIC)),
    }
    return {
        "seal": seal,
        "signature": KEY.sign(canonical(seal).encode()).hex(),
        "positions": positions,
        "hashes": [branch.hex() for branch in branches(hashes, positions)],
        "events": [events[position] for position in positions],
    }


def event_of(nonce: bytes, why: str, details: dict[str, Any] | None) -> dict[str, Any]:
    payload = None if details is None else canonical_json(details)
    told = dict.fromkeys((*TOLD, "target_id", "target_label", "ip", "event_id"), "x") | {"why": why, "facts": {}}
    digest = None if payload is None else payload_hash(payload, nonce).hex()
    return {"canon": canonical_json({**told, "payload": digest}), "nonce": nonce.hex(), "payload": payload}


def another_character(data: st.DataObject, text: str, alphabet: str) -> str:
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.sampled_from([other for other in alphabet if other != text[place]]))
    return text[:place] + character + text[place + 1 :]


def tampered_event(data: st.DataObject, group: dict[str, Any], name: str, alphabet: str) -> None:
    event = data.draw(st.sampled_from(group["events"]))
    assume(event[name])
    event[name] = another_character(data, event[name], alphabet)


def tampered_text(data: st.DataObject, group: dict[str, Any]) -> None:
    tampered_event(data, group, "canon", '{}":,ax01 ')


def tampered_nonce(data: st.DataObject, group: dict[str, Any]) -> None:
    tampered_event(data, group, "nonce", "0123456789abcdef")


def tampered_details(data: st.DataObject, group: dict[str, Any]) -> None:
    tampered_event(data, group, "payload", '{}":,ax01 ')


def swapped_events(data: st.DataObject, group: dict[str, Any]) -> None:
    events = group["events"]
    assume(len(events) > 1)
    one, other = data.draw(st.lists(st.sampled_from(range(len(events))), min_size=2, max_size=2, unique=True))
    events[one], events[other] = events[other], events[one]


def deleted_event(data: st.DataObject, group: dict[str, Any]) -> None:
    """With its place, as if the file had never held it."""
    place = data.draw(st.integers(0, len(group["events"]) - 1))
    del group["events"][place], group["positions"][place]


def doubled_event(data: st.DataObject, group: dict[str, Any]) -> None:
    place = data.draw(st.integers(0, len(group["events"]) - 1))
    group["events"].append(group["events"][place])
    group["positions"].append(data.draw(st.integers(-1, group["seal"]["size"])))


def moved_event(data: st.DataObject, group: dict[str, Any]) -> None:
    place = data.draw(st.integers(0, len(group["positions"]) - 1))
    elsewhere = data.draw(st.integers(-1, group["seal"]["size"]))
    assume(elsewhere != group["positions"][place])
    group["positions"][place] = elsewhere


def deleted_branch(data: st.DataObject, group: dict[str, Any]) -> None:
    assume(group["hashes"])
    del group["hashes"][data.draw(st.integers(0, len(group["hashes"]) - 1))]


def added_branch(data: st.DataObject, group: dict[str, Any]) -> None:
    group["hashes"].insert(
        data.draw(st.integers(0, len(group["hashes"]))), data.draw(st.binary(min_size=32, max_size=32)).hex()
    )


WITHOUT_A_KEY = (
    *(tampered_text, tampered_nonce, tampered_details, swapped_events, deleted_event, doubled_event, moved_event),
    *(deleted_branch, added_branch),
)


@given(groups())
def test_a_group_as_it_was_sealed_proves(group: dict[str, Any]) -> None:
    assert [cells["event_id"] for cells in check_group(group, PUBLIC)] == ["x"] * len(group["events"])


@pytest.mark.parametrize("tamper", WITHOUT_A_KEY)
@given(group=groups(), data=st.data())
def test_whatever_is_done_to_the_events_is_found_out(tamper: Any, group: dict[str, Any], data: st.DataObject) -> None:
    tamper(data, group)
    with pytest.raises(Broken):
        check_events(group)


@given(
    group=groups(),
    name=st.sampled_from(["schema", "n", "sealed_at", "size", "root", "previous", "key"]),
    data=st.data(),
)
def test_whatever_a_seal_is_made_to_say_is_found_out(group: dict[str, Any], name: str, data: st.DataObject) -> None:
    said = group["seal"][name]
    if isinstance(said, int):
        changed: object = data.draw(st.integers().filter(lambda number: number != said))
    else:
        changed = another_character(data, said, "0123456789abcdef:+")
    group["seal"][name] = changed
    with pytest.raises(Broken):
        check_group(group, PUBLIC)


@given(group=groups(), data=st.data())
def test_a_changed_signature_is_found_out(group: dict[str, Any], data: st.DataObject) -> None:
    group["signature"] = another_character(data, group["signature"], "0123456789abcdef")
    with pytest.raises(Broken, match="its signature is not valid"):
        check_group(group, PUBLIC)
