"""Each way round the second person, or into silence, that a reviewer found: closed."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from audit.models import AuditEvent
from compliance_bot.guardrails import secrets as stores
from compliance_bot.sandbox import Sandbox
from tests import people, world
from tests.services.test_runs import MONDAY_NINE
from workflows import roles, triggers
from workflows.domain.errors import Expired, Invalid, NotPermitted, StaleContent
from workflows.domain.states import MessageState, OfferState, RunState, Verdict
from workflows.models import (
    ApprovalRequest,
    AudienceMember,
    Cadence,
    Channel,
    ChannelSecret,
    Delivery,
    DigestEntry,
    Message,
    Run,
    SecretRef,
    Source,
    Workflow,
)
from workflows.services import approvals, clock, delivery, ledger, messages, runs, schedule

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


def released(author: User, base_url: str) -> Message:
    draft = world.message(author, world.audience(world.robot(author, base_url), size=3))
    return messages.submit(message_id=draft.pk, by=author)


class TestTheGate:
    def test_a_person_behind_a_group_robot_is_the_whole_group(self, alice: User) -> None:
        to = world.audience(world.robot(alice), size=3)
        member = AudienceMember(audience=to, channel=Channel.objects.get(), label="Bob", address="bob", size=1)
        member.is_group = False
        with pytest.raises(ValidationError, match="A group robot speaks to its whole group"):
            member.full_clean()
        member.save()  # round the form
        message = messages.submit(message_id=world.message(alice, to).pk, by=alice)
        assert message.state == MessageState.PENDING
        assert message.people is None

    def test_a_group_of_nobody_is_refused(self, alice: User) -> None:
        to = world.audience(world.robot(alice))
        with pytest.raises(IntegrityError), transaction.atomic():
            to.members.update(size=0)

    def test_whoever_starts_a_run_asked_for_what_it_sends(self, wecom: Sandbox, alice: User) -> None:
        both = people.person("both", roles.AUTHOR, roles.OFFICER)
        to = world.audience(world.robot(alice, wecom.url))
        flow = world.workflow(alice, to, f"{wecom.url}/news/gazette.atom")
        run = runs.run_now(workflow=flow, by=both, digest_kind="update")
        runs.execute(run.pk)
        request = ApprovalRequest.objects.get()
        assert (request.requested_by, request.authored_by) == (both, alice)
        assert approvals.why_barred(request, both) is not None


class TestTheDestination:
    def test_a_value_replaced_in_a_store_that_knows_no_dates_sends_nothing(
        self, wecom: Sandbox, alice: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_ENV_ROBOT", "the-approved-group")
        secret = SecretRef.objects.create(name="env-robot", store="environment", owner=alice)
        channel = Channel.objects.create(name="E", config={"base_url": wecom.url})
        ChannelSecret.objects.create(channel=channel, field="key", secret=secret)
        draft = world.message(alice, world.audience(channel, size=3))
        message = messages.submit(message_id=draft.pk, by=alice)
        monkeypatch.setenv("SECRET_ENV_ROBOT", "another-group")
        delivery.dispatch(message.pk)
        assert wecom.wecom.messages() == []
        assert Delivery.objects.get().code == "channel_changed"

    def test_a_value_whose_record_was_rolled_back_sends_nothing(self, wecom: Sandbox, alice: User) -> None:
        message = released(alice, wecom.url)
        stores.get("local").write(SecretRef.objects.get().name, "another-group")  # as a crash before commit leaves it
        delivery.dispatch(message.pk)
        assert wecom.wecom.messages() == []

    def test_a_channel_that_is_off_for_a_while_holds_what_was_approved(self, wecom: Sandbox, alice: User) -> None:
        message = released(alice, wecom.url)
        channel = Channel.objects.get()
        Channel.objects.update(enabled=False)
        assert delivery.dispatch(message.pk) == 0
        Channel.objects.update(enabled=True)
        delivery.resume(channel)
        clock.tick()
        delivery.dispatch(message.pk)
        assert len(wecom.wecom.messages()) == 1

    def test_a_configuration_that_no_longer_fits_is_refused_before_approval(self, alice: User) -> None:
        draft = world.message(alice, world.audience(world.robot(alice)))
        Channel.objects.update(config={})
        with pytest.raises(Invalid, match="is not configured: base_url"):
            messages.submit(message_id=draft.pk, by=alice)

    def test_a_kind_that_is_not_installed_is_refused_before_approval(self, alice: User) -> None:
        draft = world.message(alice, world.audience(world.robot(alice)))
        Channel.objects.update(kind="telepathy")
        with pytest.raises(Invalid, match="no channel of kind 'telepathy'"):
            messages.submit(message_id=draft.pk, by=alice)


class TestThePreview:
    def test_a_preview_that_was_swapped_in_the_database_cannot_be_approved(self, alice: User) -> None:
        messages.submit(message_id=world.message(alice, world.audience(world.robot(alice))).pk, by=alice)
        request = ApprovalRequest.objects.get()
        triggers.GUARDS.remove(connection)  # until this test is rolled back
        ApprovalRequest.objects.update(
            preview={**request.preview, "renditions": [{**request.preview["renditions"][0], "texts": ["Harmless"]}]}
        )
        with pytest.raises(StaleContent, match="the preview is not what was asked for"):
            approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=people.olivia(), reason="")
        assert not Delivery.objects.exists()

    def test_the_database_keeps_subject_and_time_of_a_request(self, alice: User) -> None:
        messages.submit(message_id=world.message(alice, world.audience(world.robot(alice))).pk, by=alice)
        for change in ({"subject_id": "99"}, {"expires_at": timezone.now() + timedelta(days=9)}):
            with pytest.raises(DatabaseError, match="stays"), transaction.atomic():
                ApprovalRequest.objects.update(**change)


class TestTheClock:
    def test_one_bad_row_does_not_stop_the_others(self, wecom: Sandbox, alice: User) -> None:
        message = released(alice, wecom.url)
        flow = world.workflow(alice, message.audience, "http://127.0.0.1:9/feed")
        Workflow.objects.filter(pk=flow.pk).update(state="active", time_zone="Mars/Olympus")
        Cadence.objects.create(workflow=flow, next_run_at=timezone.now())
        past = timezone.now() - timedelta(seconds=1)
        Message.objects.update(next_attempt_at=past)
        clock.tick()
        message.refresh_from_db()
        assert message.next_attempt_at is not None
        assert message.next_attempt_at > past

    def test_an_instant_that_had_its_run_does_not_stop_the_rhythm(self, alice: User) -> None:
        flow = world.workflow(alice, world.audience(world.robot(alice)), "http://127.0.0.1:9/feed")
        cadence = Cadence.objects.create(workflow=flow, next_run_at=MONDAY_NINE)
        assert runs.start_due(cadence.pk, MONDAY_NINE) is not None
        Run.objects.update(state=RunState.SUCCEEDED)
        Cadence.objects.update(next_run_at=MONDAY_NINE)  # a host whose clock is behind has planned anew
        assert runs.start_due(cadence.pk, MONDAY_NINE) is None
        cadence.refresh_from_db()
        assert cadence.next_run_at == MONDAY_NINE + timedelta(hours=2)

    def test_editing_a_workflow_does_not_lose_an_instant_that_is_due(self, alice: User) -> None:
        flow = world.workflow(alice, world.audience(world.robot(alice)), "http://127.0.0.1:9/feed")
        Workflow.objects.update(state="active")
        Cadence.objects.create(workflow=flow, next_run_at=MONDAY_NINE)
        flow.refresh_from_db()
        with time_machine.travel(MONDAY_NINE + timedelta(seconds=1), tick=False):
            schedule.plan(flow)
            clock.tick()
        assert Run.objects.get().due_at == MONDAY_NINE

    def test_a_run_that_starts_late_is_not_taken_for_abandoned(self, alice: User) -> None:
        flow = world.workflow(alice, world.audience(world.robot(alice)), "http://127.0.0.1:9/feed")
        Workflow.objects.update(state="active")
        Cadence.objects.create(workflow=flow, next_run_at=MONDAY_NINE)
        with time_machine.travel(MONDAY_NINE + timedelta(minutes=3), tick=False):
            clock.tick()
            assert not runs.abandoned(timezone.now())

    def test_somebody_comes_back_for_a_row_whose_worker_may_vanish(self, wecom: Sandbox, alice: User) -> None:
        message = released(alice, wecom.url)
        assert ledger.claim(message.pk) is not None
        delivery.dispatch(message.pk)  # a second worker finds nothing to do, and plans
        message.refresh_from_db()
        assert message.next_attempt_at == Delivery.objects.get().lease_until

    def test_what_waits_behind_another_part_does_not_wake_a_worker_each_second(
        self, wecom: Sandbox, alice: User
    ) -> None:
        to = world.audience(world.robot(alice, wecom.url), size=3)
        draft = world.message(alice, to, body="\n\n".join("x" * 3900 for _ in range(3)))
        message = messages.submit(message_id=draft.pk, by=alice)
        assert ledger.claim(message.pk) is not None
        delivery.dispatch(message.pk)
        message.refresh_from_db()
        assert message.next_attempt_at is not None
        assert message.next_attempt_at > timezone.now() + timedelta(seconds=1)


class TestItems:
    @pytest.fixture(autouse=True)
    def _setup(self, wecom: Sandbox, alice: User) -> None:
        self.alice = alice
        to = world.audience(world.robot(alice, wecom.url))
        self.flow = world.workflow(alice, to, f"{wecom.url}/news/gazette.atom")
        Workflow.objects.update(max_entries=3)

    def run(self, kind: str = "update") -> Run:
        run = runs.run_now(workflow=Workflow.objects.get(), by=self.alice, digest_kind=kind)
        runs.execute(run.pk)
        run.refresh_from_db()
        return run

    def offered(self) -> set[str]:
        return set(DigestEntry.objects.values_list("state", flat=True))

    def test_a_digest_that_cannot_be_submitted_frees_its_items(self) -> None:
        Channel.objects.update(enabled=False)
        run = self.run()
        assert run.state == RunState.FAILED
        assert "is switched off" in run.outcome
        assert self.offered() == {OfferState.RELEASED}
        assert Message.objects.get().state == MessageState.CANCELLED

    def test_a_workflow_without_an_audience_frees_its_items(self) -> None:
        Workflow.objects.update(audience=None)
        assert self.run().state == RunState.FAILED
        assert self.offered() == {OfferState.RELEASED}

    def test_a_withdrawn_digest_can_be_thrown_away(self) -> None:
        self.run()
        approvals.withdraw(approval_id=ApprovalRequest.objects.get().pk, by=self.alice, reason="Too early")
        messages.discard(message_id=Message.objects.get().pk, by=self.alice, reason="")
        assert self.offered() == {OfferState.RELEASED}

    def test_a_run_that_is_repeated_does_not_submit_what_was_withdrawn(self) -> None:
        run = self.run()
        approvals.withdraw(approval_id=ApprovalRequest.objects.get().pk, by=self.alice, reason="Too early")
        Run.objects.update(state=RunState.QUEUED)
        runs.execute(run.pk)
        assert Message.objects.get().state == MessageState.DRAFT

    def test_the_summary_leaves_out_what_an_officer_denied(self) -> None:
        run = self.run()
        request = ApprovalRequest.objects.get()
        approvals.decide(approval_id=request.pk, verdict=Verdict.DENY, by=people.olivia(), reason="No")
        Workflow.objects.update(max_entries=50)
        shown = {entry["id"] for entry in self.run("summary").digest.content["entries"]}
        assert not shown & {entry["id"] for entry in run.digest.content["entries"]}

    def test_a_source_with_a_broken_configuration_does_not_stop_the_others(self) -> None:
        self.flow.sources.add(Source.objects.create(name="Broken", config={}))
        run = self.run()
        assert run.state == RunState.SUCCEEDED
        assert "Broken: The source could not be read: KeyError." in run.notes


def test_a_late_decision_lets_time_expire_the_request_not_the_officer(alice: User) -> None:
    messages.submit(message_id=world.message(alice, world.audience(world.robot(alice))).pk, by=alice)
    request = ApprovalRequest.objects.get()
    with time_machine.travel(request.expires_at, tick=False), pytest.raises(Expired):
        approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=people.olivia(), reason="")
    assert AuditEvent.objects.get(what="approval.expired").who_label == "system"


def test_a_channel_whose_adapter_is_gone_certainly_sent_nothing(wecom: Sandbox, alice: User) -> None:
    message = released(alice, wecom.url)
    Channel.objects.update(kind="telepathy")
    delivery.dispatch(message.pk)
    assert Delivery.objects.get().state == "waiting"
    assert Channel.objects.get().broken_at is not None


def test_a_draft_has_one_author_so_nobody_hides_behind_a_later_editor(alice: User) -> None:
    draft = world.message(alice, world.audience(world.robot(alice)))
    draft.body = "Words of a second person"
    with pytest.raises(NotPermitted, match="Only its author edits a message"):
        messages.write(message=draft, by=people.person("both", roles.AUTHOR, roles.OFFICER))
    stored = Message.objects.get()
    assert (stored.author, stored.body) == (alice, "Please read.")
