"""Notices by one of our channels: at the channel's pace, and what did not arrive is said."""

import pytest
from django.conf import settings
from django.utils import timezone

from audit import checkpoints, sealing
from audit import notices as trail_notices
from audit.models import AuditEvent
from audit.recorder import record
from audit.vocabulary import AccessEvent
from compliance_bot.sandbox import Sandbox
from compliance_bot.sandbox.wecom import Fault
from tests import people, world
from workflows.models import Channel, Delivery
from workflows.services import notices

pytestmark = pytest.mark.django_db


@pytest.fixture
def robot(wecom: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Channel:
    monkeypatch.setattr(settings, "AUDIT_CHANNEL", "Robot")
    monkeypatch.setattr(trail_notices, "_senders", {})
    notices.register()
    return world.robot(people.alice(), wecom.url)


def failures() -> list[str]:
    return trail_notices.tell("Subject", "Text")


def test_nothing_is_registered_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_notices, "_senders", {})
    notices.register()
    assert trail_notices.receivers() == []


def test_a_checkpoint_arrives_as_it_was_signed(robot: Channel, wecom: Sandbox) -> None:
    record(AccessEvent.DENIED)
    sealing.sweep(timezone.now())
    note = checkpoints.newest()
    assert note is not None
    checkpoints.send_daily(timezone.now())
    (received,) = wecom.wecom.messages()
    assert note.strip() in received.content
    assert AuditEvent.objects.get(what="trail.checkpoint_sent").facts["receivers"] == ["channel"]
    assert not Delivery.objects.exists()


def test_an_answer_that_is_no_receipt_is_a_failure(robot: Channel, wecom: Sandbox) -> None:
    wecom.wecom.plan_faults([Fault("errcode", code=93000)])
    (failure,) = failures()
    assert failure.startswith("channel: ")
    assert world.KEY not in failure


def test_an_unknown_outcome_is_a_failure_and_not_tried_again(robot: Channel, wecom: Sandbox) -> None:
    wecom.wecom.plan_faults([Fault("reset_after")])
    (failure,) = failures()
    assert "may have arrived" in failure


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "Another"}, "There is no channel called “Robot”."),
        ({"enabled": False}, "switched off or out of order"),
        ({"broken_at": timezone.now()}, "switched off or out of order"),
        ({"kind": "pigeon"}, "pigeon"),
    ],
)
def test_a_channel_that_cannot_be_used_is_a_failure(
    robot: Channel, wecom: Sandbox, fields: dict[str, object], said: str
) -> None:
    Channel.objects.update(**fields)
    (failure,) = failures()
    assert said in failure
    assert wecom.wecom.messages() == []


def test_a_secret_that_is_missing_is_a_failure(robot: Channel) -> None:
    robot.secrets.update(field="other")
    (failure,) = failures()
    assert "not stored" in failure


def test_a_notice_keeps_the_pace_of_its_channel(robot: Channel, wecom: Sandbox) -> None:
    Channel.objects.update(per_minute=1)
    assert failures() == []
    assert failures() == ["channel: The channel “Robot” is busy."]
    assert len(wecom.wecom.messages()) == 1


def test_reading_the_key_for_a_notice_is_on_the_trail(robot: Channel) -> None:
    failures()
    assert AuditEvent.objects.get(what="secret.read").facts == {"secrets": ["robot-robot"], "for": "notice"}
