"""One text for one event, and its digest.

The stored text is what is hashed, so a database that reorders keys or rewrites numbers cannot matter.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from audit import proof

_TEXT_LIMIT = 4096


def canonical_json(value: Mapping[str, Any]) -> str:
    """The text of ``value``. Floats are refused: their text is not stable."""
    _refuse_floats(value)
    return proof.canonical(value)


def row_mac(digest: bytes, key: bytes) -> bytes:
    """Binds the row to a key that the database does not hold, until a seal covers it."""
    return hmac.new(key, digest, hashlib.sha256).digest()


def storable(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Text that every database takes: NUL and lone surrogates are shown as U+FFFD, the rest is clipped.

    A foreign text must never be able to abort the record of what it did.
    """
    text = text.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise TypeError(f"{value!r}: an audit event holds no floats; use an integer or a text")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            _refuse_floats(entry)
