"""Which of two values is the stricter one, by key."""

from typing import Any

import pytest

from compliance_bot.guardrails import policy, strictness
from compliance_bot.guardrails.policy import Policy

DEFAULTS = policy.values_of(Policy())
RULE = "actions.rules.bulk_delete."


def is_laxer(key: str, before: Any, after: Any) -> bool:
    return strictness.is_laxer(key, before={**DEFAULTS, key: before}, after={**DEFAULTS, key: after})


@pytest.mark.parametrize(
    ("key", "strict", "lax"),
    [
        ("secrets.rotate_days", 30, 31),
        ("network.allowlist_ips", ["10.1.0.0/16"], ["10.0.0.0/8"]),
        ("network.allowlist_ips", [], ["10.0.0.0/8"]),
        ("network.allowlist_ips", ["2001:db8::/48"], ["2001:db8::/32"]),
        ("network.allowlist_ips", ["10.0.0.0/8"], ["10.0.0.0/8", "2001:db8::/32"]),
        ("network.deny_public_admin", True, False),
        ("actions.require_approval_for", ["mass_send", "rollback"], ["mass_send"]),
        ("actions.rate_limit_per_minute", 120, 121),
        ("actions.mass_send_min_recipients", 0, 20),
        (f"{RULE}threshold", 10, 11),
        (f"{RULE}threshold", 1_000_000, None),
        (f"{RULE}quorum", 2, 1),
        (f"{RULE}expires_after_hours", 24, 25),
        (f"{RULE}delay_minutes", 1, 0),
        (f"{RULE}business_hours_only", True, False),
        (f"{RULE}second_approval_above", 100, None),
        (f"{RULE}second_approval_above", 0, 1),
        (f"{RULE}reason_to_approve", True, False),
        (f"{RULE}cards_may_decide", False, True),
        ("audit.retention_days", 31, 30),
        ("audit.archive_days", 185, 184),
        ("audit.retention_days_by_class.access", 31, 30),
        ("audit.fields", ["who", "what"], ["who"]),
        ("retention.items", 91, 90),
        ("retention.exports", 8, 7),
    ],
)
def test_one_of_two_values_is_laxer(key: str, strict: Any, lax: Any) -> None:
    assert is_laxer(key, strict, lax)
    assert not is_laxer(key, lax, strict)
    assert not is_laxer(key, strict, strict)


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("secrets.store", "local", "vault"),
        ("actions.require_approval_for", ["mass_send"], ["bulk_delete"]),
        ("network.allowlist_ips", ["10.0.0.0/8"], ["192.168.0.0/16"]),
        (f"{RULE}group", "", "Compliance officers"),
        (f"{RULE}escalate_to", "", "Administrators"),
        (f"{RULE}remind_before_minutes", 60, 120),
        ("actions.business_hours.start", "08:00", "09:00"),
        ("actions.business_hours.weekdays", [0, 1], [0]),
    ],
)
def test_where_there_is_no_order_any_difference_is_laxer(key: str, one: Any, other: Any) -> None:
    assert is_laxer(key, one, other)
    assert is_laxer(key, other, one)


def test_the_order_of_a_list_is_no_difference() -> None:
    assert not is_laxer("actions.require_approval_for", ["mass_send", "rollback"], ["rollback", "mass_send"])


def test_a_class_of_events_has_the_retention_of_all_events_unless_it_has_its_own() -> None:
    key = "audit.retention_days_by_class.access"
    longer, shorter = {**DEFAULTS, key: 200}, {**DEFAULTS, key: 10}
    assert strictness.relaxed(before=DEFAULTS, after=longer) == []
    assert strictness.relaxed(before=DEFAULTS, after=shorter) == [key]
    assert strictness.relaxed(before=longer, after=DEFAULTS) == [key]
    assert strictness.relaxed(before=shorter, after=DEFAULTS) == []


def test_what_is_relaxed_is_held_and_what_is_tightened_holds() -> None:
    key = "audit.retention_days_by_class.access"
    after = {**DEFAULTS, "actions.rate_limit_per_minute": 500, "retention.items": 365, key: 10}
    assert strictness.held(before=DEFAULTS, after=after) == {**DEFAULTS, "retention.items": 365}


def test_what_was_dropped_is_held() -> None:
    key = "audit.retention_days_by_class.access"
    before = {**DEFAULTS, key: 200}
    assert strictness.held(before=before, after=DEFAULTS) == before
