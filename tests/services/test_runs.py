"""Due instants: each once, never two at a time, never replayed."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import User
from django_q.models import OrmQ

from compliance_bot.sandbox import Sandbox
from tests import people, world
from workflows.domain.errors import Invalid, NotPermitted, WrongState
from workflows.domain.states import RunState, WorkflowState
from workflows.models import Cadence, Digest, DigestEntry, Item, Message, Run, Source, Workflow
from workflows.services import clock, runs, schedule

pytestmark = pytest.mark.django_db

SHANGHAI = ZoneInfo("Asia/Shanghai")
MONDAY_NINE = datetime(2026, 11, 23, 9, 0, tzinfo=SHANGHAI)


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def flow(alice: User) -> Workflow:
    """An active two-hourly workflow, activated on Monday at 8."""
    flow = world.workflow(alice, world.audience(world.robot(alice)), "http://127.0.0.1:9/feed")
    Cadence.objects.create(workflow=flow, every_minutes=120, window_start=time(9), window_end=time(17))
    with time_machine.travel(MONDAY_NINE - timedelta(hours=1), tick=False):
        schedule.activate(workflow=flow, by=alice, reason="Go")
    return flow


def tick_at(instant: datetime) -> None:
    with time_machine.travel(instant, tick=False):
        clock.tick()


def test_nothing_runs_before_its_instant(flow: Workflow) -> None:
    tick_at(MONDAY_NINE - timedelta(milliseconds=1))
    assert not Run.objects.exists()


def test_a_due_instant_starts_one_run_however_often_the_clock_looks(flow: Workflow) -> None:
    for _ in range(3):
        tick_at(MONDAY_NINE)
    run = Run.objects.get()
    assert (run.state, run.due_at) == (RunState.QUEUED, MONDAY_NINE)
    assert OrmQ.objects.count() == 1
    assert Cadence.objects.get().next_run_at == MONDAY_NINE + timedelta(hours=2)


def test_a_run_waits_behind_another_of_its_workflow(flow: Workflow, alice: User) -> None:
    with time_machine.travel(MONDAY_NINE - timedelta(seconds=5), tick=False):
        earlier = runs.run_now(workflow=flow, by=alice, digest_kind="update")
    tick_at(MONDAY_NINE)
    assert Run.objects.count() == 1
    Run.objects.filter(pk=earlier.pk).update(state=RunState.SUCCEEDED, lease_until=None)
    tick_at(MONDAY_NINE + timedelta(seconds=2))
    assert Run.objects.filter(state=RunState.QUEUED, due_at=MONDAY_NINE).count() == 1


def test_what_waits_too_long_behind_another_is_skipped_visibly(flow: Workflow, alice: User) -> None:
    Run.objects.create(
        workflow=flow,
        run_key="endless",
        digest_kind="update",
        due_at=MONDAY_NINE,
        state=RunState.RUNNING,
        request_id="00000000-0000-0000-0000-000000000000",
    )
    tick_at(MONDAY_NINE + runs.GRACE + timedelta(seconds=1))
    assert Run.objects.get(due_at=MONDAY_NINE, cadence__isnull=False).state == RunState.SKIPPED


def test_missed_runs_are_not_replayed_but_leave_a_row(flow: Workflow) -> None:
    friday_afternoon = MONDAY_NINE + timedelta(days=4, hours=4, minutes=30)
    tick_at(friday_afternoon)
    run = Run.objects.get()
    assert (run.state, run.due_at) == (RunState.MISSED, MONDAY_NINE)
    assert Cadence.objects.get().next_run_at == MONDAY_NINE + timedelta(days=4, hours=6)
    assert not OrmQ.objects.exists()


def test_a_paused_workflow_does_not_run(flow: Workflow, alice: User) -> None:
    schedule.pause(workflow=flow, by=alice, reason="Holiday")
    tick_at(MONDAY_NINE)
    assert not Run.objects.exists()


def test_only_who_may_run_workflows_can_start_one(flow: Workflow) -> None:
    with pytest.raises(NotPermitted):
        runs.run_now(workflow=flow, by=people.olivia(), digest_kind="update")


def test_a_running_workflow_cannot_be_started_again(flow: Workflow, alice: User) -> None:
    runs.run_now(workflow=flow, by=alice, digest_kind="update")
    with pytest.raises(WrongState, match="running already"):
        runs.run_now(workflow=flow, by=alice, digest_kind="update")


@pytest.mark.parametrize("lacking", ["sources", "audience"])
def test_a_workflow_is_not_activated_before_it_is_complete(flow: Workflow, alice: User, lacking: str) -> None:
    if lacking == "sources":
        Source.objects.update(enabled=False)
    else:
        assert flow.audience
        flow.audience.members.all().delete()
    with pytest.raises(Invalid) as refused:
        schedule.activate(workflow=flow, by=alice, reason="")
    assert refused.value.field == lacking


def test_a_run_whose_sources_all_fail_says_why(flow: Workflow, alice: User) -> None:
    run = runs.run_now(workflow=flow, by=alice, digest_kind="update")
    runs.execute(run.pk)
    run.refresh_from_db()
    assert run.state == RunState.FAILED
    assert run.outcome == "No source could be read."
    assert run.notes[0].startswith("Source 1: ")
    source = Source.objects.get()
    assert source.failing_since is not None
    assert source.last_error


def test_a_run_whose_worker_vanished_is_handed_out_again_and_finally_given_up(flow: Workflow, alice: User) -> None:
    run = runs.run_now(workflow=flow, by=alice, digest_kind="update")
    now = run.due_at
    for attempt in range(1, runs.MAX_ATTEMPTS + 1):
        Run.objects.update(state=RunState.RUNNING, attempts=attempt, lease_until=now)
        runs.hand_out_again(Run.objects.get(), now)
    run.refresh_from_db()
    assert run.state == RunState.FAILED
    assert "stopped 3 times" in run.outcome
    assert OrmQ.objects.count() == runs.MAX_ATTEMPTS


def test_executing_a_run_twice_makes_one_digest_and_one_message(wecom: Sandbox, alice: User) -> None:
    to = world.audience(world.robot(alice, wecom.url))
    flow = world.workflow(alice, to, f"{wecom.url}/news/regulator.xml")
    run = runs.run_now(workflow=flow, by=alice, digest_kind="update")
    runs.execute(run.pk)
    Run.objects.update(state=RunState.QUEUED)  # as if the worker had died before it could say so
    runs.execute(run.pk)
    assert (Digest.objects.count(), Message.objects.count()) == (1, 1)
    run.refresh_from_db()
    assert run.state == RunState.SUCCEEDED


class TestWhatIsOffered:
    @pytest.fixture(autouse=True)
    def _setup(self, wecom: Sandbox, alice: User) -> None:
        self.alice = alice
        self.flow = world.workflow(
            alice, world.audience(world.robot(alice, wecom.url)), f"{wecom.url}/news/gazette.atom"
        )
        Workflow.objects.update(max_entries=3, state=WorkflowState.ACTIVE)

    def run(self, kind: str = "update") -> set[int]:
        """One run; the items that its digest shows."""
        run = runs.run_now(workflow=Workflow.objects.get(), by=self.alice, digest_kind=kind)
        runs.execute(run.pk)
        return {entry["id"] for entry in Digest.objects.get(run=run).content["entries"]}

    def test_an_item_is_offered_once(self) -> None:
        first, second = self.run(), self.run()
        assert len(first) == len(second) == 3
        assert not first & second

    def test_what_nobody_decided_on_is_offered_again(self) -> None:
        from workflows.models import ApprovalRequest
        from workflows.services import approvals

        first = self.run()
        approvals.expire(ApprovalRequest.objects.get().pk)
        assert self.run() == first

    def test_what_an_officer_denied_is_not_offered_again(self) -> None:
        from workflows.domain.states import Verdict
        from workflows.models import ApprovalRequest
        from workflows.services import approvals

        first = self.run()
        approvals.decide(
            approval_id=ApprovalRequest.objects.get().pk, verdict=Verdict.DENY, by=people.olivia(), reason="No"
        )
        assert not first & self.run()
        assert DigestEntry.objects.filter(state="dismissed").count() >= 3

    def test_the_summary_of_the_day_repeats_what_was_sent(self) -> None:
        first = self.run()
        Workflow.objects.update(max_entries=50)
        assert first <= self.run("summary")

    def test_the_same_story_from_another_source_is_no_news(self) -> None:
        from django.utils import timezone

        self.run()
        shown = Item.objects.filter(offers__isnull=False).first()
        assert shown is not None
        other = Source.objects.create(name="Other", config={"url": "http://127.0.0.1:9/x"})
        Item.objects.create(
            source=other,
            title=shown.title,
            content_hash="other",
            story_hash=shown.story_hash,
            first_seen_at=timezone.now(),
        )
        Workflow.objects.get().sources.set([other])
        run = runs.run_now(workflow=Workflow.objects.get(), by=self.alice, digest_kind="update")
        runs.execute(run.pk)
        assert not Digest.objects.filter(run=run).exists()
