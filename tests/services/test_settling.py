"""What people decide about dead letters: it arrived, or send it again; what needed approval needs it again."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from audit.models import AuditEvent
from compliance_bot.sandbox import Sandbox
from compliance_bot.sandbox.wecom import Fault
from tests import people, world
from workflows.domain.errors import Invalid, NotPermitted, ReasonRequired, StaleContent, WrongState
from workflows.domain.states import ApprovalState, MessageState, Verdict
from workflows.models import ApprovalRequest, Delivery, Message
from workflows.services import approvals, delivery, messages, settling

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def olivia() -> User:
    return people.olivia()


def failed(alice: User, olivia: User, wecom: Sandbox, *, size: int = 3) -> Message:
    """A message whose one delivery was refused."""
    wecom.wecom.plan_faults([Fault("errcode", code=40058)])
    draft = world.message(alice, world.audience(world.robot(alice, wecom.url), size=size))
    message = messages.submit(message_id=draft.pk, by=alice)
    if message.state == MessageState.PENDING:
        decide(ApprovalRequest.objects.get(), olivia)
    delivery.dispatch(message.pk)
    message.refresh_from_db()
    assert message.state == MessageState.FAILED
    return message


def decide(request: ApprovalRequest, by: User) -> None:
    approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=by, reason="")


def keys() -> list[int]:
    return list(Delivery.objects.values_list("pk", flat=True))


class TestSendingAgain:
    def test_a_failed_one_is_sent_and_its_message_is_finished_anew(
        self, wecom: Sandbox, alice: User, olivia: User
    ) -> None:
        message = failed(alice, olivia, wecom)
        assert settling.send_again(keys(), by=olivia, reason="The robot is back") == []
        delivery.dispatch(message.pk)
        message.refresh_from_db()
        assert message.state == MessageState.SENT
        assert len(wecom.wecom.messages()) == 1

    def test_of_a_mass_send_waits_for_a_second_person(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        message = failed(alice, olivia, wecom, size=180)
        (request,) = settling.send_again(keys(), by=olivia, reason="The robot is back")
        delivery.dispatch(message.pk)
        assert wecom.wecom.messages() == []
        assert (request.action, request.size) == ("redelivery", 180)
        assert request.preview["deliveries"][0]["recipient"] == "Everyone group"
        assert "Please read." in request.preview["texts"][0]
        decide(request, people.oscar())
        delivery.dispatch(message.pk)
        assert len(wecom.wecom.messages()) == 1
        request.refresh_from_db()
        assert request.state == ApprovalState.EXECUTED

    def test_is_not_approved_by_who_asked_nor_by_who_wrote(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        failed(alice, olivia, wecom, size=180)
        (request,) = settling.send_again(keys(), by=olivia, reason="The robot is back")
        assert approvals.why_barred(request, olivia)
        assert approvals.why_barred(request, alice)

    def test_what_moved_meanwhile_voids_the_request(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        failed(alice, olivia, wecom, size=180)
        (request,) = settling.send_again(keys(), by=olivia, reason="The robot is back")
        Delivery.objects.update(state="sent")
        with pytest.raises(StaleContent):
            decide(request, people.oscar())
        request.refresh_from_db()
        assert request.state == ApprovalState.VOID

    def test_each_is_told_with_its_reason(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        failed(alice, olivia, wecom)
        settling.send_again(keys(), by=olivia, reason="The robot is back")
        event = AuditEvent.objects.get(what="delivery.settled")
        assert (event.why, event.facts, event.who_label) == ("The robot is back", {"settled_as": "queued"}, "olivia")

    def test_what_is_late_is_not_sent_again(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        failed(alice, olivia, wecom)
        Message.objects.update(valid_until=timezone.now() - timedelta(minutes=1))
        with pytest.raises(WrongState, match="is over"):
            settling.send_again(keys(), by=olivia, reason="The robot is back")

    def test_what_was_sent_is_not_sent_again(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        failed(alice, olivia, wecom)
        Delivery.objects.update(state="sent")
        with pytest.raises(WrongState):
            settling.send_again(keys(), by=olivia, reason="The robot is back")

    def test_of_a_cancelled_message_is_refused(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        failed(alice, olivia, wecom)
        Message.objects.update(state=MessageState.CANCELLED)
        with pytest.raises(WrongState, match="was cancelled"):
            settling.send_again(keys(), by=olivia, reason="The robot is back")


class TestItArrived:
    def test_many_are_settled_at_once(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        to = world.members(world.app(alice, wecom.url), "amy", "bob", "cem")
        message = messages.submit(message_id=world.message(alice, to).pk, by=alice)
        Delivery.objects.update(state="unknown", not_before=None)
        assert settling.arrived(keys(), by=olivia, reason="Asked them") == 3
        message.refresh_from_db()
        assert message.state == MessageState.SENT
        assert AuditEvent.objects.filter(what="delivery.settled").count() == 3

    def test_is_said_of_unknown_ones_only(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        failed(alice, olivia, wecom)
        with pytest.raises(WrongState):
            settling.arrived(keys(), by=olivia, reason="Asked them")


class TestWhoAndWhy:
    def test_only_who_may_settle(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        failed(alice, olivia, wecom)
        with pytest.raises(NotPermitted):
            settling.send_again(keys(), by=alice, reason="Please")

    def test_a_reason_is_needed(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        failed(alice, olivia, wecom)
        with pytest.raises(ReasonRequired):
            settling.send_again(keys(), by=olivia, reason=" ")

    @pytest.mark.parametrize("chosen", [[], range(settling.MOST + 1)])
    def test_none_and_too_many_are_refused(self, olivia: User, chosen: list[int]) -> None:
        with pytest.raises(Invalid):
            settling.send_again(chosen, by=olivia, reason="All of them")
