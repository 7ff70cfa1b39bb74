"""The policy in force: the file as far as it was acknowledged, under the overrides; each file is on the trail."""

import io
import signal
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models.signals import post_save
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from compliance_bot.guardrails import policy
from compliance_bot.management.commands import clock
from compliance_bot.management.commands.serve import Command as Serve
from tests import people
from workflows import roles
from workflows.domain.errors import Invalid, NotPermitted, StaleContent, WrongState
from workflows.domain.events import Event
from workflows.domain.states import ApprovalState, Verdict
from workflows.models import ApprovalRequest, PolicyFile, PolicyOverride
from workflows.services import approvals, policies

pytestmark = pytest.mark.django_db

SetPolicy = Callable[[str], None]


def told() -> list[dict[str, Any]]:
    events = AuditEvent.objects.filter(what=Event.POLICY_LOADED).order_by("pk")
    return [event.facts for event in events]


def test_the_first_policy_is_recorded_with_all_its_values(set_policy: SetPolicy) -> None:
    set_policy("security:\n  actions:\n    mass_send_min_recipients: 7\n")
    policies.note_policy()
    (facts,) = told()
    assert facts["changes"] == {}
    assert facts["values"]["actions.mass_send_min_recipients"] == "7"
    assert facts["values"]["actions.require_approval_for"] == "mass_send, bulk_delete, permission_change"
    assert facts["values"]["network.allowlist_ips"] == "203.0.113.0/24"
    assert facts["values"]["network.deny_public_admin"] == "True"


def test_the_same_policy_is_recorded_once(set_policy: SetPolicy) -> None:
    set_policy("security: {}\n")
    policies.note_policy()
    set_policy("# the same in other words\nsecurity:\n  secrets:\n    rotate_days: 30\n")
    policies.note_policy()
    assert len(told()) == 1


def test_a_change_names_the_key_and_both_values(set_policy: SetPolicy) -> None:
    set_policy("security: {}\n")
    policies.note_policy()
    set_policy("security:\n  actions:\n    require_approval_for: []\n    rate_limit_per_minute: 500\n")
    policies.note_policy()
    assert told()[-1]["changes"] == {
        "actions.rate_limit_per_minute": ["120", "500"],
        "actions.require_approval_for": ["mass_send, bulk_delete, permission_change", ""],
    }


def test_a_key_that_came_and_went_has_nothing_on_the_other_side(set_policy: SetPolicy) -> None:
    plain = "security: {}\n"
    by_class = "security:\n  audit:\n    retention_days_by_class:\n      access: 200\n"
    for text in (plain, by_class, plain):
        set_policy(text)
        policies.note_policy()
    key = "audit.retention_days_by_class.access"
    assert [facts["changes"] for facts in told()] == [{}, {key: [None, "200"]}, {key: ["200", None]}]


class _Stopped(Exception):
    """Ends the clock at the first event that it records."""


@pytest.mark.usefixtures("committed")
def test_the_clock_notes_it_when_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = []

    def stop(instance: AuditEvent, **_: object) -> None:
        recorded.append(instance.what)
        raise _Stopped

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.0)
    post_save.connect(stop, sender=AuditEvent)
    try:
        with pytest.raises(_Stopped):
            call_command("clock")
    finally:
        post_save.disconnect(stop, sender=AuditEvent)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert recorded == [Event.POLICY_LOADED]


def test_serving_notes_it_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["127.0.0.1"])
    Serve(stdout=io.StringIO())._prepare()
    assert len(told()) == 1


STRICT = "security: {actions: {rate_limit_per_minute: 60, mass_send_min_recipients: 5}}"
LAX = "security: {actions: {rate_limit_per_minute: 500, mass_send_min_recipients: 2}}"


def in_force() -> tuple[int, int]:
    """The two numbers of the files above."""
    actions = policy.current().actions
    return actions.rate_limit_per_minute, actions.mass_send_min_recipients


