"""One gate for every send."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone
from django_q.models import OrmQ

from audit.models import AuditEvent
from tests import people, world
from workflows.domain.errors import Invalid, NotPermitted, WrongState
from workflows.domain.states import MessageState
from workflows.models import ApprovalRequest, Audience, AudienceMember, Channel, Delivery, Message, MessagePart
from workflows.services import messages

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


def submitted(by: User, to: Audience, **fields: object) -> Message:
    draft = world.message(by, to)
    Message.objects.filter(pk=draft.pk).update(**fields)
    return messages.submit(message_id=draft.pk, by=by)


def test_a_small_group_needs_no_approval(alice: User) -> None:
    message = submitted(alice, world.audience(world.robot(alice), size=20))
    assert message.state == MessageState.RELEASED
    assert message.gate == "Open: not a mass send."
    assert Delivery.objects.count() == 1


def test_a_large_group_waits_for_a_second_person(alice: User) -> None:
    message = submitted(alice, world.audience(world.robot(alice), size=21))
    assert message.state == MessageState.PENDING
    assert not Delivery.objects.exists()
    request = ApprovalRequest.objects.get()
    assert (request.requested_by, request.size, request.reason) == (alice, 21, "Yearly duty")


def test_a_group_of_unknown_size_counts_as_large(alice: User) -> None:
    message = submitted(alice, world.audience(world.robot(alice), size=None))
    assert message.state == MessageState.PENDING
    assert message.people is None


def test_two_groups_are_a_mass_send(alice: User) -> None:
    to = world.audience(world.robot(alice), size=2)
    AudienceMember.objects.create(audience=to, channel=world.robot(alice, name="Second"), label="B", size=2)
    assert submitted(alice, to).state == MessageState.PENDING


def test_the_threshold_is_the_policys(alice: User, set_policy: Callable[[str], None]) -> None:
    set_policy("security: {actions: {mass_send_min_recipients: 5}}")
    assert submitted(alice, world.audience(world.robot(alice), size=6)).state == MessageState.PENDING


def test_a_policy_without_mass_send_asks_for_no_approval_and_says_so(
    alice: User, set_policy: Callable[[str], None]
) -> None:
    set_policy("security: {actions: {require_approval_for: []}}")
    message = submitted(alice, world.audience(world.robot(alice)))
    assert message.state == MessageState.RELEASED
    assert "the policy asks for no approval" in message.gate


def test_releasing_queues_a_hint_for_a_worker(alice: User) -> None:
    message = submitted(alice, world.audience(world.robot(alice), size=3))
    task = OrmQ.objects.get().task
    assert (task["func"], task["args"][0]) == ("workflows.tasks.dispatch", message.pk)
    assert task["args"][1]["request_id"] == str(message.request_id)
    assert task["args"][1]["on_behalf_of"] == "alice"


@pytest.mark.parametrize(("size", "workers", "hints"), [(501, 2, 1), (501, 4, 3), (500, 4, 1)])
def test_a_message_to_many_is_handed_to_all_workers_but_one(
    alice: User, set_policy: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, size: int, workers: int, hints: int
) -> None:
    set_policy("security: {actions: {require_approval_for: []}}")
    monkeypatch.setitem(settings.Q_CLUSTER, "workers", workers)
    submitted(alice, world.members(world.app(alice), *(f"user{number}" for number in range(size))))
    assert OrmQ.objects.count() == hints


def test_a_planned_message_waits_for_its_time(alice: User) -> None:
    at = timezone.now() + timedelta(hours=3)
    message = submitted(alice, world.audience(world.robot(alice), size=3), send_at=at)
    assert message.next_attempt_at == at
    assert Delivery.objects.get().not_before == at
    assert not OrmQ.objects.exists()


def test_a_message_cannot_be_submitted_twice(alice: User) -> None:
    message = submitted(alice, world.audience(world.robot(alice), size=3))
    with pytest.raises(WrongState):
        messages.submit(message_id=message.pk, by=alice)
    assert Delivery.objects.count() == 1


def test_who_may_not_send_may_not_submit(alice: User) -> None:
    draft = world.message(alice, world.audience(world.robot(alice)))
    with pytest.raises(NotPermitted):
        messages.submit(message_id=draft.pk, by=people.olivia())


def test_a_submitted_message_cannot_be_rewritten(alice: User) -> None:
    message = submitted(alice, world.audience(world.robot(alice)))
    with pytest.raises(WrongState):
        messages.write(message=message, by=alice)


class TestWhatCannotBeDeliveredIsRefusedBeforeApproval:
    @pytest.fixture(autouse=True)
    def _setup(self, alice: User) -> None:
        self.alice = alice
        self.robot = world.robot(alice)
        self.audience = world.audience(self.robot)

    def refused(self) -> str:
        draft = world.message(self.alice, self.audience)
        with pytest.raises(Invalid) as error:
            messages.submit(message_id=draft.pk, by=self.alice)
        draft.refresh_from_db()
        assert draft.state == MessageState.DRAFT
        assert not ApprovalRequest.objects.exists()
        assert error.value.field == "audience"
        return str(error.value)

    def test_an_audience_without_members(self) -> None:
        self.audience.members.all().delete()
        assert "has no members" in self.refused()

    def test_a_channel_that_is_switched_off(self) -> None:
        Channel.objects.update(enabled=False)
        assert "is switched off" in self.refused()

    def test_a_channel_without_its_secret(self) -> None:
        self.robot.secrets.all().delete()
        assert "has no secret for key" in self.refused()


def test_a_long_message_is_split_within_wecoms_bytes(alice: User) -> None:
    to = world.audience(world.robot(alice), size=3)
    draft = world.message(alice, to, body="\n\n".join(f"第{number}段：" + "合规" * 300 for number in range(6)))
    messages.submit(message_id=draft.pk, by=alice)
    parts = list(MessagePart.objects.all())
    assert len(parts) > 1
    assert all(len(part.text.encode()) <= 4096 for part in parts)
    assert "".join(part.text for part in parts).count("合规") == 6 * 300
    assert Delivery.objects.count() == len(parts)


def test_every_step_is_on_the_trail_under_one_request(alice: User) -> None:
    submitted(alice, world.audience(world.robot(alice)))
    request_id = Message.objects.get().request_id
    assert request_id
    story = AuditEvent.objects.filter(request_id=request_id).order_by("id").values_list("what", flat=True)
    assert list(story)[-2:] == ["message.submitted", "approval.requested"]
