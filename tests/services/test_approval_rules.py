"""What the policy asks of a request by its action, and what happens without a second person."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.db import DatabaseError, transaction
from django.utils import timezone

from audit.models import AuditEvent
from compliance_bot.guardrails import policy
from tests import people, world
from workflows import roles
from workflows.domain.errors import (
    AlreadyDecided,
    FourEyesViolation,
    NotPermitted,
    ReasonRequired,
    WrongState,
)
from workflows.domain.events import Event
from workflows.domain.states import ApprovalState, MessageState, Verdict
from workflows.models import ApprovalRequest, Message
from workflows.services import approvals, clock, messages

pytestmark = pytest.mark.django_db

WHY = "The regulator's deadline is in an hour"


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def officers() -> list[User]:
    return [people.olivia(), people.oscar(), people.person("oona", roles.OFFICER)]


@pytest.fixture
def admin() -> User:
    return people.person("adam", roles.ADMINISTRATOR)


def ruled(monkeypatch: pytest.MonkeyPatch, rule: str, hours: str = "") -> None:
    text = f"security: {{actions: {{rules: {{mass_send: {{{rule}}}}}{hours}}}}}"
    parsed = policy.parse(text)
    monkeypatch.setattr(policy, "current", lambda: parsed)


def asked(author: User, size: int | None = 180) -> ApprovalRequest:
    draft = world.message(author, world.audience(world.robot(author), size=size))
    messages.submit(message_id=draft.pk, by=author)
    return ApprovalRequest.objects.latest("pk")


def decide(request: ApprovalRequest, by: User, verdict: Verdict = Verdict.APPROVE, reason: str = "Seen") -> str:
    approvals.decide(approval_id=request.pk, verdict=verdict, by=by, reason=reason)
    request.refresh_from_db()
    return request.state


def state_of_message() -> str:
    return Message.objects.get().state


class TestQuorum:
    def test_so_many_persons_have_to_agree(
        self, alice: User, officers: list[User], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ruled(monkeypatch, "quorum: 3")
        request = asked(alice)
        assert [decide(request, officer) for officer in officers[:2]] == [ApprovalState.PENDING] * 2
        assert state_of_message() == MessageState.PENDING
        with pytest.raises(AlreadyDecided, match="You have already decided"):
            decide(request, officers[0])
        assert decide(request, officers[2]) == ApprovalState.EXECUTING

    def test_one_who_denies_is_enough(self, alice: User, officers: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
        ruled(monkeypatch, "quorum: 2")
        request = asked(alice)
        decide(request, officers[0])
        assert decide(request, officers[1], Verdict.DENY, "Wrong date") == ApprovalState.DENIED

    @pytest.mark.parametrize(("size", "quorum"), [(100, 1), (101, 2), (None, 2)])
    def test_a_second_approval_above_a_size_and_for_an_unknown_one(
        self, alice: User, monkeypatch: pytest.MonkeyPatch, size: int | None, quorum: int
    ) -> None:
        ruled(monkeypatch, "second_approval_above: 100")
        assert asked(alice, size).quorum == quorum

    def test_a_policy_that_is_loosened_does_not_loosen_what_waits(
        self, alice: User, officers: list[User], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ruled(monkeypatch, "quorum: 2")
        request = asked(alice)
        ruled(monkeypatch, "quorum: 1")
        assert decide(request, officers[0]) == ApprovalState.PENDING

    def test_the_database_keeps_the_quorum_too(self, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
        ruled(monkeypatch, "quorum: 2")
        request = asked(alice)
        changes: list[dict[str, Any]] = [
            *({"state": "executed"}, {"quorum": 1}, {"barred": [1]}, {"eligible_group": "x"}, {"payload": [1]}),
            *({"preview": {}}, {"content_digest": "0"}, {"requested_by": people.olivia()}, {"delay_minutes": 1}),
        ]
        for change in changes:
            with pytest.raises(DatabaseError), transaction.atomic():
                ApprovalRequest.objects.filter(pk=request.pk).update(**change)

    def test_a_request_is_never_removed(self, alice: User) -> None:
        request = asked(alice)
        with pytest.raises(DatabaseError, match="never removed"), transaction.atomic():
            request.delete()


class TestWhoDecides:
    def test_only_members_of_the_group_and_after_the_reminder_of_the_second_one(
        self, alice: User, officers: list[User], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, officer in (("Legal", officers[0]), ("Board", officers[1])):
            officer.groups.add(Group.objects.create(name=name))
        ruled(monkeypatch, "group: Legal, escalate_to: Board, remind_before_minutes: 60")
        request = asked(alice)
        assert approvals.eligible(request) == [officers[0]]
        with pytest.raises(NotPermitted, match="Only members of Legal decide"):
            decide(request, officers[1])
        with time_machine.travel(request.expires_at - timedelta(minutes=59)):
            clock.tick()
            request.refresh_from_db()
            assert approvals.eligible(request) == officers[:2]
            assert decide(request, officers[1]) == ApprovalState.EXECUTING
        assert AuditEvent.objects.filter(what=Event.APPROVAL_REMINDED).count() == 1

    def test_approving_needs_a_reason_where_the_policy_says_so(
        self, alice: User, officers: list[User], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ruled(monkeypatch, "reason_to_approve: true")
        request = asked(alice)
        with pytest.raises(ReasonRequired):
            decide(request, officers[0], reason=" ")
        assert decide(request, officers[0]) == ApprovalState.EXECUTING


class TestWhen:
    def test_it_is_carried_out_after_the_cooling_off(
        self, alice: User, officers: list[User], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ruled(monkeypatch, "delay_minutes: 30")
        request = asked(alice)
        assert decide(request, officers[0]) == ApprovalState.APPROVED
        assert request.execute_at is not None
        with time_machine.travel(request.execute_at - timedelta(seconds=1)):
            clock.tick()
        assert state_of_message() == MessageState.PENDING
        with time_machine.travel(request.execute_at, tick=False):
            clock.tick()
        request.refresh_from_db()
        assert (request.state, state_of_message()) == (ApprovalState.EXECUTING, MessageState.RELEASED)

    def test_in_its_cooling_off_an_officer_stops_it(
        self, alice: User, officers: list[User], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ruled(monkeypatch, "delay_minutes: 30")
        request = asked(alice)
        decide(request, officers[0])
        approvals.withdraw(approval_id=request.pk, by=officers[1], reason="Wait for the new figures")
        with time_machine.travel(timezone.now() + timedelta(hours=1)):
            clock.tick()
        assert state_of_message() == MessageState.DRAFT

    def test_what_moved_in_the_cooling_off_is_void(
        self, alice: User, officers: list[User], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ruled(monkeypatch, "delay_minutes: 30")
        request = asked(alice)
        decide(request, officers[0])
        Message.objects.get().audience.members.update(size=5000)
        with time_machine.travel(timezone.now() + timedelta(hours=1)):
            clock.tick()
        request.refresh_from_db()
        assert (request.state, state_of_message()) == (ApprovalState.VOID, MessageState.DRAFT)

    def test_in_business_hours_only(self, alice: User, officers: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
        hours = ', business_hours: {start: "09:00", end: "18:00", weekdays: [0, 1, 2, 3, 4], time_zone: Asia/Shanghai}'
        ruled(monkeypatch, "business_hours_only: true", hours)
        friday_evening = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)  # 20:00 in Shanghai
        with time_machine.travel(friday_evening):
            request = asked(alice)
            assert decide(request, officers[0]) == ApprovalState.APPROVED
        assert request.execute_at == datetime(2026, 11, 30, 1, 0, tzinfo=UTC)

    def test_the_policy_says_when_it_expires(self, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
        ruled(monkeypatch, "expires_after_hours: 2")
        request = asked(alice)
        assert request.expires_at - request.requested_at == timedelta(hours=2)


class TestBreakGlass:
    def test_one_person_carries_it_out_and_another_reviews_it(
        self, alice: User, admin: User, officers: list[User]
    ) -> None:
        request = asked(alice)
        approvals.break_glass(approval_id=request.pk, by=admin, reason=WHY)
        request.refresh_from_db()
        assert (request.state, request.break_glass_by, request.break_glass_reason) == ("executing", admin, WHY)
        assert state_of_message() == MessageState.RELEASED
        assert list(approvals.unreviewed()) == [request]
        told = AuditEvent.objects.get(what=Event.GLASS_BROKEN)
        assert (told.who_label, told.why) == ("adam", WHY)
        approvals.review(approval_id=request.pk, by=officers[0], reason="It was right")
        assert not approvals.unreviewed().exists()
        with pytest.raises(WrongState):
            approvals.review(approval_id=request.pk, by=officers[1], reason="Again")

    def test_who_broke_it_or_asked_for_it_cannot_review(self, admin: User) -> None:
        both = people.person("both", roles.AUTHOR, roles.OFFICER)
        request = asked(both)
        admin.groups.add(Group.objects.get(name=roles.OFFICER))
        approvals.break_glass(approval_id=request.pk, by=admin, reason=WHY)
        for person in (admin, both):
            with pytest.raises(FourEyesViolation):
                approvals.review(approval_id=request.pk, by=User.objects.get(pk=person.pk), reason="Fine")
        with pytest.raises(DatabaseError), transaction.atomic():
            ApprovalRequest.objects.update(reviewed_by=admin, reviewed_at=timezone.now(), review="Fine")

    def test_it_takes_the_right_a_long_reason_and_a_request_that_waits(
        self, alice: User, admin: User, officers: list[User]
    ) -> None:
        request = asked(alice)
        with pytest.raises(NotPermitted):
            approvals.break_glass(approval_id=request.pk, by=officers[0], reason=WHY)
        with pytest.raises(ReasonRequired):
            approvals.break_glass(approval_id=request.pk, by=admin, reason="Urgent!")
        decide(request, officers[0], Verdict.DENY, "No")
        with pytest.raises(AlreadyDecided):
            approvals.break_glass(approval_id=request.pk, by=admin, reason=WHY)
        assert AuditEvent.objects.filter(what=Event.APPROVAL_REFUSED, outcome="refused").count() == 3

    def test_what_stands_written_is_not_taken_back(self, alice: User, admin: User) -> None:
        request = asked(alice)
        approvals.break_glass(approval_id=request.pk, by=admin, reason=WHY)
        for change in ({"break_glass_by": None}, {"break_glass_reason": "It was a test"}):
            with pytest.raises(DatabaseError), transaction.atomic():
                ApprovalRequest.objects.filter(pk=request.pk).update(**change)
