"""The digest's contract, ``docs/contracts/digest.v1.json``: checked before a digest is kept or shown."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match

SCHEMA_PATH = Path(__file__).parents[2] / "docs" / "contracts" / "digest.v1.json"

# jsonschema checks these two only with further packages, and silently not at all without them.
_formats = FormatChecker(formats=())
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
_URI = re.compile(r"https?://[!#-;=?-\[\]_a-z~]+", re.ASCII)


class ContractError(ValueError):
    """The digest breaks its contract; the message names the place (``$.entries[0].url``) and the reason."""


def validate(digest: Mapping[str, Any]) -> None:
    """Raise ContractError unless the digest follows the schema and its numbers agree.

    Beyond the schema: no floating-point numbers, ranks count from 1, each score is the sum of its reasons.
    """
    for path, value in _walk(digest, "$"):
        if isinstance(value, float):
            raise ContractError(f"{path}: {value!r} is not a whole number")
    error = best_match(_validator().iter_errors(digest))
    if error is not None:
        raise ContractError(f"{error.json_path}: {error.message[:300]}")
    for index, entry in enumerate(digest["entries"]):
        if entry["rank"] != index + 1:
            raise ContractError(f"$.entries[{index}].rank: is {entry['rank']}, expected {index + 1}")
        total = sum(reason["points"] for reason in entry["rationale"])
        if entry["score"] != total:
            raise ContractError(f"$.entries[{index}].score: is {entry['score']}, its reasons give {total}")


@cache
def _validator() -> Draft202012Validator:
    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=_formats)


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{index}]")


@_formats.checks("date-time", raises=ValueError)
def _is_instant(value: object) -> bool:
    """RFC 3339 in UTC, spelled with Z."""
    if not isinstance(value, str):
        return True
    return bool(_INSTANT.fullmatch(value)) and datetime.fromisoformat(value) is not None


@_formats.checks("uri", raises=ValueError)
def _is_uri(value: object) -> bool:
    """An http or https URL of RFC 3986 characters with a host."""
    if not isinstance(value, str):
        return True
    return bool(_URI.fullmatch(value)) and bool(urlsplit(value).hostname)
