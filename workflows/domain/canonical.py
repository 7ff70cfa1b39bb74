"""One text for one value, so that equal things have equal digests."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def canonical_json(value: Mapping[str, Any]) -> str:
    """Sorted keys, no spaces, real characters; NaN and infinities are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON, as 64 hex characters."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_of_all(values: Iterable[Mapping[str, Any]]) -> str:
    """sha256 of the canonical JSON of each, a line each; the values need not all be in memory."""
    found = hashlib.sha256()
    for value in values:
        found.update(canonical_json(value).encode() + b"\n")
    return found.hexdigest()
