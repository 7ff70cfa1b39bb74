"""A standing approval covers what was shown, for its period, within its bounds; anything else is decided one by one."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.contrib.auth.models import User
from django.utils import timezone

from audit import completeness
from audit.models import AuditEvent
from tests import people, world
from tests.services.test_configuration import CHANGES
from workflows.domain.errors import Invalid, NotPermitted, ReasonRequired, WorkflowError, WrongState
from workflows.domain.states import ApprovalState, DeliveryState, MessageState, RunState, Verdict
from workflows.models import (
    ApprovalRequest,
    Cadence,
    Delivery,
    Item,
    Message,
    Run,
    Source,
    StandingApproval,
    Workflow,
    WorkflowVersion,
)
from workflows.services import approvals, delivery, digests, ledger, messages, standing

pytestmark = pytest.mark.django_db

DAYS = timedelta(days=30)


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def olivia() -> User:
    return people.olivia()


@pytest.fixture
def flow(alice: User) -> Workflow:
    return active_workflow(alice)


def active_workflow(owner: User) -> Workflow:
    found = world.workflow(owner, world.audience(world.robot(owner)), "http://127.0.0.1:9/feed", max_age_days=7)
    Workflow.objects.filter(pk=found.pk).update(state="active")
    Cadence.objects.create(workflow=found)
    return Workflow.objects.get(pk=found.pk)


def asked(flow: Workflow, by: User, *, lasts: timedelta = DAYS, a_day: int = 2) -> StandingApproval:
    return standing.ask(
        workflow=flow, by=by, until=timezone.now() + lasts, messages_per_day=a_day, reason="Every two hours"
    )


def decided(found: StandingApproval, by: User, verdict: Verdict = Verdict.APPROVE) -> StandingApproval:
    request = ApprovalRequest.objects.get(action="standing_approval", subject_id=str(found.pk))
    approvals.decide(approval_id=request.pk, verdict=verdict, by=by, reason="Looked at it")
    found.refresh_from_db()
    return found


@pytest.fixture
def granted(flow: Workflow, alice: User, olivia: User) -> StandingApproval:
    return decided(asked(flow, alice), olivia)


def digest_message(flow: Workflow) -> Message:
    """A draft that carries a digest, as a run makes it."""
    number = Run.objects.count() + 1
    news = world.item(Source.objects.get(), f"news-{number}", seen_at=timezone.now())
    Item.objects.filter(pk=news.pk).update(content_hash=f"{number:064x}")
    run = Run.objects.create(
        workflow=flow,
        run_key=f"test-{number}",
        digest_kind="update",
        due_at=timezone.now(),
        state=RunState.SUCCEEDED,
        request_id=uuid4(),
    )
    digest = digests.curate(run)
    assert digest is not None
    return messages.from_digest(digest)


def submitted(flow: Workflow) -> Message:
    draft = digest_message(Workflow.objects.get(pk=flow.pk))
    return messages.submit_digest(draft, requested_by=flow.owner)


def ended(found: StandingApproval) -> str:
    found.refresh_from_db()
    assert found.ended_at is not None
    return found.ended_why


class TestAsking:
    def test_waits_for_a_second_person_who_sees_the_whole_configuration(self, flow: Workflow, alice: User) -> None:
        found = asked(flow, alice)
        request = ApprovalRequest.objects.get()
        assert (request.action, request.state) == ("standing_approval", ApprovalState.PENDING)
        assert (request.requested_by, request.authored_by, request.size) == (alice, alice, 180)
        assert request.preview["messages_per_day"] == 2
        assert request.preview["configuration"]["sources"][0]["config"]["url"] == "http://127.0.0.1:9/feed"
        assert found.granted_at is None
        assert WorkflowVersion.objects.get().digest == found.configuration_digest

    def test_covers_nothing_before_it_is_granted(self, flow: Workflow, alice: User) -> None:
        asked(flow, alice)
        message = submitted(flow)
        assert message.state == MessageState.PENDING
        assert "tanding" not in message.gate

    def test_needs_its_right(self, flow: Workflow, olivia: User) -> None:
        with pytest.raises(NotPermitted):
            asked(flow, olivia)

    def test_needs_a_reason(self, flow: Workflow, alice: User) -> None:
        with pytest.raises(ReasonRequired):
            standing.ask(workflow=flow, by=alice, until=timezone.now() + DAYS, messages_per_day=1, reason=" ")

    @pytest.mark.parametrize("lasts", [timedelta(), timedelta(days=-1), timedelta(days=92, seconds=1)])
    def test_has_a_period_of_at_most_92_days(self, flow: Workflow, alice: User, lasts: timedelta) -> None:
        with pytest.raises(Invalid) as error, time_machine.travel(timezone.now(), tick=False):
            asked(flow, alice, lasts=lasts)
        assert error.value.field == "until"

    def test_may_last_92_days(self, flow: Workflow, alice: User) -> None:
        with time_machine.travel(timezone.now(), tick=False):
            asked(flow, alice, lasts=timedelta(days=92))

    @pytest.mark.parametrize("a_day", [0, -1, 101])
    def test_has_a_bound_of_messages(self, flow: Workflow, alice: User, a_day: int) -> None:
        with pytest.raises(Invalid) as error:
            asked(flow, alice, a_day=a_day)
        assert error.value.field == "messages_per_day"

    def test_is_about_a_workflow_in_service(self, flow: Workflow, alice: User) -> None:
        Workflow.objects.update(state="draft")
        with pytest.raises(WrongState):
            asked(flow, alice)

    def test_is_possible_once_at_a_time(self, flow: Workflow, alice: User, granted: StandingApproval) -> None:
        with pytest.raises(WrongState):
            asked(flow, alice)

    def test_is_possible_anew_once_the_period_is_over(
        self, flow: Workflow, alice: User, granted: StandingApproval
    ) -> None:
        with time_machine.travel(granted.valid_until, tick=False):
            asked(flow, alice)
        assert ended(granted) == "its period is over"

    def test_is_as_strict_as_each_of_its_messages(
        self, flow: Workflow, alice: User, set_policy: Callable[[str], None]
    ) -> None:
        set_policy(
            "security: {actions: {rules: {mass_send: {quorum: 2, second_approval_above: 100, group: Auditors}}}}"
        )
        asked(flow, alice)
        request = ApprovalRequest.objects.get()
        assert (request.quorum, request.eligible_group) == (3, "Auditors")

    def test_bars_the_owner_of_the_workflow_and_who_asked(self, flow: Workflow, olivia: User) -> None:
        author_too = people.person("both", "Workflow authors", "Compliance officers")
        Workflow.objects.update(owner=olivia)
        flow.refresh_from_db()
        asked(flow, author_too)
        request = ApprovalRequest.objects.get()
        assert all(approvals.why_barred(request, person) is not None for person in (olivia, author_too))


class TestDeciding:
    def test_grants_it(self, granted: StandingApproval) -> None:
        assert granted.granted_at is not None
        assert ApprovalRequest.objects.get().state == ApprovalState.EXECUTED

    def test_denied(self, flow: Workflow, alice: User, olivia: User) -> None:
        found = decided(asked(flow, alice), olivia, Verdict.DENY)
        assert (found.granted_at, ended(found)) == (None, "denied: Looked at it")

    def test_withdrawn(self, flow: Workflow, alice: User) -> None:
        found = asked(flow, alice)
        approvals.withdraw(approval_id=ApprovalRequest.objects.get().pk, by=alice, reason="Later")
        assert ended(found) == "Withdrawn: Later"

    def test_expired(self, flow: Workflow, alice: User) -> None:
        found = asked(flow, alice)
        request = ApprovalRequest.objects.get()
        with time_machine.travel(request.expires_at, tick=False):
            approvals.expire(request.pk)
        assert ended(found).startswith("Expired")

    @pytest.mark.parametrize("name", CHANGES)
    def test_a_configuration_that_moved_voids_it(self, flow: Workflow, alice: User, olivia: User, name: str) -> None:
        found = asked(flow, alice)
        CHANGES[name](flow)
        with pytest.raises(WorkflowError):
            decided(found, olivia)
        assert ended(found).startswith("Void")
        assert ApprovalRequest.objects.get().state == ApprovalState.VOID

    def test_after_its_period_voids_it(self, flow: Workflow, alice: User, olivia: User) -> None:
        found = asked(flow, alice, lasts=timedelta(hours=1))
        with time_machine.travel(found.valid_until, tick=False), pytest.raises(WorkflowError):
            decided(found, olivia)
        assert "its period is over" in ended(found)


class TestCovering:
    def test_releases_at_once_and_says_under_what(self, flow: Workflow, granted: StandingApproval) -> None:
        message = submitted(flow)
        assert (message.state, message.standing_approval) == (MessageState.RELEASED, granted)
        assert message.gate == f"Open: standing approval {granted.pk} (1 of 2 today)"
        assert message.needs_approval
        assert not ApprovalRequest.objects.filter(action="mass_send").exists()
        assert ledger.claim(message.pk) is not None
        event = AuditEvent.objects.get(what="standing.used")
        assert (event.target_id, event.facts["standing_approval"]) == (str(message.pk), granted.pk)

    def test_ends_with_the_days_last_message(self, flow: Workflow, granted: StandingApproval) -> None:
        with time_machine.travel(granted.asked_at, tick=True):
            states = [submitted(flow).state for _ in range(3)]
            last = Message.objects.first()
        assert states == [MessageState.RELEASED, MessageState.RELEASED, MessageState.PENDING]
        assert last is not None
        assert last.gate.endswith(f"Standing approval {granted.pk}: 2 of 2 messages today are used up.")
        assert ApprovalRequest.objects.get(action="mass_send").subject_id == str(last.pk)

    def test_counts_the_days_of_the_workflows_time_zone(self, flow: Workflow, alice: User, olivia: User) -> None:
        before_midnight = datetime.fromisoformat("2026-03-02T23:59:00+08:00")
        with time_machine.travel(before_midnight, tick=False):
            decided(asked(flow, alice, a_day=1), olivia)
            assert submitted(flow).state == MessageState.RELEASED
            assert submitted(flow).state == MessageState.PENDING
        with time_machine.travel(before_midnight + timedelta(minutes=1), tick=False):
            assert submitted(flow).state == MessageState.RELEASED

    def test_is_over_at_its_very_end(self, flow: Workflow, granted: StandingApproval) -> None:
        with time_machine.travel(granted.valid_until - timedelta(seconds=1), tick=False):
            assert submitted(flow).state == MessageState.RELEASED
        with time_machine.travel(granted.valid_until, tick=False):
            message = submitted(flow)
        assert message.state == MessageState.PENDING
        assert message.gate.endswith(f"Standing approval {granted.pk}: its period is over.")
        assert ended(granted) == "its period is over"

    # What the message itself cannot be made with any more is refused before any gate.
    @pytest.mark.parametrize("name", sorted(CHANGES.keys() - {"channel switched off", "member removed"}))
    def test_every_change_of_the_configuration_ends_it(
        self, flow: Workflow, granted: StandingApproval, name: str
    ) -> None:
        CHANGES[name](flow)
        now = Workflow.objects.get(pk=flow.pk)
        cover = standing.covering(now, timezone.now())
        assert (cover.standing, cover.text) == (
            None,
            f"Standing approval {granted.pk} has ended: the configuration changed.",
        )
        assert ended(granted) == "the configuration changed"
        assert AuditEvent.objects.filter(what="standing.ended", target_id=str(granted.pk)).count() == 1

    def test_a_message_after_a_change_is_decided_by_itself(self, flow: Workflow, granted: StandingApproval) -> None:
        Workflow.objects.update(max_entries=9)
        message = submitted(flow)
        assert (message.state, message.standing_approval) == (MessageState.PENDING, None)
        assert message.gate.endswith(f"Standing approval {granted.pk} has ended: the configuration changed.")

    def test_covers_no_other_audience_than_the_workflows(self, flow: Workflow, granted: StandingApproval) -> None:
        draft = digest_message(flow)
        other = world.audience(world.robot(flow.owner, name="Other"), name="Others")
        Message.objects.filter(pk=draft.pk).update(audience=other)
        assert messages.submit_digest(draft, requested_by=flow.owner).state == MessageState.PENDING

    def test_covers_nothing_that_a_person_submits(self, flow: Workflow, granted: StandingApproval, alice: User) -> None:
        draft = digest_message(flow)
        assert messages.submit(message_id=draft.pk, by=alice).state == MessageState.PENDING

    def test_covers_no_other_workflow(self, flow: Workflow, granted: StandingApproval, alice: User) -> None:
        other = Workflow.objects.create(name="Other", goal="g", owner=alice, audience=flow.audience, state="active")
        other.sources.set(flow.sources.all())
        message = submitted(other)
        assert message.state == MessageState.PENDING
        assert "tanding approval" not in message.gate

    def test_is_not_used_up_by_what_needs_no_approval(self, flow: Workflow, alice: User, olivia: User) -> None:
        flow.audience.members.update(size=3)  # type: ignore[union-attr]
        decided(asked(flow, alice), olivia)
        message = submitted(flow)
        assert (message.standing_approval, message.needs_approval) == (None, False)


class TestRevoking:
    def test_stops_what_has_not_left(self, flow: Workflow, granted: StandingApproval, olivia: User) -> None:
        message = submitted(flow)
        standing.revoke(standing_id=granted.pk, by=olivia, reason="Too much")
        assert delivery.dispatch(message.pk) == 0
        message.refresh_from_db()
        assert message.state == MessageState.CANCELLED
        row = Delivery.objects.get()
        assert (row.state, row.attempts) == (DeliveryState.CANCELLED, 0)
        assert ended(granted) == "revoked by olivia: Too much"
        assert submitted(flow).state == MessageState.PENDING

    def test_needs_its_right(self, granted: StandingApproval, alice: User) -> None:
        with pytest.raises(NotPermitted):
            standing.revoke(standing_id=granted.pk, by=alice, reason="Too much")

    def test_needs_a_reason(self, granted: StandingApproval, olivia: User) -> None:
        with pytest.raises(ReasonRequired):
            standing.revoke(standing_id=granted.pk, by=olivia, reason="")

    def test_happens_once(self, granted: StandingApproval, olivia: User) -> None:
        standing.revoke(standing_id=granted.pk, by=olivia, reason="Too much")
        with pytest.raises(WrongState):
            standing.revoke(standing_id=granted.pk, by=olivia, reason="Too much")

    def test_is_for_what_was_granted(self, flow: Workflow, alice: User, olivia: User) -> None:
        with pytest.raises(WrongState):
            standing.revoke(standing_id=asked(flow, alice).pk, by=olivia, reason="Too much")


class TestTheLastLook:
    """Somebody writes into the rows between release and sending."""

    @pytest.fixture
    def message(self, flow: Workflow, granted: StandingApproval) -> Message:
        return submitted(flow)

    def leaves(self, message: Message) -> bool:
        return ledger.claim(message.pk) is not None

    def test_as_it_was_released(self, message: Message) -> None:
        assert self.leaves(message)

    def test_other_content(self, message: Message) -> None:
        Message.objects.update(content_digest="0" * 64)
        assert not self.leaves(message)

    def test_another_standing_approval(self, message: Message, alice: User, granted: StandingApproval) -> None:
        other = Workflow.objects.create(name="Other", goal="g", owner=alice)
        StandingApproval.objects.update(workflow=other)
        assert not self.leaves(message)

    def test_one_that_was_not_granted(self, message: Message) -> None:
        StandingApproval.objects.update(granted_at=None)
        assert not self.leaves(message)

    def test_one_whose_period_is_over(self, message: Message, granted: StandingApproval) -> None:
        with time_machine.travel(granted.valid_until, tick=False):
            assert not self.leaves(message)

    def test_one_that_nobody_decided_on(self, flow: Workflow, alice: User) -> None:
        found = asked(flow, alice)
        StandingApproval.objects.update(granted_at=timezone.now())
        message = submitted(flow)
        assert message.standing_approval == found
        assert not self.leaves(message)


def incomplete() -> list[str]:
    (result,) = [result for result in completeness.run(timezone.now()) if result.check.name == "execution"]
    return [f"{finding.where} {finding.what}" for finding in result.findings]


class TestCompleteness:
    @pytest.fixture
    def message(self, flow: Workflow, granted: StandingApproval) -> Message:
        return submitted(flow)

    def test_what_is_covered_is_complete(self, message: Message, granted: StandingApproval, olivia: User) -> None:
        assert incomplete() == []
        standing.revoke(standing_id=granted.pk, by=olivia, reason="Too much")
        assert incomplete() == []

    @pytest.mark.parametrize(
        "bent",
        [
            lambda: StandingApproval.objects.update(granted_at=None),
            lambda: StandingApproval.objects.update(granted_at=timezone.now()),
            lambda: StandingApproval.objects.update(ended_at=timezone.now() - timedelta(hours=1), ended_why="x"),
            lambda: StandingApproval.objects.update(valid_until=timezone.now() - timedelta(hours=1)),
            lambda: Message.objects.update(standing_approval=None),
            lambda: Message.objects.update(workflow=None),
        ],
    )
    def test_what_is_not_covered_is_found(self, message: Message, bent: Callable[[], object]) -> None:
        bent()
        assert incomplete() == [f"message {message.pk} was released without the approval that it needed"]

    def test_more_than_the_days_messages_are_found(
        self, flow: Workflow, message: Message, granted: StandingApproval
    ) -> None:
        second = submitted(flow)
        StandingApproval.objects.update(messages_per_day=1)
        assert incomplete() == [f"message {second.pk} was released without the approval that it needed"]

    def test_a_standing_approval_that_nobody_decided_on_is_found(self, flow: Workflow, alice: User) -> None:
        asked(flow, alice)
        StandingApproval.objects.update(granted_at=timezone.now())
        message = submitted(flow)
        assert incomplete() == [f"message {message.pk} was released without the approval that it needed"]


def test_its_life_is_on_the_trail(flow: Workflow, granted: StandingApproval, olivia: User) -> None:
    standing.revoke(standing_id=granted.pk, by=olivia, reason="Too much")
    told = AuditEvent.objects.filter(target_type="workflows.standingapproval").order_by("id")
    assert list(told.values_list("what", "who_label")) == [
        ("standing.asked", "alice"),
        ("standing.granted", "olivia"),
        ("standing.ended", "olivia"),
    ]
