"""Who read which secret and what for is on the trail: once under one request, and never the value."""

import pytest
from django.contrib.auth.models import User
from django.db import connection

from audit import context
from audit.models import AuditEvent
from compliance_bot.guardrails import secrets as stores
from compliance_bot.sandbox import Sandbox
from tests import people, world
from workflows.domain.errors import Invalid
from workflows.models import Delivery, Message
from workflows.services import delivery, messages, secrets


def reads(outcome: str = "success") -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(what="secret.read", outcome=outcome).order_by("pk"))


def draft(author: User, base_url: str = "http://127.0.0.1:9", *, blocks: int = 1) -> Message:
    to = world.audience(world.robot(author, base_url), size=3)
    return world.message(author, to, body="\n\n".join(f"{number} " + "x" * 3900 for number in range(blocks)))


@pytest.mark.usefixtures("committed")
class TestOnceUnderOneRequest:
    def test_many_deliveries_of_a_message_are_one_read(self, wecom: Sandbox) -> None:
        alice = people.alice()
        message = messages.submit(message_id=draft(alice, wecom.url, blocks=4).pk, by=alice)
        with context.system_acting(request_id=message.request_id, on_behalf_of=message.on_behalf_of):
            assert delivery.dispatch(message.pk) == 4
        preview, sending = reads()
        assert preview.facts == {"secrets": ["robot-robot"], "for": "preview"}
        assert (preview.who_label, preview.target_label) == ("alice", "Robot")
        assert sending.facts == {"secrets": ["robot-robot"], "for": f"delivery of message {message.pk}"}
        assert (sending.who_label, sending.on_behalf_of) == ("system", "alice")
        assert sending.request_id == message.request_id
        assert world.KEY not in "".join(event.canon for event in AuditEvent.objects.all())

    def test_further_reads_ask_the_database_for_the_references_alone(self) -> None:
        channel = world.robot(people.alice())
        with context.system_acting():
            secrets.of_channel(channel, purpose="preview")
            before = len(connection.queries_log)
            connection.force_debug_cursor = True
            secrets.of_channel(channel, purpose="preview")
            connection.force_debug_cursor = False
            assert len(connection.queries_log) - before == 1
        assert len(reads()) == 1

    def test_another_request_or_purpose_is_another_read(self) -> None:
        channel = world.robot(people.alice())
        for purpose in ("preview", "delivery of message 1"):
            for _ in range(2):
                with context.system_acting():
                    secrets.of_channel(channel, purpose=purpose)
        assert len(reads()) == 4

    def test_a_read_that_was_rolled_back_is_recorded_the_next_time(self) -> None:
        alice = people.alice()
        channel = world.robot(alice)
        message = world.message(alice, world.audience(channel))
        message.audience.members.create(channel=world.robot(alice, name="Empty"), label="no key")
        secrets_of_second = message.audience.members.get(label="no key").channel
        secrets_of_second.secrets.all().delete()
        with context.system_acting():
            with pytest.raises(Invalid):
                messages.submit(message_id=message.pk, by=alice)
            assert reads() == []
            secrets.of_channel(channel, purpose="preview")
            assert len(reads()) == 1


@pytest.mark.django_db
class TestAReadThatFails:
    def test_is_on_the_trail_with_its_reason(self, wecom: Sandbox) -> None:
        alice = people.alice()
        message = messages.submit(message_id=draft(alice, wecom.url).pk, by=alice)
        stores.get("local").delete("robot-robot")
        delivery.dispatch(message.pk)
        (event,) = reads("failure")
        assert event.facts == {"secrets": ["robot-robot"], "for": f"delivery of message {message.pk}"}
        assert "There is no secret called 'robot-robot'" in event.why
        assert Delivery.objects.get().state == "waiting"


@pytest.mark.django_db
def test_a_channel_without_secrets_reads_none() -> None:
    channel = world.robot(people.alice())
    channel.secrets.all().delete()
    assert secrets.of_channel(channel, purpose="preview") == {}
    assert reads() == []
