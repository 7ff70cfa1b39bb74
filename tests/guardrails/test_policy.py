import ipaddress
from datetime import time
from pathlib import Path

import pytest
from django.conf import settings

from compliance_bot.guardrails.policy import Policy, PolicyError, Rule, load, parse

VERBATIM = """\
security:
  secrets: {store: "kms_or_vault", rotate_days: 30}
  network: {allowlist_ips: ["203.0.113.0/24"], deny_public_admin: true}
  actions:
    require_approval_for: ["mass_send", "bulk_delete", "permission_change"]
    rate_limit_per_minute: 120
  audit: {retention_days: 30, fields: ["who", "what", "when", "why", "request_id"]}
"""


def test_the_documented_policy_loads_and_equals_the_defaults() -> None:
    assert parse(VERBATIM) == Policy()


def test_the_shipped_policy_is_the_documented_one() -> None:
    assert load(settings.POLICY_FILE) == Policy()


def test_missing_keys_take_their_defaults() -> None:
    policy = parse("security: {actions: {mass_send_min_recipients: 5}}")
    assert policy.actions.mass_send_min_recipients == 5
    assert policy.actions.rate_limit_per_minute == 120
    assert policy.network.allowlist_ips == (ipaddress.ip_network("203.0.113.0/24"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("security: {netwrok: {}}", "security.netwrok: unknown key"),
        ("security: {actions: {rate_limit: 1}}", "security.actions.rate_limit: unknown key"),
        ("securty: {}", "securty: unknown key"),
        ("security: {audit: {retention_days: soon}}", "security.audit.retention_days: 'soon' is not of type 'integer'"),
        ("security: {audit: {retention_days: 0}}", "security.audit.retention_days: 0 is less than the minimum of 1"),
        (
            "security: {network: {allowlist_ips: [10.0.0.1/8]}}",
            "security.network.allowlist_ips.0: '10.0.0.1/8' is not a",
        ),
        ("security: {actions: {require_approval_for: [mass_sendd]}}", "security.actions.require_approval_for.0:"),
        ("security: {audit: {}, audit: {}}", "audit: given twice"),
        (
            "security: {actions: {rules: {mass_send: {threshold: 5}}}}",
            "security.actions.rules.mass_send.threshold: this action has none",
        ),
        ("security: {actions: {rules: {sending: {}}}}", "security.actions.rules.sending: unknown key"),
        ("security: {actions: {rules: {mass_send: {quorums: 2}}}}", "rules.mass_send.quorums: unknown key"),
        ("security: {actions: {rules: {mass_send: {quorum: 0}}}}", "rules.mass_send.quorum: 0 is less than"),
        ("security: {actions: {business_hours: {end: 18:00}}}", "business_hours.end: 1080 is not a time of day in quo"),
        ('security: {actions: {business_hours: {start: "9:00"}}}', "business_hours.start: '9:00' is not a time of day"),
        (
            'security: {actions: {business_hours: {start: "18:00"}}}',
            "security.actions.business_hours.end: 18:00 is not after 18:00",
        ),
        (
            "security: {actions: {business_hours: {time_zone: Asia}}}",
            "time_zone: 'Asia' is not the name of a time zone",
        ),
        ("security: {actions: {business_hours: {weekdays: []}}}", "business_hours.weekdays: [] "),
        ("security: [", "not valid YAML"),
        ("", "policy: None is not of type 'object'"),
        ("{1: 2}", "unknown key"),
    ],
)
def test_a_malformed_policy_names_the_key(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse(text)
    assert message in str(refused.value)


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="Set POLICY_FILE to a readable file"):
        load(tmp_path / "none.yaml")


def test_a_file_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"security: {}\n# \xff")
    with pytest.raises(PolicyError, match="not UTF-8"):
        load(path)


def test_every_action_has_a_rule_and_a_large_deletion_has_ten_rows() -> None:
    actions = Policy().actions
    assert actions.rule("mass_send") == Rule()
    assert actions.rule("bulk_delete") == Rule(threshold=10)
    assert actions.rule("standing_approval").expires_after_hours == 24


def test_a_rule_keeps_the_defaults_of_what_it_does_not_name() -> None:
    actions = parse("security: {actions: {rules: {bulk_delete: {quorum: 2, delay_minutes: 30}}}}").actions
    assert actions.rule("bulk_delete") == Rule(threshold=10, quorum=2, delay_minutes=30)
    assert actions.rule("mass_send") == Rule()


def test_a_threshold_can_be_switched_off() -> None:
    actions = parse("security: {actions: {rules: {bulk_delete: {threshold: null}}}}").actions
    assert actions.rule("bulk_delete").threshold is None


@pytest.mark.parametrize("action", ["policy_change", "rollback", "standing_approval"])
def test_what_could_undo_every_rule_needs_approval_whatever_is_listed(action: str) -> None:
    assert parse("security: {actions: {require_approval_for: []}}").actions.needs_approval(action)
    assert parse(f"security: {{actions: {{require_approval_for: [{action}]}}}}").actions.needs_approval(action)


def test_an_action_needs_approval_where_the_policy_lists_it() -> None:
    actions = parse("security: {actions: {require_approval_for: [audit_export]}}").actions
    assert actions.needs_approval("audit_export")
    assert not actions.needs_approval("mass_send")


def test_business_hours_are_read() -> None:
    hours = parse('security: {actions: {business_hours: {start: "08:30", weekdays: [5]}}}').actions.business_hours
    assert (hours.start, hours.end, hours.weekdays) == (time(8, 30), time(18), (5,))
    assert str(hours.time_zone) == "Asia/Shanghai"