class TestFiles:
    def test_a_fresh_installation_takes_its_first_file_as_it_is(self, set_policy: SetPolicy) -> None:
        set_policy(LAX)
        policies.note_policy()
        assert in_force() == (500, 2)
        assert policies.unacknowledged() is None
        assert policies.relaxations() == []

    def test_what_a_later_file_relaxes_waits_and_what_it_tightens_holds(self, set_policy: SetPolicy) -> None:
        for text in (STRICT, LAX):
            set_policy(text)
            policies.note_policy()
        assert in_force() == (60, 2)
        assert policies.relaxations() == [("actions.rate_limit_per_minute", 60, 500)]
        assert told()[-1]["held_back"] == ["actions.rate_limit_per_minute"]

    def test_it_waits_before_it_is_noted(self, set_policy: SetPolicy) -> None:
        set_policy(STRICT)
        policies.note_policy()
        set_policy(LAX)
        assert in_force() == (60, 2)

    def test_a_file_that_relaxes_nothing_waits_for_nobody(self, set_policy: SetPolicy) -> None:
        set_policy("security: {}")
        policies.note_policy()
        set_policy(STRICT)
        policies.note_policy()
        assert policies.unacknowledged() is None
        set_policy("security: {}")
        policies.note_policy()
        assert in_force() == (60, 5)

    def test_acknowledged_it_is_in_force(self, set_policy: SetPolicy) -> None:
        for text in (STRICT, LAX):
            set_policy(text)
            policies.note_policy()
        file = policies.unacknowledged()
        assert file is not None
        policies.acknowledge(file.pk)
        assert in_force() == (500, 2)
        assert policies.relaxations() == []
        event = AuditEvent.objects.get(what=Event.POLICY_ACKNOWLEDGED)
        assert event.facts["relaxes"] == ["actions.rate_limit_per_minute: 60 → 500"]

    def test_a_file_is_described_with_what_it_relaxes(self, set_policy: SetPolicy) -> None:
        for text in (STRICT, LAX):
            set_policy(text)
            policies.note_policy()
        file = PolicyFile.objects.get(acknowledged_at=None)
        assert policies.describe_file(file.pk) == {
            "sha256": file.sha256,
            "changes": [
                {"key": "actions.mass_send_min_recipients", "before": 5, "after": 2, "laxer": False},
                {"key": "actions.rate_limit_per_minute", "before": 60, "after": 500, "laxer": True},
            ],
        }

    def test_a_file_that_is_no_longer_the_newest_cannot_be_acknowledged(self, set_policy: SetPolicy) -> None:
        for text in (STRICT, LAX):
            set_policy(text)
            policies.note_policy()
        lax = PolicyFile.objects.get(acknowledged_at=None)
        set_policy(STRICT)
        policies.note_policy()
        with pytest.raises(StaleContent):
            policies.acknowledge(lax.pk)
        assert in_force() == (60, 5)

    def test_a_laxer_file_that_was_acknowledged_once_waits_when_it_comes_back(self, set_policy: SetPolicy) -> None:
        for text in (LAX, "security: {actions: {rate_limit_per_minute: 60, mass_send_min_recipients: 2}}", LAX):
            set_policy(text)
            policies.note_policy()
        assert in_force() == (60, 2)
        assert policies.relaxations() == [("actions.rate_limit_per_minute", 60, 500)]

    def test_a_key_that_an_older_version_did_not_know_had_its_default(self, set_policy: SetPolicy) -> None:
        set_policy(STRICT)
        policies.note_policy()
        file = PolicyFile.objects.get()
        file.values = {"actions.rate_limit_per_minute": 60, "actions.forgotten": 1}
        file.save()
        set_policy("security: {actions: {rate_limit_per_minute: 60, mass_send_min_recipients: 21}}")
        assert in_force() == (60, 20)


