"""Four eyes: who may decide, what a decision is bound to, and that there is exactly one outcome."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import DatabaseError, transaction
from django.utils import timezone

from audit.models import AuditEvent
from tests import people, world
from workflows.domain.errors import (
    AlreadyDecided,
    Expired,
    FourEyesViolation,
    NotPermitted,
    ReasonRequired,
    StaleContent,
)
from workflows.domain.states import ApprovalState, MessageState, Verdict
from workflows.models import ApprovalDecision, ApprovalRequest, Channel, Delivery, Message, SecretRef
from workflows.services import approvals, messages, secrets

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def olivia() -> User:
    return people.olivia()


@pytest.fixture
def request_(alice: User) -> ApprovalRequest:
    """A mass send that alice wrote and submitted."""
    draft = world.message(alice, world.audience(world.robot(alice)))
    messages.submit(message_id=draft.pk, by=alice)
    return ApprovalRequest.objects.get()


def decide(request: ApprovalRequest, by: User, verdict: Verdict = Verdict.APPROVE, reason: str = "") -> None:
    approvals.decide(approval_id=request.pk, verdict=verdict, by=by, reason=reason)


def the_message() -> Message:
    return Message.objects.get()


def test_what_was_denied_is_written_anew_and_its_requests_are_linked(
    request_: ApprovalRequest, alice: User, olivia: User
) -> None:
    decide(request_, olivia, Verdict.DENY, "Too long")
    draft = messages.write_anew(message_id=int(request_.subject_id), by=alice)
    assert (draft.state, draft.author) == (MessageState.DRAFT, alice)
    messages.submit(message_id=draft.pk, by=alice)
    assert ApprovalRequest.objects.latest("pk").previous == request_


def test_approving_sends_it_on_its_way(request_: ApprovalRequest, olivia: User) -> None:
    decide(request_, olivia)
    request_.refresh_from_db()
    assert request_.state == ApprovalState.EXECUTING
    assert the_message().state == MessageState.RELEASED
    assert Delivery.objects.count() == 1


def test_denying_cancels_it(request_: ApprovalRequest, olivia: User) -> None:
    decide(request_, olivia, Verdict.DENY, "Wrong quarter")
    request_.refresh_from_db()
    assert (request_.state, request_.outcome) == (ApprovalState.DENIED, "Wrong quarter")
    assert the_message().state == MessageState.CANCELLED
    assert not Delivery.objects.exists()


def test_denying_needs_a_reason(request_: ApprovalRequest, olivia: User) -> None:
    with pytest.raises(ReasonRequired):
        decide(request_, olivia, Verdict.DENY, "   ")
    request_.refresh_from_db()
    assert request_.state == ApprovalState.PENDING


def test_the_requester_cannot_decide_even_with_every_right(olivia: User) -> None:
    sam = people.sam()
    draft = world.message(sam, world.audience(world.robot(sam)))
    messages.submit(message_id=draft.pk, by=sam)
    with pytest.raises(FourEyesViolation):
        decide(ApprovalRequest.objects.get(), sam)
    assert the_message().state == MessageState.PENDING


def test_the_author_cannot_decide_what_another_submitted(alice: User) -> None:
    sam = people.sam()
    draft = world.message(sam, world.audience(world.robot(alice)))
    messages.submit(message_id=draft.pk, by=alice)
    with pytest.raises(FourEyesViolation):
        decide(ApprovalRequest.objects.get(), sam)


def test_who_has_no_role_cannot_decide(request_: ApprovalRequest) -> None:
    with pytest.raises(NotPermitted):
        decide(request_, people.nora())


def test_a_refused_decision_is_on_the_trail(request_: ApprovalRequest) -> None:
    with pytest.raises(NotPermitted):
        decide(request_, people.nora())
    event = AuditEvent.objects.get(what="approval.refused")
    assert (event.who_label, event.outcome, event.facts["code"]) == ("nora", "refused", "not_permitted")


def test_the_second_officer_learns_who_was_faster(request_: ApprovalRequest, olivia: User) -> None:
    decide(request_, olivia)
    with pytest.raises(AlreadyDecided, match="olivia was faster"):
        decide(request_, people.oscar(), Verdict.DENY, "No")
    assert ApprovalDecision.objects.count() == 1
    assert Delivery.objects.count() == 1


def test_a_request_expires_at_its_very_instant(request_: ApprovalRequest, olivia: User) -> None:
    with time_machine.travel(request_.expires_at, tick=False), pytest.raises(Expired):
        decide(request_, olivia)
    request_.refresh_from_db()
    assert request_.state == ApprovalState.EXPIRED
    assert the_message().state == MessageState.DRAFT


def test_a_moment_before_it_expires_it_can_be_approved(request_: ApprovalRequest, olivia: User) -> None:
    with time_machine.travel(request_.expires_at - timedelta(milliseconds=1), tick=False):
        decide(request_, olivia)
    assert the_message().state == MessageState.RELEASED


def test_nobody_deciding_fails_closed(request_: ApprovalRequest) -> None:
    approvals.expire(request_.pk)
    request_.refresh_from_db()
    assert request_.state == ApprovalState.EXPIRED
    assert not Delivery.objects.exists()


class TestWhatChangesAfterTheRequestVoidsIt:
    @pytest.fixture(autouse=True)
    def _setup(self, request_: ApprovalRequest, olivia: User) -> None:
        self.request, self.olivia = request_, olivia

    def expect_void(self) -> None:
        with pytest.raises(StaleContent):
            decide(self.request, self.olivia)
        self.request.refresh_from_db()
        assert self.request.state == ApprovalState.VOID
        assert the_message().state == MessageState.DRAFT
        assert not Delivery.objects.exists()

    def test_the_text(self) -> None:
        Message.objects.update(body="Something else entirely")
        self.expect_void()

    def test_one_more_recipient(self) -> None:
        members = the_message().audience.members
        members.create(channel=world.robot(self.olivia, name="Other"), label="Another group", size=3)
        self.expect_void()

    def test_the_declared_size_of_a_group(self) -> None:
        the_message().audience.members.update(size=5000)
        self.expect_void()

    def test_where_the_channel_points(self) -> None:
        Channel.objects.update(config={"base_url": "https://elsewhere.example"})
        self.expect_void()

    def test_a_new_robot_key_which_is_another_group(self) -> None:
        secrets.store(secret=SecretRef.objects.get(), value="another-group-key", by=self.olivia)
        self.expect_void()

    def test_the_time(self) -> None:
        Message.objects.update(send_at=timezone.now() + timedelta(hours=2))
        self.expect_void()

    def test_an_audience_that_is_empty_now(self) -> None:
        the_message().audience.members.all().delete()
        self.expect_void()


def test_a_void_request_can_be_asked_for_anew(request_: ApprovalRequest, alice: User, olivia: User) -> None:
    Message.objects.update(body="Better words")
    with pytest.raises(StaleContent):
        decide(request_, olivia)
    messages.submit(message_id=the_message().pk, by=alice)
    again = ApprovalRequest.objects.get(state=ApprovalState.PENDING)
    decide(again, olivia)
    assert the_message().state == MessageState.RELEASED


def test_the_requester_can_withdraw(request_: ApprovalRequest, alice: User) -> None:
    approvals.withdraw(approval_id=request_.pk, by=alice, reason="A typing slip")
    request_.refresh_from_db()
    assert request_.state == ApprovalState.WITHDRAWN
    assert the_message().state == MessageState.DRAFT


def test_nobody_else_can_withdraw(request_: ApprovalRequest, olivia: User) -> None:
    with pytest.raises(NotPermitted):
        approvals.withdraw(approval_id=request_.pk, by=olivia, reason="")


def test_two_approvals_are_needed_where_the_quorum_is_two(request_: ApprovalRequest, olivia: User) -> None:
    ApprovalRequest.objects.update(quorum=2)
    decide(request_, olivia)
    assert the_message().state == MessageState.PENDING
    with pytest.raises(AlreadyDecided, match="already decided"):
        decide(request_, olivia)
    decide(request_, people.oscar())
    assert the_message().state == MessageState.RELEASED


class TestTheDatabaseRefuses:
    """Whoever goes round the services meets the same rules."""

    @pytest.fixture(autouse=True)
    def _setup(self, request_: ApprovalRequest, alice: User, olivia: User) -> None:
        self.request, self.alice, self.olivia = request_, alice, olivia

    def decision(self, by: User) -> ApprovalDecision:
        return ApprovalDecision.objects.create(
            request=self.request, decided_by=by, verdict="approve", decided_at=timezone.now(), content_digest="x"
        )

    def test_a_decision_by_the_requester(self) -> None:
        with pytest.raises(DatabaseError, match="four eyes"), transaction.atomic():
            self.decision(self.alice)

    def test_two_decisions_of_one_person(self) -> None:
        self.decision(self.olivia)
        with pytest.raises(DatabaseError), transaction.atomic():
            self.decision(self.olivia)

    def test_an_approval_without_a_decision(self) -> None:
        with pytest.raises(DatabaseError, match="quorum"), transaction.atomic():
            ApprovalRequest.objects.filter(pk=self.request.pk).update(state="approved", closed_at=timezone.now())

    def test_another_content_under_the_same_request(self) -> None:
        with pytest.raises(DatabaseError, match="stays"), transaction.atomic():
            ApprovalRequest.objects.filter(pk=self.request.pk).update(content_digest="0" * 64)

    def test_another_requester(self) -> None:
        with pytest.raises(DatabaseError, match="stays"), transaction.atomic():
            ApprovalRequest.objects.filter(pk=self.request.pk).update(requested_by=self.olivia)

    def test_changing_a_decision(self) -> None:
        self.decision(self.olivia)
        with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
            ApprovalDecision.objects.update(verdict="deny", reason="Second thoughts")

    def test_removing_a_decision(self) -> None:
        decision = self.decision(self.olivia)
        with pytest.raises(DatabaseError, match="never"), transaction.atomic():
            decision.delete()

    def test_opening_a_closed_request_again(self) -> None:
        decide(self.request, self.olivia, Verdict.DENY, "No")
        with pytest.raises(DatabaseError, match="stays"), transaction.atomic():
            ApprovalRequest.objects.filter(pk=self.request.pk).update(state="pending")

    def test_a_request_that_is_born_approved(self) -> None:
        self.request.pk, self.request._state.adding = None, True
        self.request.subject_id, self.request.state = "99", "approved"
        with pytest.raises(DatabaseError, match="starts as pending"), transaction.atomic():
            self.request.save(force_insert=True)

    def test_two_open_requests_for_one_subject(self) -> None:
        self.request.pk, self.request._state.adding = None, True
        with pytest.raises(DatabaseError), transaction.atomic():
            self.request.save(force_insert=True)
