import ipaddress
import logging
from collections.abc import Callable, Iterator
from datetime import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from compliance_bot.guardrails import policy
from compliance_bot.guardrails.policy import Overlaid, Policy, PolicyError, Rule, from_values, load, parse, values_of

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
    read = parse("security: {actions: {mass_send_min_recipients: 5}}")
    assert read.actions.mass_send_min_recipients == 5
    assert read.actions.rate_limit_per_minute == 120
    assert read.network.allowlist_ips == (ipaddress.ip_network("203.0.113.0/24"),)


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
            "security: {actions: {business_hours: {time_zone: Asia}}}",
            "time_zone: 'Asia' is not the name of a time zone",
        ),
        ("security: {actions: {business_hours: {weekdays: []}}}", "business_hours.weekdays: [] "),
        ("security: {audit: {retention_days: 5.0}}", "security.audit.retention_days: 5.0 is not of type 'integer'"),
        ("security: [", "not valid YAML"),
        ("security: 2026-13-01", "not valid YAML"),
        ("[" * 5000, "not valid YAML: nested too deeply"),
        ("security: {actions: &a {}, audit: *a}", "an alias: write the value out"),
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


@pytest.mark.parametrize(
    "text",
    [
        "security: {}",
        "security: {actions: {rules: {bulk_delete: {threshold: null, second_approval_above: 7, group: Board}}}}",
        'security: {actions: {business_hours: {end: "17:05", time_zone: UTC}}}',
        "security: {network: {allowlist_ips: [10.0.0.0/8, 2001:db8::/32]}}",
        "security: {audit: {retention_days_by_class: {access: 200}}}",
    ],
)
def test_a_policy_is_the_same_as_plain_values_by_dotted_key(text: str) -> None:
    assert from_values(values_of(parse(text))) == parse(text)


def test_values_name_no_threshold_that_an_action_has_not() -> None:
    values = values_of(Policy())
    assert values["actions.rules.bulk_delete.threshold"] == 10
    assert "actions.rules.mass_send.threshold" not in values
    assert "actions.rules.mass_send.threshold" not in policy.KEYS


@pytest.mark.parametrize(
    ("key", "value"),
    [("actions.rate_limit", 5), ("actions.rate_limit_per_minute", 0), ("actions.rate_limit_per_minute", "many")],
)
def test_values_that_make_no_policy_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(PolicyError, match=rf"security\.{key}: "):
        from_values({key: value})


class Above:
    """What another room lays over the file."""

    def __init__(self) -> None:
        self.overrides: dict[str, Any] = {}
        self.settled = True
        self.asked = 0

    def __call__(self, values: policy.Values) -> Overlaid:
        self.asked += 1
        return Overlaid(values={**values, **self.overrides}, settled=self.settled)

    def limit_to(self, messages: int) -> None:
        self.overrides["actions.rate_limit_per_minute"] = messages


@pytest.fixture
def above(monkeypatch: pytest.MonkeyPatch) -> Iterator[Above]:
    """With a memory that lasts for ever, unless it is told to forget."""
    monkeypatch.setattr(policy, "REFRESH_SECONDS", float("inf"))
    laid_over = Above()
    monkeypatch.setattr(policy, "_overlay", laid_over)
    yield laid_over
    policy.forget()


def limit() -> int:
    return policy.current().actions.rate_limit_per_minute


class TestInForce:
    def test_what_is_laid_over_the_file_is_in_force(self, above: Above) -> None:
        above.limit_to(7)
        assert limit() == 7

    def test_it_is_asked_for_once_until_it_is_forgotten(self, above: Above) -> None:
        assert limit() == 120
        above.limit_to(7)
        assert limit() == 120
        policy.forget()
        assert limit() == 7
        assert above.asked == 2

    def test_it_is_asked_for_again_when_its_time_is_over(self, above: Above, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policy, "REFRESH_SECONDS", 0.0)
        assert limit() == 120
        above.limit_to(7)
        assert limit() == 7

    def test_what_is_not_settled_is_not_remembered(self, above: Above) -> None:
        above.settled = False
        above.limit_to(7)
        assert limit() == 7
        above.limit_to(120)
        assert limit() == 120

    def test_values_that_make_no_policy_leave_none_in_force(self, above: Above) -> None:
        above.limit_to(0)
        for _ in range(2):
            with pytest.raises(PolicyError, match=r"actions\.rate_limit_per_minute: 0 is less"):
                policy.current()

    def test_a_pinned_policy_stays_whatever_is_changed_meanwhile(self, above: Above) -> None:
        with policy.pinned():
            assert limit() == 120
            above.limit_to(7)
            policy.forget()
            with policy.pinned():
                assert limit() == 120
        assert limit() == 7


class TestChangedFile:
    """A file that is edited in place while the product runs."""

    @pytest.fixture
    def edit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        path = tmp_path / "edited.yaml"
        monkeypatch.setattr(settings, "POLICY_FILE", path)

        def edit(text: str) -> None:
            """As editors do it: a new file takes the place of the old one."""
            fresh = path.with_suffix(".new")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)

        return edit

    def test_it_is_read_again(self, edit: Callable[[str], None]) -> None:
        edit("security: {actions: {rate_limit_per_minute: 7}}")
        assert policy.found().actions.rate_limit_per_minute == 7
        edit("security: {actions: {rate_limit_per_minute: 8}}")
        assert policy.found().actions.rate_limit_per_minute == 8

    @pytest.mark.parametrize("broken", ["security: {actoins: {}}", "security: ["])
    def test_one_that_cannot_be_used_leaves_the_one_before_and_is_told_once(
        self, edit: Callable[[str], None], broken: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        edit("security: {actions: {rate_limit_per_minute: 7}}")
        policy.found()
        edit(broken)
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                assert policy.found().actions.rate_limit_per_minute == 7
        assert [record.message for record in caplog.records] == [
            "the policy file has changed and cannot be used; the one before stays in force"
        ]
        edit("security: {actions: {rate_limit_per_minute: 8}}")
        assert policy.found().actions.rate_limit_per_minute == 8

    def test_one_that_is_gone_leaves_the_one_before(self, edit: Callable[[str], None]) -> None:
        edit("security: {actions: {rate_limit_per_minute: 7}}")
        policy.found()
        settings.POLICY_FILE.unlink()
        assert policy.found().actions.rate_limit_per_minute == 7

    def test_one_that_cannot_be_used_at_the_start_stops_it(self, edit: Callable[[str], None]) -> None:
        edit("security: [")
        with pytest.raises(PolicyError):
            policy.found()