class TestAcknowledgement:
    """A policy change like any other: one person asks, another decides."""

    @pytest.fixture(autouse=True)
    def laxer_file(self, set_policy: SetPolicy) -> None:
        for text in (STRICT, LAX):
            set_policy(text)
            policies.note_policy()

    def request(self) -> ApprovalRequest:
        policies.ask_acknowledgement(by=people.person("ada", roles.ADMINISTRATOR), reason="More people read us")
        return ApprovalRequest.objects.get(action="policy_change")

    def approve(self, approval: ApprovalRequest) -> None:
        approvals.decide(approval_id=approval.pk, verdict=Verdict.APPROVE, by=people.olivia(), reason="")
        approval.refresh_from_db()

    def test_the_stricter_values_hold_until_it_is_approved(self) -> None:
        approval = self.request()
        assert in_force() == (60, 2)
        self.approve(approval)
        assert approval.state == ApprovalState.EXECUTED
        assert in_force() == (500, 2)
        assert policies.unacknowledged() is None
        assert AuditEvent.objects.filter(what=Event.POLICY_ACKNOWLEDGED).count() == 1

    def test_whoever_decides_is_shown_what_is_relaxed(self) -> None:
        shown = self.request().preview["changes"]
        (relaxes,) = [entry["after"] for entry in shown if entry["field"] == "relaxes"]
        assert relaxes == ["actions.rate_limit_per_minute: 60 → 500"]

    def test_a_file_that_is_no_longer_the_newest_is_not_put_into_force(self, set_policy: SetPolicy) -> None:
        approval = self.request()
        set_policy("security: {actions: {rate_limit_per_minute: 900, mass_send_min_recipients: 5}}")
        policies.note_policy()
        self.approve(approval)
        assert approval.state == ApprovalState.FAILED
        assert in_force() == (60, 5)

    def test_what_it_relaxes_is_still_what_was_shown_or_it_is_not_put_into_force(self, set_policy: SetPolicy) -> None:
        """The acknowledgement of the file before, which this one was compared with, is rolled back meanwhile."""
        before = PolicyFile.objects.get(acknowledged_at=None)
        policies.acknowledge(before.pk)
        set_policy("security: {actions: {rate_limit_per_minute: 900, mass_send_min_recipients: 2}}")
        policies.note_policy()
        approval = self.request()
        before.save()  # as it was
        self.approve(approval)
        assert approval.state == ApprovalState.FAILED
        assert in_force() == (60, 2)

    def test_whoever_may_not_change_the_policy_may_not_ask(self) -> None:
        with pytest.raises(NotPermitted):
            policies.ask_acknowledgement(by=people.olivia(), reason="Because")

    def test_where_nothing_waits_there_is_nothing_to_ask_for(self, set_policy: SetPolicy) -> None:
        set_policy(STRICT)
        policies.note_policy()
        with pytest.raises(WrongState):
            policies.ask_acknowledgement(by=people.sam(), reason="Because")


