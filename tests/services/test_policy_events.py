"""The policy in force is on the trail, with what changed, and only when it is another one."""

import io
import signal
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import transaction
from django.db.models.signals import post_save

from audit.models import AuditEvent
from audit.recorder import record
from compliance_bot.management.commands import clock
from compliance_bot.management.commands.serve import Command as Serve
from workflows.domain.events import Event
from workflows.services import policies

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


def test_an_event_of_an_older_version_counts_as_nothing_known(set_policy: SetPolicy) -> None:
    with transaction.atomic():
        record(Event.POLICY_LOADED, facts={"sha256": "0" * 64})
    policies.note_policy()
    assert told()[-1]["changes"] == {}
    assert told()[-1]["values"]


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
