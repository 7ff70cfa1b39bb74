"""Which policy is in force, on the trail whenever it is another one than before."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from django.db import transaction

from audit import context, queries
from audit.recorder import record
from compliance_bot.guardrails import policy
from workflows.domain.canonical import digest
from workflows.domain.events import Event


def note_policy() -> None:
    """Record the policy in force, and what changed, unless the trail knows it already.

    Two processes that start at the same instant may both record it: the same fact twice.
    """
    values = dict(_flat(asdict(policy.current())))
    sha256 = digest(values)
    with transaction.atomic(), context.system_acting():
        before = queries.newest(Event.POLICY_LOADED) or {}
        if before.get("sha256") != sha256:
            facts = {"sha256": sha256, "changes": _changes(before.get("values"), values), "values": values}
            record(Event.POLICY_LOADED, facts=facts)


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every value as text, by its dotted key."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, tuple):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", str(value)


def _changes(before: Mapping[str, str] | None, values: Mapping[str, str]) -> dict[str, list[str | None]]:
    """Dotted key: [old, new]. None stands for a key that was not there; nothing known before is no change."""
    if before is None:
        return {}
    keys = sorted({*before, *values})
    return {key: [before.get(key), values.get(key)] for key in keys if before.get(key) != values.get(key)}
