"""The security policy, read into one typed, frozen object.

Unknown keys are refused by name, missing keys take the defaults below. ``load`` is pure apart from reading the file;
``current`` is the policy in force: what the file says, seen through what the database holds against it (``overlay``).
A policy also exists as plain values by dotted key, such as ``{"actions.rate_limit_per_minute": 120}``.
"""

import ipaddress
import json
import logging
import os
import re
import time as clock
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from datetime import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import yaml
from django.conf import settings
from jsonschema import Draft202012Validator, FormatChecker, validators
from jsonschema.exceptions import ValidationError

from compliance_bot.guardrails.business_hours import BusinessHours

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Values = Mapping[str, Any]
"""JSON values by dotted key."""

# How long a process goes on with the policy it knows before it looks again.
REFRESH_SECONDS = 3.0

logger = logging.getLogger(__name__)

_MAX_BYTES = 64 * 1024
# Actions that wait for a second person whatever a policy lists: with them everything else could be undone.
_ALWAYS_APPROVED = frozenset({"policy_change", "rollback", "standing_approval"})
_WALL_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_SCHEMA = json.loads((Path(__file__).parent / "policy.schema.json").read_text(encoding="utf-8"))
# To JSON Schema 5.0 is an integer; here it is a typing slip.
_Validator = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)
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
    cards_may_decide: bool = False
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
_NO_THRESHOLD = frozenset(
    f"actions.rules.{action}.threshold" for action in _DEFAULT_RULES if action not in {"bulk_delete", "audit_export"}
)


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
    return _from_document(read(text))


def read(text: str) -> Any:
    """A value from YAML text, be it of one key or the whole policy. Raises PolicyError."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader that refuses more
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        raise PolicyError(f"not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise PolicyError("not valid YAML: nested too deeply") from error


def from_values(values: Values) -> Policy:
    """The policy that these values make; what is left out takes its default. Raises PolicyError."""
    document: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        section = document
        for step in sections:
            section = section.setdefault(step, {})
        section[name] = value
    return _from_document({"security": document})


def values_of(policy: Policy) -> dict[str, Any]:
    """Every value, given or default, except thresholds of actions that have none."""
    return {key: value for key, value in _flat(asdict(policy), "") if key not in _NO_THRESHOLD}


def _flat(section: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: Any) -> Any:
    """As it would stand in the file."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, time):
        return f"{value:%H:%M}"
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _from_document(document: Any) -> Policy:
    problems = sorted(
        _Validator(_SCHEMA, format_checker=_formats).iter_errors(document),
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
    return BusinessHours(**{key: _HOURS[key](value) for key, value in section.items()})


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
    """YAML keeps the last of two equal keys in silence; a security policy must not.

    Nor has it aliases: a few of them stand for a text of gigabytes.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias: write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key}: given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_CLASSES = _SCHEMA["properties"]["security"]["properties"]["audit"]["properties"]["retention_days_by_class"]
KEYS = (*values_of(Policy()), *(f"audit.retention_days_by_class.{name}" for name in _CLASSES["properties"]))
"""Every key that a policy can have."""


@dataclass(frozen=True, slots=True)
class _File:
    """``mark``: what tells one state of the file from another without reading it."""

    path: Path
    mark: tuple[int, ...]
    policy: Policy


_file: _File | None = None


def found() -> Policy:
    """What the file says. A change that cannot be read leaves the last good one, and is told in the log once.

    Raises PolicyError where there is no good one.
    """
    global _file
    path = settings.POLICY_FILE
    mark = _mark(path)
    known = _file if _file is not None and _file.path == path else None
    if known is None:
        _file = _File(path, mark, load(path))
    elif known.mark != mark:
        _file = _File(path, mark, _reload(known))
    assert _file is not None  # noqa: S101 - set above
    return _file.policy


def _mark(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _reload(known: _File) -> Policy:
    try:
        return load(known.path)
    except PolicyError:
        logger.exception("the policy file has changed and cannot be used; the one before stays in force")
        return known.policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaid:
    """``settled``: not what an open transaction has changed and may yet take back."""

    values: Values
    settled: bool


Overlay = Callable[[Values], Overlaid]


def _nothing_laid_over(values: Values) -> Overlaid:
    return Overlaid(values=values, settled=True)


_overlay: Overlay = _nothing_laid_over


def overlay(laid_over: Overlay) -> None:
    """Declare who knows, given the file's values, which are in force."""
    global _overlay
    _overlay = laid_over


@dataclass(frozen=True, slots=True)
class _Kept:
    policy: Policy
    until: float


_kept: _Kept | None = None


def current() -> Policy:
    """The policy in force. Raises PolicyError where there is none: then nothing that asks for it goes on."""
    pin = _pin.get()
    if pin is None:
        return _known()
    if not pin:
        pin.append(_known())
    return pin[0]


def _known() -> Policy:
    global _kept
    kept, now = _kept, clock.monotonic()
    if kept is not None and now < kept.until:
        return kept.policy
    laid_over = _overlay(values_of(found()))
    policy = from_values(laid_over.values)
    if laid_over.settled:
        _kept = _Kept(policy, now + REFRESH_SECONDS)
    return policy


def forget() -> None:
    """Look again at the next question: this process knows of a change."""
    global _kept
    _kept = None


_pin: ContextVar[list[Policy] | None] = ContextVar("pinned_policy", default=None)


@contextmanager
def pinned() -> Iterator[None]:
    """Within, one policy holds from the first question on, so that a change does not judge itself."""
    outer = _pin.get()
    token = _pin.set([] if outer is None else outer)
    try:
        yield
    finally:
        _pin.reset(token)
