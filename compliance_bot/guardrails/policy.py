"""The security policy file, read into one typed, frozen object.

Unknown keys are refused by name, missing keys take the defaults below. ``load`` is pure apart from reading the file;
``current`` is the policy this process runs under.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import time
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import yaml
from django.conf import settings
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from compliance_bot.guardrails.business_hours import BusinessHours

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_BYTES = 64 * 1024
# Actions that wait for a second person whatever a policy lists: with them everything else could be undone.
_ALWAYS_APPROVED = frozenset({"policy_change", "rollback", "standing_approval"})
_WALL_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_SCHEMA = json.loads((Path(__file__).parent / "policy.schema.json").read_text(encoding="utf-8"))
_formats = FormatChecker(formats=())


@_formats.checks("ip-network", raises=ValueError)
def _is_network(value: object) -> bool:
    return not isinstance(value, str) or bool(ipaddress.ip_network(value))


@_formats.checks("wall-time")
def _is_wall_time(value: object) -> bool:
    """Not left to the type: YAML reads 18:00 without quotes as the number 1080."""
    return isinstance(value, str) and _WALL_TIME.fullmatch(value) is not None


@_formats.checks("time-zone")
def _is_time_zone(value: object) -> bool:
    return isinstance(value, str) and value in available_timezones()


_FORMATS = {
    "ip-network": "a network such as 203.0.113.0/24 (host bits must be 0)",
    "wall-time": 'a time of day in quotes, such as "18:00"',
    "time-zone": "the name of a time zone, such as Asia/Shanghai",
}


class PolicyError(Exception):
    """The policy cannot be used; the message names the key, what is wrong, and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    store: str = "kms_or_vault"
    rotate_days: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRules:
    allowlist_ips: tuple[Network, ...] = (ipaddress.ip_network("203.0.113.0/24"),)
    deny_public_admin: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one action is approved.

    ``threshold``: rows from which approval is needed; None stands for never. A size that is not known counts as large.
    """

    threshold: int | None = None
    quorum: int = 1
    group: str = ""
    expires_after_hours: int = 24
    delay_minutes: int = 0
    business_hours_only: bool = False
    second_approval_above: int | None = None
    reason_to_approve: bool = False
    remind_before_minutes: int = 120
    escalate_to: str = ""


_DEFAULT_RULES: Mapping[str, Rule] = {
    "mass_send": Rule(),
    "bulk_delete": Rule(threshold=10),
    "permission_change": Rule(),
    "workflow_change": Rule(),
    "secret_reveal_or_replace": Rule(),
    "audit_export": Rule(),
    "policy_change": Rule(),
    "rollback": Rule(),
    "standing_approval": Rule(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """``rules`` holds one for every action, whether the file names it or not."""

    require_approval_for: tuple[str, ...] = ("mass_send", "bulk_delete", "permission_change")
    rate_limit_per_minute: int = 120
    mass_send_min_recipients: int = 20
    rules: Mapping[str, Rule] = field(default_factory=lambda: _DEFAULT_RULES)
    business_hours: BusinessHours = field(default_factory=BusinessHours)

    def needs_approval(self, action: str) -> bool:
        return action in _ALWAYS_APPROVED or action in self.require_approval_for

    def rule(self, action: str) -> Rule:
        return self.rules[action]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """``retention_days``: how long events stay in the searchable table; ``archive_days``: and then in the archive."""

    retention_days: int = 30
    archive_days: int = 184
    retention_days_by_class: Mapping[str, int] = field(default_factory=dict)
    fields: tuple[str, ...] = ("who", "what", "when", "why", "request_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many days finished rows are kept that the trail tells of anyway."""

    runs: int = 90
    items: int = 90
    deliveries: int = 184
    queue: int = 7
    exports: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    secrets: Secrets = field(default_factory=Secrets)
    network: NetworkRules = field(default_factory=NetworkRules)
    actions: Actions = field(default_factory=Actions)
    audit: Audit = field(default_factory=Audit)
    retention: Retention = field(default_factory=Retention)


def load(path: Path) -> Policy:
    """Read and validate a policy file. Raises PolicyError."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read ({error.strerror}). Set POLICY_FILE to a readable file.") from error
    if len(text) > _MAX_BYTES:
        raise PolicyError(f"{path}: larger than {_MAX_BYTES} bytes; this is not a policy file.")
    try:
        return parse(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from error


def parse(text: str) -> Policy:
    """Parse a policy from YAML text. Raises PolicyError."""
    try:
        document = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader that also refuses duplicates
    except yaml.YAMLError as error:
        raise PolicyError(f"not valid YAML: {' '.join(str(error).split())}") from error
    problems = sorted(
        Draft202012Validator(_SCHEMA, format_checker=_formats).iter_errors(document),
        key=lambda e: list(map(str, e.path)),
    )
    if problems:
        raise PolicyError("; ".join(_describe(problem) for problem in problems[:5]))
    return _build(document["security"])


def _build(document: dict[str, Any]) -> Policy:
    network = dict(document.get("network", {}))
    if "allowlist_ips" in network:
        network["allowlist_ips"] = tuple(ipaddress.ip_network(text) for text in network["allowlist_ips"])
    return Policy(
        secrets=Secrets(**document.get("secrets", {})),
        network=NetworkRules(**network),
        actions=_build_actions(document.get("actions", {})),
        audit=Audit(**_tuples(document.get("audit", {}))),
        retention=Retention(**document.get("retention", {})),
    )


def _build_actions(section: dict[str, Any]) -> Actions:
    given = section.get("rules", {})
    rules = {action: replace(rule, **given.get(action, {})) for action, rule in _DEFAULT_RULES.items()}
    hours = _build_business_hours(section.get("business_hours", {}))
    return Actions(**{**_tuples(section), "rules": rules, "business_hours": hours})


_HOURS: Mapping[str, Callable[[Any], Any]] = {
    "start": time.fromisoformat,
    "end": time.fromisoformat,
    "weekdays": tuple,
    "time_zone": ZoneInfo,
}


def _build_business_hours(section: dict[str, Any]) -> BusinessHours:
    hours = BusinessHours(**{key: _HOURS[key](value) for key, value in section.items()})
    if hours.end <= hours.start:
        raise PolicyError(f"security.actions.business_hours.end: {hours.end:%H:%M} is not after {hours.start:%H:%M}")
    return hours


def _tuples(section: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}


def _describe(problem: ValidationError) -> str:
    """A sentence that starts with the key's dotted name."""
    path = ".".join(str(step) for step in problem.path)
    if problem.validator == "additionalProperties":
        assert isinstance(problem.schema, dict)  # noqa: S101 - the keyword implies it
        assert isinstance(problem.instance, dict)  # noqa: S101
        known = problem.schema["properties"]
        unknown = sorted(str(key) for key in problem.instance if key not in known)
        name = f"{path}.{unknown[0]}" if path else unknown[0]
        return f"{name}: unknown key (known here: {', '.join(known)})"
    if problem.validator == "format":
        return f"{path}: {problem.instance!r} is not {_FORMATS[str(problem.validator_value)]}"
    if problem.validator == "not":
        return f"{path}: this action has none (a mass send's is actions.mass_send_min_recipients)"
    return f"{path or 'policy'}: {problem.message}"


class _StrictLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; a security policy must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key}: given twice", node.start_mark)
        return super().construct_mapping(node, deep)


@cache
def current() -> Policy:
    """The policy in force in this process, read once at start."""
    return load(settings.POLICY_FILE)
