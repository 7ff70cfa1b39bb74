"""Whatever alters what a workflow reads, says, to whom, through what or when alters its digest, and is kept."""

from collections.abc import Callable
from datetime import time

import pytest
from django.contrib.auth.models import User

from audit import context
from tests import people, world
from workflows.domain.changes import Change
from workflows.domain.configuration import compare
from workflows.domain.states import Verdict
from workflows.models import (
    ApprovalRequest,
    AudienceMember,
    Cadence,
    Channel,
    ChannelSecret,
    SecretRef,
    Source,
    Workflow,
    WorkflowVersion,
)
from workflows.services import approvals, changes, configuration, schedule, secrets

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def flow(alice: User) -> Workflow:
    found = world.workflow(alice, world.audience(world.robot(alice)), "http://127.0.0.1:9/feed", max_age_days=7)
    Cadence.objects.create(workflow=found)
    return found


def another_source(flow: Workflow) -> None:
    flow.sources.add(Source.objects.create(name="Another", config={"url": "http://127.0.0.1:9/other"}))


def another_member(flow: Workflow) -> None:
    channel = Channel.objects.create(name="Second")
    assert flow.audience is not None
    AudienceMember.objects.create(audience=flow.audience, channel=channel, label="More", size=3)


def another_audience(flow: Workflow) -> None:
    Workflow.objects.update(audience=world.audience(Channel.objects.get(), name="Others"))


def another_owner(flow: Workflow) -> None:
    Workflow.objects.update(owner=people.person("arthur"))


def another_secret(flow: Workflow) -> None:
    ChannelSecret.objects.update(secret=SecretRef.objects.create(name="other", owner=flow.owner))


def new_value(flow: Workflow) -> None:
    secrets.store(secret=SecretRef.objects.get(), value="leads-elsewhere", by=flow.owner)


