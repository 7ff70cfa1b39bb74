"""What has served its purpose goes; what something still needs, or a hold names, stays."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone
from django_q.models import OrmQ, Task

from audit.models import AuditEvent, AuditHold
from tests import people, world
from workflows import tasks
from workflows.domain.states import DeliveryState, MessageState, OfferState, RunState
from workflows.models import (
    Delivery,
    DeliveryAttempt,
    Digest,
    DigestEntry,
    Item,
    Message,
    MessagePart,
    Run,
    Source,
    Workflow,
)
from workflows.services import housekeeping

pytestmark = pytest.mark.django_db

OLD = timedelta(days=400)


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def flow(alice: User) -> Workflow:
    return world.workflow(alice, world.audience(world.robot(alice)), "https://news.example/feed", max_age_days=7)


def keep_house() -> None:
    assert housekeeping.keep_house(timezone.now())


def hold(**criteria: object) -> None:
    facts = {"reason": "Case 7", "owner": "Legal", "placed_by": "olivia", "placed_at": timezone.now()}
    AuditHold.objects.create(**facts, **criteria)


def run(flow: Workflow, *, age: timedelta = OLD, state: RunState = RunState.SUCCEEDED) -> Run:
    at, key = timezone.now() - age, uuid.uuid4()
    return Run.objects.create(
        workflow=flow, run_key=str(key), digest_kind="update", due_at=at, state=state, finished_at=at, request_id=key
    )


def digest(of: Run, *offers: Item, state: OfferState = OfferState.RELEASED) -> Digest:
    made = Digest.objects.create(run=of, workflow=of.workflow, kind="update", content={}, created_at=of.due_at)
    for item in offers:
        DigestEntry.objects.create(digest=made, workflow=of.workflow, item=item, kind="update", state=state)
    return made


def item(title: str, *, age: timedelta = OLD) -> Item:
    made = world.item(Source.objects.get(), title, seen_at=timezone.now() - age)
    made.published_at = made.first_seen_at
    made.save()
    return made


def sent(flow: Workflow, author: User, *, age: timedelta = OLD, state: DeliveryState = DeliveryState.SENT) -> Message:
    assert flow.audience is not None
    at = timezone.now() - age
    message = world.message(author, flow.audience, subject=str(uuid.uuid4()))
    Message.objects.filter(pk=message.pk).update(
        state=MessageState.SENT, finished_at=at, request_id=uuid.uuid4(), released_at=at
    )
    part = MessagePart.objects.create(message=message, kind="wecom_robot", rendition=1, number=1, of=1, text="Hello")
    channel = flow.audience.members.get().channel
    delivery = Delivery.objects.create(message=message, channel=channel, recipient="Group", part=part, state=state)
    DeliveryAttempt.objects.create(delivery=delivery, number=1, started_at=at)
    message.refresh_from_db()
    return message


class TestDeliveries:
    def test_old_ones_go_and_their_message_stays(self, flow: Workflow, alice: User) -> None:
        message = sent(flow, alice)
        keep_house()
        assert Message.objects.filter(pk=message.pk).exists()
        assert not Delivery.objects.exists()
        assert not DeliveryAttempt.objects.exists()
        assert not MessagePart.objects.exists()

    def test_young_ones_stay(self, flow: Workflow, alice: User) -> None:
        sent(flow, alice, age=timedelta(days=100))
        keep_house()
        assert Delivery.objects.count() == MessagePart.objects.count() == 1

    def test_an_unknown_outcome_is_never_removed(self, flow: Workflow, alice: User) -> None:
        sent(flow, alice, state=DeliveryState.UNKNOWN)
        keep_house()
        assert Delivery.objects.count() == MessagePart.objects.count() == 1

    def test_nothing_of_an_unfinished_message_is_removed(self, flow: Workflow, alice: User) -> None:
        Message.objects.filter(pk=sent(flow, alice).pk).update(state=MessageState.RELEASED)
        keep_house()
        assert Delivery.objects.count() == 1

    @pytest.mark.parametrize("by", ["message", "request", "kind"])
    def test_a_hold_keeps_them(self, flow: Workflow, alice: User, by: str) -> None:
        kept, gone = sent(flow, alice), sent(flow, alice)
        if by == "request":
            hold(request_id=kept.request_id)
        else:
            hold(target_type="workflows.message", target_id=str(kept.pk) if by == "message" else "")
        keep_house()
        assert Delivery.objects.filter(message=kept).exists()
        assert MessagePart.objects.filter(message=kept).exists()
        assert Delivery.objects.filter(message=gone).exists() is (by == "kind")

    def test_a_hold_on_their_workflow_keeps_them(self, flow: Workflow, alice: User) -> None:
        kept, gone = sent(flow, alice), sent(flow, alice)
        Message.objects.filter(pk=kept.pk).update(workflow=flow)
        hold(target_type="workflows.workflow", target_id=str(flow.pk))
        keep_house()
        assert Delivery.objects.filter(message=kept).exists()
        assert not Delivery.objects.filter(message=gone).exists()


class TestRuns:
    def test_old_ones_go_with_a_digest_that_led_to_nothing(self, flow: Workflow) -> None:
        digest(run(flow), item("A"))
        young = run(flow, age=timedelta(days=10))
        keep_house()
        assert list(Run.objects.all()) == [young]
        assert not Digest.objects.exists()

    def test_one_whose_digest_became_a_message_stays(self, flow: Workflow, alice: User) -> None:
        made = digest(run(flow))
        Message.objects.filter(pk=sent(flow, alice).pk).update(digest=made)
        keep_house()
        assert Run.objects.count() == Digest.objects.count() == 1

    @pytest.mark.parametrize("state", [OfferState.OFFERED, OfferState.SETTLED, OfferState.DISMISSED])
    def test_what_was_offered_is_remembered(self, flow: Workflow, state: OfferState) -> None:
        digest(run(flow), item("A"), state=state)
        keep_house()
        assert Run.objects.count() == Item.objects.count() == 1

    def test_an_active_one_stays(self, flow: Workflow) -> None:
        run(flow, state=RunState.RUNNING)
        keep_house()
        assert Run.objects.count() == 1

    @pytest.mark.parametrize("kind", ["workflows.run", "workflows.workflow"])
    def test_a_hold_keeps_it(self, flow: Workflow, kind: str) -> None:
        kept = run(flow)
        hold(target_type=kind, target_id=str(kept.pk if kind == "workflows.run" else flow.pk))
        keep_house()
        assert Run.objects.filter(pk=kept.pk).exists()


class TestItems:
    def test_one_that_is_too_old_to_be_offered_goes(self, flow: Workflow) -> None:
        item("A")
        young = item("B", age=timedelta(days=10))
        keep_house()
        assert list(Item.objects.all()) == [young]

    def test_one_without_a_date_stays_because_it_would_come_back_as_new(self, flow: Workflow) -> None:
        Item.objects.filter(pk=item("A").pk).update(published_at=None)
        keep_house()
        assert Item.objects.count() == 1

    @pytest.mark.parametrize("days", [None, 91])
    def test_one_that_a_workflow_may_still_offer_stays(self, flow: Workflow, days: int | None) -> None:
        Workflow.objects.update(max_age_days=days)
        item("A")
        keep_house()
        assert Item.objects.count() == 1

    def test_a_hold_on_its_source_keeps_it(self, flow: Workflow) -> None:
        hold(target_type="workflows.source", target_id=str(item("A").source_id))
        keep_house()
        assert Item.objects.count() == 1


class TestTheQueueAndSessions:
    def test_finished_tasks_go_and_waiting_ones_stay(self) -> None:
        now = timezone.now()
        for name, age in (("old", 8), ("young", 6)):
            at = now - timedelta(days=age)
            Task.objects.create(id=name, name=name, func="f", started=at, stopped=at)
        OrmQ.objects.create(key="k", payload="p", lock=now - OLD)
        keep_house()
        assert list(Task.objects.values_list("name", flat=True)) == ["young"]
        assert OrmQ.objects.count() == 1

    def test_expired_sessions_go(self) -> None:
        for key, days in (("old", -1), ("young", 1)):
            Session.objects.create(session_key=key, session_data="", expire_date=timezone.now() + timedelta(days=days))
        keep_house()
        assert list(Session.objects.values_list("session_key", flat=True)) == ["young"]
        assert AuditEvent.objects.get(what="trail.house_kept").why == "expired"


def test_it_is_recorded_when_something_was_removed(flow: Workflow) -> None:
    for _ in range(3):
        run(flow)
    keep_house()
    keep_house()
    told = [(event.facts, event.why) for event in AuditEvent.objects.filter(what="trail.house_kept")]
    assert told == [({"what": "runs", "removed": 3}, "older than 90 days")]


def test_batches_walk_past_what_is_held(flow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    runs = [run(flow) for _ in range(7)]
    for kept in runs[:4]:
        hold(target_type="workflows.run", target_id=str(kept.pk))
    keep_house()
    assert set(Run.objects.all()) == set(runs[:4])


def test_out_of_time_it_stops_and_says_so(flow: Workflow) -> None:
    run(flow)
    assert housekeeping.keep_house(timezone.now(), until=0) is False
    assert Run.objects.count() == 1


class TestTheNight:
    CAUSE = {"request_id": str(uuid.uuid4()), "on_behalf_of": ""}

    def test_a_work_that_fails_is_told_and_does_not_stop_the_others(
        self, flow: Workflow, settings: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
    ) -> None:
        run(flow)
        settings.AUDIT_ARCHIVE_DIR = None  # type: ignore[attr-defined]
        tasks.clean_up(1, self.CAUSE)
        assert "the night could not finish" in caplog.text
        assert Run.objects.count() == 0

    def test_what_is_not_finished_is_taken_up_again(self, flow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tasks, "_TURN_SECONDS", 0)
        run(flow)
        tasks.clean_up(1, self.CAUSE)
        assert Run.objects.count() == 1
        assert OrmQ.objects.get().name() == "clean_up-2"

    def test_the_night_begins_the_first_turn(self) -> None:
        tasks.nightly()
        assert {task.name() for task in OrmQ.objects.all()} == {"clean_up-1", "verify-1"}
        tasks.clean_up(1, self.CAUSE)
        assert OrmQ.objects.count() == 2
