"""What a proof is, in nothing but Python's standard library: hashes, Merkle trees, signatures, files that hold them.

The application builds its seals with these functions, and an export's package carries this very file along, so that
whoever receives the package can check it with ``python3 verify.py PACKAGE.zip`` and nothing of ours installed. The same
program checks the evidence bundle of a request: ``python3 verify.py evidence-7.json``.

Merkle trees are those of RFC 9162 (Certificate Transparency): a leaf and a node never hash alike. Signatures are
Ed25519 (RFC 8032). A *group* is one seal with those of its events that a file holds, as one line of JSON::

    {"seal": {schema, n, sealed_at, size, root, previous, key}, "signature": hex,
     "positions": [0, 3, ...], "hashes": [hex of the other branches],
     "events": [{"canon": text, "nonce": hex, "payload": text or null}, ...]}

An *evidence bundle* is ``{"evidence": {"events": [group, ...], ...}, "manifest": {"sha256", "signature", ...}}``; the
events that waited for their seal when it was made are in groups whose ``seal`` is null.
"""

import argparse
import csv
import hashlib
import io
import itertools
import json
import sys
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROW_VERSION = 1
COLUMNS = (
    *("who", "what", "when", "why", "request_id"),
    *("outcome", "on_behalf_of", "object_type", "object_id", "object", "address", "event_id", "details"),
)
BOM = "\ufeff"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\x00", "'")


class Broken(Exception):
    """The file does not prove what it says; the message names the place."""


# Hashes


def row_hash(canon: str, nonce: bytes) -> bytes:
    """sha256 over version, nonce and text; the nonce keeps a purged row's hash from being guessed."""
    return hashlib.sha256(b"audit.v%d\n" % ROW_VERSION + nonce + canon.encode()).digest()


def payload_hash(payload: str, nonce: bytes) -> bytes:
    """What an event keeps of its erasable details."""
    return hashlib.sha256(b"audit.payload.v%d\n" % ROW_VERSION + nonce + payload.encode()).digest()


def canonical(value: Any) -> str:
    """Sorted keys, no spaces, real characters."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _up(level: Sequence[bytes]) -> list[bytes]:
    """The level above. An odd last node moves up as it is: splitting at the largest power of two comes to that."""
    paired = [_node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
    return paired + list(level[len(paired) * 2 :])


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over row hashes, in order. Of nothing: the hash of nothing."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = [leaf_hash(leaf) for leaf in leaves]
    while len(level) > 1:
        level = _up(level)
    return level[0]


def branches(leaves: Sequence[bytes], positions: Collection[int]) -> list[bytes]:
    """The fewest hashes from which, with the leaves at ``positions``, the root follows (see ``root_of_part``)."""
    level = [leaf_hash(leaf) for leaf in leaves]
    known = set(positions)
    others: list[bytes] = []
    while len(level) > 1:
        others += [level[place] for place in _siblings(known, len(level))]
        known = {place // 2 for place in known}
        level = _up(level)
    return others


def root_of_part(size: int, leaves: Mapping[int, bytes], others: Iterable[bytes]) -> bytes:
    """The root over ``size`` leaves of which some are known, by position. Raises Broken when a hash is missing."""
    waiting = iter(others)
    level = {position: leaf_hash(leaf) for position, leaf in leaves.items()}
    if not level or not all(0 <= position < size for position in level):
        raise Broken("a position lies outside its seal")
    while size > 1:
        for place in _siblings(level, size):
            level[place] = _next(waiting)
        level = {
            place // 2: _node_hash(level[place], level[place + 1]) if place + 1 < size else level[place]
            for place in level
            if place % 2 == 0
        }
        size = (size + 1) // 2
    if next(waiting, None) is not None:
        raise Broken("there are more hashes than the tree has branches")
    return level[0]


def _siblings(known: Collection[int], size: int) -> list[int]:
    """The places beside the known ones that are not known themselves, in order."""
    return sorted(place ^ 1 for place in known if place ^ 1 not in known and place ^ 1 < size)


def _next(waiting: Iterator[bytes]) -> bytes:
    try:
        return next(waiting)
    except StopIteration:
        raise Broken("hashes are missing") from None


# Signatures: verification alone, by the formulas of RFC 8032, section 6

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]


def signature_is_valid(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature (64 bytes) was made over ``message`` by the holder of ``public_key`` (32 bytes)."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    key, commitment = _point(public_key), _point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or scalar >= _L:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % _L
    left, right = _times(scalar, _BASE), _plus(commitment, _times(challenge, key))
    return (left[0] * right[2] - right[0] * left[2]) % _P == 0 and (left[1] * right[2] - right[1] * left[2]) % _P == 0


def _plus(one: _Point, other: _Point) -> _Point:
    a, b = (one[1] - one[0]) * (other[1] - other[0]) % _P, (one[1] + one[0]) * (other[1] + other[0]) % _P
    c, d = 2 * one[3] * other[3] * _D % _P, 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    total: _Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = _plus(total, point)
        point = _plus(point, point)
        scalar >>= 1
    return total


def _x_of(y: int, sign: int) -> int | None:
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    return _P - x if x & 1 != sign else x


def _point(text: bytes) -> _Point | None:
    number = int.from_bytes(text, "little")
    y = number & (2**255 - 1)
    x = _x_of(y, number >> 255)
    return None if x is None else (x, y, 1, x * y % _P)


_BASE: _Point = _point((4 * pow(5, -1, _P) % _P).to_bytes(32, "little")) or (0, 0, 0, 0)


# Files


def key_id(public_key: bytes) -> str:
    """The first 16 hex characters of the public key's SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def check_group(group: Mapping[str, Any], public_keys: Mapping[str, bytes]) -> list[dict[str, str]]:
    """The cells of a group's events, once seal, branches and texts have proved to belong together. Raises Broken."""
    seal, where = group["seal"], f"seal {group['seal']['n']}"
    if seal["key"] not in public_keys:
        raise Broken(f"{where} is signed by the unknown key {seal['key']}")
    if not signature_is_valid(public_keys[seal["key"]], canonical(seal).encode(), bytes.fromhex(group["signature"])):
        raise Broken(f"{where}: its signature is not valid")
    return check_events(group)


