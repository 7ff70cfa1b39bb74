"""Taking back what has left: asked for with a reason, carried out once, told either way."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.utils import timezone

from audit.models import AuditEvent
from compliance_bot.sandbox import Sandbox
from tests import people, world
from workflows.domain.errors import NotPermitted, ReasonRequired, WrongState
from workflows.models import Delivery, Message
from workflows.services import delivery, messages, recalling

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def sent(wecom: Sandbox, alice: User) -> Message:
    to = world.members(world.app(alice, wecom.url), "amy", "bob")
    message = messages.submit(message_id=world.message(alice, to).pk, by=alice)
    delivery.dispatch(message.pk)
    return message


def test_what_was_sent_is_taken_back_with_one_call(wecom: Sandbox, sent: Message) -> None:
    recalling.ask(message_id=sent.pk, by=people.olivia(), reason="Wrong date")
    assert recalling.carry_out(sent.pk) == 2
    assert [message.recalled for message in wecom.company.messages()] == [True]
    assert not Delivery.objects.filter(recalled_at=None).exists()
    asked, done = AuditEvent.objects.filter(what__in=["message.recall_asked", "message.recalled"]).order_by("pk")
    assert (asked.why, done.facts["recipients"]) == ("Wrong date", 2)


def test_twice_takes_nothing_back_twice(wecom: Sandbox, sent: Message) -> None:
    recalling.carry_out(sent.pk)
    assert recalling.carry_out(sent.pk) == 0
    assert wecom.company.calls["message/recall"] == 1


def test_after_a_day_it_is_too_late(sent: Message) -> None:
    with (
        time_machine.travel(timezone.now() + timedelta(hours=24), tick=False),
        pytest.raises(WrongState, match="Nothing of this message"),
    ):
        recalling.ask(message_id=sent.pk, by=people.olivia(), reason="Wrong date")


def test_a_refusal_is_told_and_nothing_is_marked(sent: Message) -> None:
    Delivery.objects.update(receipt="another")
    assert recalling.carry_out(sent.pk) == 0
    assert AuditEvent.objects.get(what="message.recalled").outcome == "failure"
    assert Delivery.objects.filter(recalled_at=None).count() == 2


def test_a_robot_cannot_take_anything_back(wecom: Sandbox, alice: User) -> None:
    draft = world.message(alice, world.audience(world.robot(alice, wecom.url), size=3))
    message = messages.submit(message_id=draft.pk, by=alice)
    delivery.dispatch(message.pk)
    with pytest.raises(WrongState):
        recalling.ask(message_id=message.pk, by=people.olivia(), reason="Wrong date")


def test_needs_the_right_and_a_reason(sent: Message, alice: User) -> None:
    with pytest.raises(NotPermitted):
        recalling.ask(message_id=sent.pk, by=alice, reason="Wrong date")
    with pytest.raises(ReasonRequired):
        recalling.ask(message_id=sent.pk, by=people.olivia(), reason=" ")
