"""Which of two values of a policy is the stricter one: one table for every key.

``None`` stands for never: of a threshold the laxest value. Where the table knows no order, any difference counts as
laxer.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from compliance_bot.guardrails.policy import Network, Values

_BY_CLASS = "audit.retention_days_by_class."


def _lower(before: int | None, after: int | None) -> bool:
    return before is None or (after is not None and after <= before)


def _higher(before: int, after: int) -> bool:
    return after >= before


def _required(before: bool, after: bool) -> bool:  # noqa: FBT001 - the values themselves
    return after or not before


def _forbidden(before: bool, after: bool) -> bool:  # noqa: FBT001 - the values themselves
    return before or not after


def _superset(before: Iterable[str], after: Iterable[str]) -> bool:
    return set(after) >= set(before)


def _covered(before: Iterable[str], after: Iterable[str]) -> bool:
    """Every network of ``after`` lies within one of ``before``."""
    wide = [ipaddress.ip_network(text) for text in before]
    return all(any(_within(ipaddress.ip_network(text), network) for network in wide) for text in after)


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


_AS_STRICT: Mapping[str, Callable[[Any, Any], bool]] = {
    "secrets.rotate_days": _lower,
    "network.allowlist_ips": _covered,
    "network.deny_public_admin": _required,
    "actions.require_approval_for": _superset,
    "actions.rate_limit_per_minute": _lower,
    "actions.mass_send_min_recipients": _lower,
    "actions.rules.*.threshold": _lower,
    "actions.rules.*.quorum": _higher,
    "actions.rules.*.expires_after_hours": _lower,
    "actions.rules.*.delay_minutes": _higher,
    "actions.rules.*.business_hours_only": _required,
    "actions.rules.*.second_approval_above": _lower,
    "actions.rules.*.reason_to_approve": _required,
    "actions.rules.*.cards_may_decide": _forbidden,
    "audit.retention_days": _higher,
    "audit.archive_days": _higher,
    f"{_BY_CLASS}*": _higher,
    "audit.fields": _superset,
    "retention.*": _higher,
}


def is_laxer(key: str, *, before: Values, after: Values) -> bool:
    """Whether ``key`` is laxer in the policy ``after`` than in the policy ``before``."""
    old, new = _value(key, before), _value(key, after)
    if old == new:
        return False
    rule = next((rule for pattern, rule in _AS_STRICT.items() if fnmatchcase(key, pattern)), None)
    return rule is None or not rule(old, new)


def relaxed(*, before: Values, after: Values) -> list[str]:
    """The keys that ``after`` relaxes."""
    return sorted(key for key in {*before, *after} if is_laxer(key, before=before, after=after))


def held(*, before: Values, after: Values) -> dict[str, Any]:
    """``after``, except that what it relaxes stays as ``before`` has it."""
    values = dict(after)
    for key in relaxed(before=before, after=after):
        values.pop(key, None)
        if key in before:
            values[key] = before[key]
    return values


def _value(key: str, values: Values) -> Any:
    """A class of events without a retention of its own has that of all events."""
    if key.startswith(_BY_CLASS) and key not in values:
        return values["audit.retention_days"]
    return values[key]