def check_events(group: Mapping[str, Any]) -> list[dict[str, str]]:
    """The same without the signature, for whoever checks that by itself."""
    seal, where, events = group["seal"], f"seal {group['seal']['n']}", group["events"]
    hashes = [row_hash(event["canon"], bytes.fromhex(event["nonce"])) for event in events]
    if len(hashes) != len(group["positions"]):
        raise Broken(f"{where} holds {len(hashes)} events for {len(group['positions'])} positions")
    if len(set(group["positions"])) != len(hashes):
        raise Broken(f"{where}: two events claim the same place")
    others = map(bytes.fromhex, group["hashes"])
    if root_of_part(seal["size"], dict(zip(group["positions"], hashes, strict=True)), others).hex() != seal["root"]:
        raise Broken(f"{where}: an event was changed, or is not one of its events")
    return [_proved_cells(event) for event in events]


def _proved_cells(event: Mapping[str, Any]) -> dict[str, str]:
    told, payload = json.loads(event["canon"]), event.get("payload")
    if payload is not None and payload_hash(payload, bytes.fromhex(event["nonce"])).hex() != told["payload"]:
        raise Broken(f"event {told['event_id']}: its details were changed")
    return cells(told, payload)


def cells(told: Mapping[str, Any], payload: str | None = None) -> dict[str, str]:
    """An export's columns of one event, from its canonical text and its erasable details."""
    erasable = {} if payload is None else json.loads(payload)
    return {
        "who": told["who_label"] or told["who_kind"],
        "what": told["what"],
        "when": told["at"],
        "why": told["why"],
        "request_id": told["request_id"],
        "outcome": told["outcome"],
        "on_behalf_of": told["on_behalf_of"],
        "object_type": told["target_type"],
        "object_id": told["target_id"],
        "object": told["target_label"],
        "address": told["ip"] or "",
        "event_id": told["event_id"],
        "details": canonical({**told["facts"], **erasable}),
    }


def neutral(text: str) -> str:
    """What no spreadsheet takes for a formula: one apostrophe in front (OWASP), and in front of an apostrophe too."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def original(text: str) -> str:
    """The inverse of ``neutral``."""
    return text.removeprefix("'")


def rows(file: IO[str], form: str) -> Iterator[dict[str, str]]:
    """The rows of an exported file as they were before neutralising. Open it with ``newline=""``. Raises Broken."""
    if form == "jsonl":
        for number, line in enumerate(file, 1):
            try:
                yield {name: str(value) for name, value in json.loads(line).items()}
            except (ValueError, AttributeError):
                raise Broken(f"line {number} is not an object of JSON") from None
        return
    csv.field_size_limit(2**31 - 1)
    for row in csv.DictReader(file):
        if None in row or None in row.values():
            raise Broken("a row has another number of cells than the heading")
        yield {name: original(value) for name, value in row.items()}


def check_package(package: zipfile.ZipFile) -> dict[str, Any]:
    """The manifest of an export's package, once every row has proved to be a sealed event. Raises Broken."""
    manifest: dict[str, Any] = json.loads(package.read("manifest.json"))
    public_keys = _check_manifest(manifest)
    digest = hashlib.sha256()
    with package.open(manifest["file"]) as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    if digest.hexdigest() != manifest["sha256"]:
        raise Broken(f"{manifest['file']} was changed: its SHA-256 is not that of the manifest")
    with package.open(manifest["file"]) as data, package.open("proofs.jsonl") as proofs:
        text = io.TextIOWrapper(data, encoding="utf-8-sig", newline="")
        _check_rows(rows(text, manifest["form"]), _proved(proofs, public_keys), manifest["rows"])
    return manifest