class TestOverrides:
    def test_an_override_stands_above_the_file(self, set_policy: SetPolicy) -> None:
        set_policy(STRICT)
        PolicyOverride.objects.create(key="actions.rate_limit_per_minute", value=7)
        assert in_force() == (7, 5)
        PolicyOverride.objects.get().delete()
        assert in_force() == (60, 5)

    def test_never_is_a_value_too(self) -> None:
        PolicyOverride.objects.create(key="actions.rules.bulk_delete.threshold", value=None)
        assert policy.current().actions.rule("bulk_delete").threshold is None

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("actions.rate_limit_per_minute", 0, "actions.rate_limit_per_minute: 0 is less than the minimum of 1"),
            ("actions.rules.mass_send.threshold", 5, "actions.rules.mass_send.threshold: unknown key"),
            ("actions", {"rate_limit_per_minute": 5}, "actions: unknown key"),
            ("actions.rules.rollback.group", "Nobody", "actions.rules.rollback.group: there is no group “Nobody”"),
            ("network.allowlist_ips", ["10.0.0.1/8"], "network.allowlist_ips.0: '10.0.0.1/8' is not a network"),
        ],
    )
    def test_one_that_a_policy_cannot_have_is_not_stored(self, key: str, value: Any, said: str) -> None:
        with pytest.raises(Invalid) as refused:
            PolicyOverride.objects.create(key=key, value=value)
        assert said in str(refused.value)
        assert not PolicyOverride.objects.exists()

    def test_a_change_of_one_is_on_the_trail(self) -> None:
        PolicyOverride.objects.create(key="actions.rate_limit_per_minute", value=7)
        assert AuditEvent.objects.filter(what="object.created", target_type="workflows.policyoverride").exists()

    @pytest.mark.usefixtures("committed")
    def test_this_process_knows_a_change_when_it_is_committed_and_never_one_that_is_taken_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(policy, "REFRESH_SECONDS", float("inf"))
        assert in_force() == (120, 20)
        with transaction.atomic():
            PolicyOverride.objects.create(key="actions.rate_limit_per_minute", value=7)
            policy.forget()  # as when another thread commits a change meanwhile
            assert in_force() == (7, 20)
            transaction.set_rollback(True)
        assert in_force() == (120, 20)
        PolicyOverride.objects.create(key="actions.rate_limit_per_minute", value=7)
        assert in_force() == (7, 20)
        PolicyOverride.objects.all().delete()
        assert in_force() == (120, 20)

    def test_a_pinned_policy_is_pinned_before_the_change_at_the_latest(self) -> None:
        with policy.pinned():
            PolicyOverride.objects.create(key="actions.rules.policy_change.group", value="Auditors")
            assert policy.current().actions.rule("policy_change").group == ""
        assert policy.current().actions.rule("policy_change").group == "Auditors"

    def test_a_request_has_one_policy(self) -> None:
        """Saving and judging the change are one request, so the change does not judge itself."""
        seen = []

        def look(**_: object) -> None:
            seen.append(policy.current().actions.rate_limit_per_minute)

        client = Client()
        client.force_login(people.sam())
        post_save.connect(look, sender=PolicyOverride)
        try:
            form = {"key": "actions.rate_limit_per_minute", "value": "7", "note": ""}
            client.post(reverse("admin:workflows_policyoverride_add"), form)
        finally:
            post_save.disconnect(look, sender=PolicyOverride)
        assert seen == [120]


def stored_by_an_older_version(key: str, value: object) -> None:
    """Past the signals that look at what is stored now."""
    PolicyOverride.objects.bulk_create([PolicyOverride(key=key, value=value)])


class TestOverridesOfOlderVersions:
    def test_a_key_that_no_longer_exists_is_ignored_and_found_by_the_checks(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        stored_by_an_older_version("actions.once_upon_a_time", 5)
        assert in_force() == (120, 20)
        assert "a policy override is ignored: actions.once_upon_a_time: unknown key" in caplog.text
        (finding,) = run_checks(tags=[Tags.database], databases=["default"])
        assert finding.id == "workflows.W001"

    def test_a_value_that_is_no_longer_valid_leaves_no_policy_in_force(self) -> None:
        """The override may have been stricter than the file: to go on without it would be a relaxation."""
        stored_by_an_older_version("actions.rate_limit_per_minute", 0)
        with pytest.raises(policy.PolicyError, match=r"actions\.rate_limit_per_minute: 0 is less"):
            policy.current()
        (finding,) = run_checks(tags=[Tags.database], databases=["default"])
        assert finding.id == "workflows.E002"


@pytest.mark.usefixtures("committed")
def test_before_the_first_migration_the_file_is_in_force() -> None:
    table = PolicyOverride._meta.db_table
    with connection.schema_editor() as editor:
        editor.alter_db_table(PolicyOverride, table, f"{table}_elsewhere")
    try:
        assert in_force() == (120, 20)
        assert run_checks(tags=[Tags.database], databases=["default"]) == []
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(PolicyOverride, f"{table}_elsewhere", table)
