"""What left, what was decided and what the trail tells agree; whoever goes round the services is found out."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from audit import completeness
from audit import triggers as events
from audit.models import AuditEvent
from audit.recorder import record
from compliance_bot.sandbox import Sandbox
from tests import people, world
from workflows import triggers as approvals_guards
from workflows.domain.events import Event
from workflows.domain.states import DeliveryState, MessageState, Verdict
from workflows.models import ApprovalDecision, ApprovalRequest, Delivery, DeliveryAttempt, Message
from workflows.services import approvals, delivery, messages, pauses, settling

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def approved(wecom: Sandbox, alice: User) -> Message:
    """A mass send that olivia approved and that arrived."""
    message = submitted(alice, wecom.url)
    approvals.decide(
        approval_id=ApprovalRequest.objects.get().pk, verdict=Verdict.APPROVE, by=people.olivia(), reason=""
    )
    delivery.dispatch(message.pk)
    message.refresh_from_db()
    assert message.state == MessageState.SENT
    return message


@pytest.fixture
def pending(alice: User) -> Message:
    return submitted(alice, "http://127.0.0.1:9")


def submitted(author: User, base_url: str) -> Message:
    draft = world.message(author, world.audience(world.robot(author, base_url)))
    return messages.submit(message_id=draft.pk, by=author)


def as_owner_of_the_database() -> None:
    """Somebody took the triggers away; until the test is rolled back."""
    connection.check_constraints()  # PostgreSQL alters no table with checks that wait for the commit
    for guards in (approvals_guards.GUARDS, events.GUARDS):
        guards.remove(connection)


def forget(*names: Event) -> None:
    """Take events out as their owner could."""
    as_owner_of_the_database()
    for name in names:
        connection.cursor().execute("DELETE FROM audit_auditevent WHERE what = %s", [name.value])


def found(name: str, after: timedelta = timedelta()) -> list[str]:
    results = completeness.run(timezone.now() + after)
    (result,) = [result for result in results if result.check.name == name]
    return [f"{finding.where} {finding.what}" for finding in result.findings]


OURS = ["execution", "release", "outcome", "decision", "delivery"]


@pytest.mark.parametrize("name", OURS)
def test_what_was_approved_and_arrived_is_complete(approved: Message, name: str) -> None:
    assert found(name, timedelta(hours=1)) == []


@pytest.mark.parametrize("name", OURS)
def test_what_waits_or_was_denied_is_complete(pending: Message, alice: User, name: str) -> None:
    assert found(name) == []
    approvals.decide(
        approval_id=ApprovalRequest.objects.get().pk, verdict=Verdict.DENY, by=people.olivia(), reason="No"
    )
    assert found(name, timedelta(hours=1)) == []


@pytest.mark.parametrize("name", OURS)
def test_what_a_person_settled_is_complete(approved: Message, name: str) -> None:
    Delivery.objects.update(state=DeliveryState.UNKNOWN)
    forget(Event.DELIVERY_SENT)
    settling.arrived([Delivery.objects.get().pk], by=people.oscar(), reason="I saw it")
    assert found(name) == []


class TestExecution:
    def test_a_release_without_a_decision(self, pending: Message) -> None:
        Message.objects.update(state=MessageState.RELEASED, released_at=timezone.now())
        assert found("execution") == [f"message {pending.pk} was released without the approval that it needed"]

    def test_a_release_by_a_state_that_was_written_in(self, pending: Message) -> None:
        as_owner_of_the_database()
        ApprovalRequest.objects.update(state="executed", closed_at=timezone.now())
        Message.objects.update(state=MessageState.RELEASED, released_at=timezone.now())
        assert found("execution") == [f"message {pending.pk} was released without the approval that it needed"]

    def test_a_decision_by_who_asked(self, approved: Message, alice: User) -> None:
        as_owner_of_the_database()
        ApprovalDecision.objects.update(decided_by=alice)
        assert found("execution") == [f"message {approved.pk} was released without the approval that it needed"]

    def test_an_approval_of_other_content(self, approved: Message) -> None:
        Message.objects.update(content_digest="0" * 64)
        assert found("execution") == [f"message {approved.pk} was released without the approval that it needed"]

    def test_a_decision_on_other_content(self, approved: Message) -> None:
        as_owner_of_the_database()
        ApprovalDecision.objects.update(content_digest="0" * 64)
        assert found("execution") == [f"message {approved.pk} was released without the approval that it needed"]

    def test_a_quorum_that_was_not_reached(self, approved: Message) -> None:
        as_owner_of_the_database()
        ApprovalRequest.objects.update(quorum=2)
        assert found("execution") == [f"message {approved.pk} was released without the approval that it needed"]

    def test_calls_of_a_message_that_was_never_released(self, approved: Message) -> None:
        Message.objects.update(state=MessageState.PENDING)
        assert found("execution") == [f"message {approved.pk} has deliveries, but was never released"]

    def test_what_needs_no_approval_needs_none(self, alice: User) -> None:
        draft = world.message(alice, world.audience(world.robot(alice), size=2))
        messages.submit(message_id=draft.pk, by=alice)
        assert found("execution") == []


class TestRelease:
    def test_a_release_that_the_trail_does_not_tell(self, approved: Message) -> None:
        forget(Event.MESSAGE_RELEASED)
        assert found("release") == [f"message {approved.pk} was released, but the trail does not tell"]

    def test_a_release_without_a_time(self, approved: Message) -> None:
        Message.objects.update(released_at=None)
        assert found("release") == [f"message {approved.pk} left, but has no time of release"]

    def test_what_retention_has_purged_is_not_missed(self, approved: Message) -> None:
        forget(*Event)
        assert found("release", timedelta(days=29)) != []
        assert found("release", timedelta(days=30)) == []


class TestOutcome:
    def test_a_clock_that_stands_still(self, pending: Message) -> None:
        request = ApprovalRequest.objects.get()
        assert found("outcome", timedelta(hours=24, minutes=9)) == []
        assert found("outcome", timedelta(hours=24, minutes=11)) == [
            f"request {request.pk} is past its time, but was not closed"
        ]

    def test_a_decision_that_nobody_carried_out(self, pending: Message) -> None:
        request = ApprovalRequest.objects.get()
        request.decisions.create(
            decided_by=people.olivia(), verdict=Verdict.APPROVE, decided_at=timezone.now(), content_digest="0" * 64
        )
        assert found("outcome", timedelta(minutes=9)) == []
        assert found("outcome", timedelta(minutes=11)) == [f"request {request.pk} was decided, but not carried out"]

    def test_an_approval_that_hangs_half_way(self, approved: Message) -> None:
        as_owner_of_the_database()
        ApprovalRequest.objects.update(state="approved")
        request = ApprovalRequest.objects.get()
        assert found("outcome", timedelta(minutes=11)) == [f"request {request.pk} was decided, but not carried out"]

    def test_an_execution_that_the_trail_does_not_tell(self, approved: Message) -> None:
        forget(Event.APPROVAL_EXECUTED)
        request = ApprovalRequest.objects.get()
        assert found("outcome") == [f"request {request.pk} was carried out, but the trail does not tell"]

    def test_an_execution_whose_message_stayed(self, approved: Message) -> None:
        Message.objects.update(state=MessageState.DRAFT)
        request = ApprovalRequest.objects.get()
        assert found("outcome") == [f"request {request.pk} was carried out, but its message did not leave"]

    def test_a_subject_that_is_no_key_stops_no_check(self, approved: Message) -> None:
        as_owner_of_the_database()
        ApprovalRequest.objects.update(subject_id="1; DROP")
        request = ApprovalRequest.objects.get()
        assert found("outcome") == [f"request {request.pk} was carried out, but its message did not leave"]


class TestDecision:
    def test_a_decision_that_is_not_on_the_trail(self, approved: Message) -> None:
        forget(Event.APPROVAL_GRANTED)
        request = ApprovalRequest.objects.get()
        assert found("decision") == [f"request {request.pk} has a decision that is not on the trail"]

    def test_a_decision_that_was_put_under_another_name(self, approved: Message) -> None:
        as_owner_of_the_database()
        ApprovalDecision.objects.update(decided_by=people.oscar())
        request = ApprovalRequest.objects.get()
        assert found("decision") == [
            f"request {request.pk} has a decision that is not on the trail",
            f"request {request.pk} the trail tells of a decision that is not there",
        ]

    def test_a_decision_that_was_removed(self, approved: Message) -> None:
        as_owner_of_the_database()
        ApprovalDecision.objects.all().delete()
        request = ApprovalRequest.objects.get()
        assert found("decision") == [f"request {request.pk} the trail tells of a decision that is not there"]


class TestDelivery:
    def test_a_delivery_that_the_trail_does_not_tell(self, approved: Message) -> None:
        forget(Event.DELIVERY_SENT)
        row = Delivery.objects.get()
        assert found("delivery") == [f"delivery {row.pk} was sent, but the trail does not tell"]

    def test_an_attempt_that_the_trail_does_not_tell(self, approved: Message) -> None:
        forget(Event.DELIVERY_ATTEMPTED)
        row = Delivery.objects.get()
        assert found("delivery") == [f"delivery {row.pk} was attempted, but the trail does not tell"]

    def test_a_call_to_many_that_the_trail_does_not_tell(self, wecom: Sandbox, alice: User) -> None:
        to = world.members(world.app(alice, wecom.url), "amy", "bob")
        message = messages.submit(message_id=world.message(alice, to).pk, by=alice)
        delivery.dispatch(message.pk)
        assert found("delivery") == []
        forget(Event.DELIVERY_ATTEMPTED)
        assert found("delivery") == [f"message {message.pk} was attempted, but the trail does not tell"]

    def test_an_outcome_without_an_attempt(self, alice: User) -> None:
        draft = world.message(alice, world.audience(world.robot(alice), size=2))
        messages.submit(message_id=draft.pk, by=alice)
        Delivery.objects.update(state=DeliveryState.FAILED, not_before=None)
        row = Delivery.objects.get()
        assert found("delivery") == [f"delivery {row.pk} has an outcome, but was never attempted"]

    def test_a_row_that_denies_what_the_trail_tells(self, approved: Message) -> None:
        Delivery.objects.update(state=DeliveryState.QUEUED, not_before=timezone.now())
        row = Delivery.objects.get()
        assert found("delivery") == [f"delivery {row.pk} the trail tells that it was sent, but the row does not"]

    def test_a_row_that_housekeeping_removed_is_not_missed(
        self, approved: Message, set_policy: Callable[[str], None]
    ) -> None:
        DeliveryAttempt.objects.all().delete()
        Delivery.objects.all().delete()
        assert len(found("delivery", timedelta(days=5))) == 1
        set_policy("security: {retention: {deliveries: 7}}")
        assert len(found("delivery", timedelta(days=6))) == 1
        assert found("delivery", timedelta(days=8)) == []


def test_a_clean_check_moves_the_window_on(approved: Message) -> None:
    events_before = AuditEvent.objects.count()
    with time_machine.travel(timezone.now() + timedelta(days=3)):
        record("trail.checked")
        forget(Event.MESSAGE_RELEASED)
        assert found("release") == []
    assert AuditEvent.objects.count() == events_before  # one came, one went


def test_what_is_found_stays_found(approved: Message) -> None:
    forget(Event.MESSAGE_RELEASED)
    completeness.run_and_record(timezone.now())
    with time_machine.travel(timezone.now() + timedelta(days=3)):
        assert len(found("release")) == 1


@pytest.mark.parametrize("name", OURS)
def test_a_message_that_was_halted_before_anything_left_is_complete(pending: Message, name: str) -> None:
    olivia = people.olivia()
    approvals.decide(approval_id=ApprovalRequest.objects.get().pk, verdict=Verdict.APPROVE, by=olivia, reason="")
    pauses.pause(by=olivia, reason="Typing slip", target=pending)
    delivery.cancel_rest(message_id=pending.pk, by=olivia, reason="Will be written anew")
    pending.refresh_from_db()
    assert pending.state == MessageState.CANCELLED
    assert found(name, timedelta(hours=1)) == []


def test_deliveries_cancelled_behind_the_services_back_are_found(pending: Message) -> None:
    approvals.decide(
        approval_id=ApprovalRequest.objects.get().pk, verdict=Verdict.APPROVE, by=people.olivia(), reason=""
    )
    Delivery.objects.update(state=DeliveryState.CANCELLED, not_before=None)
    assert found("delivery") == [f"message {pending.pk} has cancelled deliveries, but the trail does not tell"]