def check_evidence(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of an evidence bundle, once its content and every sealed event in it have proved. Raises Broken."""
    manifest, evidence = dict(bundle["manifest"]), bundle["evidence"]
    public_keys = _check_manifest(manifest)
    if hashlib.sha256(canonical(evidence).encode()).hexdigest() != manifest["sha256"]:
        raise Broken("the evidence was changed: its SHA-256 is not that of the manifest")
    for group in evidence["events"]:
        if group["seal"] is not None:
            check_group(group, public_keys)
    return manifest


def _check_manifest(manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The public keys that a manifest brings, by id, once it has proved to be signed by one of them. Raises Broken."""
    public_keys = {key_id(key): key for key in map(bytes.fromhex, manifest["public_keys"])}
    said = canonical({name: value for name, value in manifest.items() if name != "signature"})
    key = public_keys.get(manifest["key"], b"")
    if not signature_is_valid(key, said.encode(), bytes.fromhex(manifest["signature"])):
        raise Broken("its manifest was changed: the signature is not valid")
    return public_keys


def _proved(proofs: IO[bytes], public_keys: Mapping[str, bytes]) -> Iterator[dict[str, str]]:
    for line in proofs:
        yield from check_group(json.loads(line), public_keys)


def _check_rows(shown: Iterable[Mapping[str, str]], proved: Iterable[Mapping[str, str]], expected: int) -> None:
    count = 0
    for row, event in itertools.zip_longest(shown, proved):
        if row is None or event is None:
            raise Broken(f"after row {count}: rows and proofs are not equally many")
        count += 1
        if any(row[name] != event[name] for name in row):
            raise Broken(f"row {count} does not say what event {event['event_id']} says")
    if count != expected:
        raise Broken(f"there are {count} rows instead of {expected}")


# What a file that is not what it says may raise on the way.
_ODD = (OSError, zipfile.BadZipFile, zlib.error, csv.Error, LookupError, TypeError, ValueError, RecursionError)


def _signers(manifest: Mapping[str, Any], trusted: Collection[str]) -> str:
    """Who signed, in words. Raises Broken when keys were named and another one signed."""
    signers = sorted(key_id(bytes.fromhex(key)) for key in manifest["public_keys"])
    if not trusted:
        return f"Signed with {', '.join(signers)}: compare this with the key that you were told."
    if strange := [key for key in signers if key not in trusted]:
        raise Broken(f"it is signed with {', '.join(strange)}, which you did not name")
    return "Signed with the keys that you named."


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check an exported package or an evidence bundle against its proofs.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--key", action="append", default=[], help="a key id that you trust; may be repeated")
    options = parser.parse_args(arguments)
    try:
        manifest, proved = _check_file(options.file)
        signers = _signers(manifest, options.key)
    except (*_ODD, Broken) as error:
        sys.stdout.write(f"NOT PROVED: {error}\n")
        return 1
    sys.stdout.write(f"Proved: {proved}\n{signers}\n")
    return 0


def _check_file(path: Path) -> tuple[dict[str, Any], str]:
    """(the manifest, what has proved in words)."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as package:
            manifest = check_package(package)
        complete = "complete" if manifest["complete"] else "NOT COMPLETE"
        return manifest, f"{manifest['rows']} rows, {complete}. Search: {manifest['query']}"
    manifest = check_evidence(json.loads(path.read_bytes()))
    unsealed = f" (of them {manifest['unsealed']} not sealed yet)" if manifest["unsealed"] else ""
    counted = f"{manifest['deliveries']} deliveries, {manifest['events']} events{unsealed}"
    return manifest, f"the evidence of request {manifest['request']}, {counted}."


if __name__ == "__main__":
    raise SystemExit(main())