CHANGES: dict[str, Callable[[Workflow], object]] = {
    "name": lambda flow: Workflow.objects.update(name="Other"),
    "goal": lambda flow: Workflow.objects.update(goal="Other"),
    "contract": lambda flow: Workflow.objects.update(contract="Other"),
    "state": lambda flow: Workflow.objects.update(state="paused"),
    "time zone": lambda flow: Workflow.objects.update(time_zone="Europe/Berlin"),
    "language": lambda flow: Workflow.objects.update(language="zh-hans"),
    "entries": lambda flow: Workflow.objects.update(max_entries=9),
    "age": lambda flow: Workflow.objects.update(max_age_days=None),
    "owner": another_owner,
    "source added": another_source,
    "source removed": lambda flow: flow.sources.clear(),
    "source led elsewhere": lambda flow: Source.objects.update(config={"url": "http://127.0.0.1:9/x"}),
    "source weighted": lambda flow: Source.objects.update(weight=5),
    "source of another kind": lambda flow: Source.objects.update(kind="other"),
    "source renamed": lambda flow: Source.objects.update(name="Renamed"),
    "source switched off": lambda flow: Source.objects.update(enabled=False),
    "cadence added": lambda flow: Cadence.objects.create(workflow=flow),
    "cadence removed": lambda flow: flow.cadences.all().delete(),
    "cadence faster": lambda flow: Cadence.objects.update(every_minutes=30),
    "cadence of another window": lambda flow: Cadence.objects.update(window_end=time(20, 0)),
    "cadence on other days": lambda flow: Cadence.objects.update(days="all"),
    "cadence of another kind": lambda flow: Cadence.objects.update(digest_kind="summary"),
    "cadence of another pattern": lambda flow: Cadence.objects.update(pattern="daily"),
    "cadence at another time": lambda flow: Cadence.objects.update(at=time(7, 0)),
    "cadence switched off": lambda flow: Cadence.objects.update(enabled=False),
    "another audience": another_audience,
    "member added": another_member,
    "member removed": lambda flow: AudienceMember.objects.all().delete(),
    "member of another size": lambda flow: AudienceMember.objects.update(size=500),
    "member renamed": lambda flow: AudienceMember.objects.update(label="Other"),
    "member of another address": lambda flow: AudienceMember.objects.update(address="x@example.org"),
    "member that is a person": lambda flow: AudienceMember.objects.update(is_group=False, size=1, address="x"),
    "channel renamed": lambda flow: Channel.objects.update(name="Other"),
    "channel led elsewhere": lambda flow: Channel.objects.update(config={"base_url": "http://127.0.0.1:8"}),
    "channel of another kind": lambda flow: Channel.objects.update(kind="other"),
    "channel faster": lambda flow: Channel.objects.update(per_minute=600),
    "channel switched off": lambda flow: Channel.objects.update(enabled=False),
    "another secret": another_secret,
    "secret of another store": lambda flow: SecretRef.objects.update(store="environment"),
    "secret's value replaced": new_value,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_alters_the_digest(flow: Workflow, name: str) -> None:
    before = configuration.digest(flow)
    CHANGES[name](flow)
    assert configuration.digest(flow) != before


def test_what_is_no_configuration_does_not_alter_the_digest(flow: Workflow, alice: User) -> None:
    before = configuration.digest(flow)
    schedule.plan(flow)
    Source.objects.update(last_error="Timed out", notes=["odd"])
    Channel.objects.update(broken_why="key is wrong")
    Channel.objects.create(name="Of nobody")
    world.audience(world.robot(alice, name="Other"), name="Others")
    assert configuration.digest(flow) == before


def test_a_value_is_never_part_of_it(flow: Workflow) -> None:
    assert world.KEY not in str(configuration.content(flow))
    assert configuration.content(flow)["channels"][0]["secrets"]["key"]["name"] == "robot-robot"


class TestVersions:
    def test_are_kept_once_each_with_who_and_under_which_request(self, flow: Workflow, alice: User) -> None:
        with context.acting(alice) as cause:
            configuration.note(flow)
            configuration.note(flow)
            Source.objects.update(weight=5)
            configuration.note(flow)
        versions = list(WorkflowVersion.objects.order_by("number"))
        assert [version.number for version in versions] == [1, 2]
        assert {(version.who, version.request_id) for version in versions} == {("alice", cause.request_id)}
        (difference,) = compare(versions[0].content, versions[1].content)
        assert (difference.part, difference.how, difference.name) == ("sources", "changed", "Source 1")
        assert [(field.name, field.before, field.after) for field in difference.fields] == [("weight", 0, 5)]

    def test_that_come_back_are_versions_of_their_own(self, flow: Workflow) -> None:
        for weight in (1, 2, 1):
            Source.objects.update(weight=weight)
            configuration.note(flow)
        assert WorkflowVersion.objects.count() == 3

    def test_follow_activation_and_pause(self, flow: Workflow, alice: User) -> None:
        schedule.activate(workflow=flow, by=alice, reason="")
        schedule.pause(workflow=flow, by=alice, reason="")
        states = WorkflowVersion.objects.order_by("number").values_list("content__workflow__state", flat=True)
        assert list(states) == ["active", "paused"]

    def test_follow_a_replaced_secret(self, flow: Workflow) -> None:
        configuration.note(flow)
        new_value(flow)
        assert WorkflowVersion.objects.count() == 2

    @pytest.mark.parametrize("change", ["source", "cadence", "member", "channel", "use", "secret", "relation"])
    def test_follow_a_change_of_whatever_belongs_to_it(self, flow: Workflow, alice: User, change: str) -> None:
        configuration.note(flow)
        with changes.watched(alice):
            save_one(flow, change)
        assert WorkflowVersion.objects.get(number=2).digest == configuration.digest(flow)

    @pytest.mark.parametrize("change", ["cadence", "member", "source"])
    def test_follow_what_is_deleted(self, flow: Workflow, alice: User, change: str) -> None:
        configuration.note(flow)
        with changes.watched(alice):
            one_of(flow, change).delete()
        assert WorkflowVersion.objects.get(number=2).digest == configuration.digest(flow)

    def test_follow_an_approved_change(self, flow: Workflow, alice: User, set_policy: Callable[[str], None]) -> None:
        set_policy("security: {actions: {require_approval_for: [workflow_change]}}")
        Workflow.objects.update(state="active")
        configuration.note(flow)
        with changes.watched(alice) as found:
            save_one(flow, "source")
        assert found.needs is not None
        assert WorkflowVersion.objects.count() == 1
        changes.ask(found.needs, by=alice, reason="Better")
        olivia = people.olivia()
        request = ApprovalRequest.objects.get()
        approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=olivia, reason="")
        version = WorkflowVersion.objects.get(number=2)
        assert version.digest == configuration.digest(flow)
        assert version.who == "olivia"

    def test_of_other_workflows_are_left_alone(self, flow: Workflow, alice: User) -> None:
        other = Workflow.objects.create(name="Other", goal="g", owner=alice)
        configuration.note(other)
        with changes.watched(alice):
            save_one(flow, "source")
        assert other.versions.count() == 1

    def test_an_object_of_no_workflow_touches_none(self) -> None:
        change = Change(model="auth.user", key=1, label="x", before=None, after=None)
        assert not configuration.affected_by(change).exists()


def one_of(flow: Workflow, what: str) -> Source | Cadence | AudienceMember | Channel | SecretRef:
    found = {
        "source": flow.sources.first(),
        "cadence": flow.cadences.first(),
        "member": AudienceMember.objects.get(),
        "channel": Channel.objects.get(),
        "secret": SecretRef.objects.get(),
    }[what]
    assert isinstance(found, Source | Cadence | AudienceMember | Channel | SecretRef)
    return found


def save_one(flow: Workflow, what: str) -> None:
    if what == "relation":
        another_source(flow)
        return
    if what == "use":
        use = ChannelSecret.objects.get()
        use.secret = SecretRef.objects.create(name="other", owner=flow.owner)
        use.save()
        return
    name, value = {
        "source": ("weight", 9),
        "cadence": ("every_minutes", 15),
        "member": ("size", 7),
        "channel": ("per_minute", 5),
        "secret": ("store", "environment"),
    }[what]
    row = one_of(flow, what)
    setattr(row, name, value)
    row.save()
