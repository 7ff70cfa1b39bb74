import ipaddress
from pathlib import Path

import pytest
from django.conf import settings

from compliance_bot.guardrails.policy import Policy, PolicyError, load, parse

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
