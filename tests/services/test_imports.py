"""A file of members is written as a whole or not at all, and never round the second person."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.utils import timezone
from django_q.models import OrmQ
from pytest_django import DjangoAssertNumQueries

from audit.models import AuditEvent
from tests import people, world
from workflows import roles
from workflows.domain.errors import Invalid, NotPermitted, ReasonRequired, StaleContent, WrongState
from workflows.domain.states import ApprovalState, ImportState, Verdict
from workflows.models import (
    ApprovalRequest,
    Audience,
    AudienceMember,
    Channel,
    Inclusion,
    MemberImport,
    Snapshot,
    Workflow,
    WorkflowVersion,
)
from workflows.services import approvals, clock, housekeeping, imports, member_files, snapshots

pytestmark = pytest.mark.django_db
HEAD = "channel,address,label,is_group,size\n"


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def app(alice: User) -> Channel:
    return world.app(alice)


@pytest.fixture
def staff(app: Channel) -> Audience:
    return world.members(app, "ann", "bob")


@pytest.fixture
def in_service(alice: User, staff: Audience, set_policy: Callable[[str], None]) -> Workflow:
    """An active workflow reaches the staff through another audience, and the policy protects it."""
    set_policy("security: {actions: {require_approval_for: [workflow_change]}}")
    outer = Audience.objects.create(name="Outer")
    Inclusion.objects.create(audience=outer, included=staff)
    flow = world.workflow(alice, outer)
    Workflow.objects.update(state="active")
    return flow


def lines(*addresses: str, label: str = "") -> bytes:
    return (HEAD + "".join(f"App,{address},{label or address},no,\n" for address in addresses)).encode()


def upload(audience: Audience, content: bytes, by: User, mode: str = "add") -> MemberImport:
    return imports.upload(audience=audience, name="staff.csv", content=content, mode=mode, by=by)


def confirm(job: MemberImport, by: User) -> MemberImport:
    imports.confirm(import_id=job.pk, by=by, reason="New colleagues")
    job.refresh_from_db()
    return job


def approve(verdict: Verdict = Verdict.APPROVE) -> ApprovalRequest:
    request = ApprovalRequest.objects.latest("pk")
    approvals.decide(approval_id=request.pk, verdict=verdict, by=people.olivia(), reason="Seen")
    request.refresh_from_db()
    return request


def addresses(audience: Audience) -> list[str]:
    return sorted(audience.members.values_list("address", flat=True))


def facts(what: str) -> str:
    return AuditEvent.objects.get(what=what).canon


class TestChecking:
    def test_tells_what_would_change_and_changes_nothing(self, alice: User, staff: Audience) -> None:
        content = HEAD + "App,ann,ann,no,1\nApp,BOB,Robert,no,\nApp,cyd,Cyd,no,\n"
        job = upload(staff, content.encode(), alice, "replace")
        assert (job.added, job.changed, job.unchanged, job.removed) == (1, 1, 1, 0)
        assert [(row["how"], row["address"], row["before"]) for row in job.first] == [
            ("changed", "bob", {"label": "bob"}),
            ("added", "cyd", None),
        ]
        assert addresses(staff) == ["ann", "bob"]
        assert hashlib.sha256(content.encode()).hexdigest() in facts("audience.file_checked")

    def test_only_a_replacement_removes_and_removals_are_shown_first(self, alice: User, staff: Audience) -> None:
        assert upload(staff, lines("cyd"), alice).removed == 0
        job = upload(staff, lines("cyd"), alice, "replace")
        assert job.removed == 2
        assert [row["how"] for row in job.first] == ["removed", "removed", "added"]

    def test_a_file_with_a_wrong_line_is_not_even_kept(self, alice: User, staff: Audience) -> None:
        with pytest.raises(imports.Unusable) as refused:
            upload(staff, lines("cyd", "d|d"), alice)
        assert [problem.line for problem in refused.value.reading.problems] == [3]
        assert not MemberImport.objects.exists()

    def test_a_file_that_changes_nothing_is_told(self, alice: User, staff: Audience) -> None:
        with pytest.raises(Invalid, match="Nothing would change"):
            upload(staff, lines("ann", "bob"), alice)

    def test_takes_the_right_to_change_members(self, staff: Audience) -> None:
        with pytest.raises(NotPermitted):
            upload(staff, lines("cyd"), people.person("ada", roles.ADMINISTRATOR))

    def test_a_file_that_nobody_confirms_is_gone_the_day_after(self, alice: User, staff: Audience) -> None:
        upload(staff, lines("cyd"), alice)
        housekeeping.keep_house(timezone.now())
        assert MemberImport.objects.exists()
        housekeeping.keep_house(timezone.now() + timedelta(days=2))
        assert not MemberImport.objects.exists()


class TestWriting:
    def test_a_small_file_is_written_at_once_and_its_addresses_are_kept_nowhere_else(
        self, alice: User, staff: Audience
    ) -> None:
        kept = staff.members.get(address="bob").pk
        job = confirm(upload(staff, lines("bob", "cyd", label="X"), alice, "replace"), alice)
        assert job.state == ImportState.APPLIED
        assert addresses(staff) == ["bob", "cyd"]
        assert staff.members.get(address="bob").pk == kept
        assert set(staff.members.values_list("label", flat=True)) == {"X"}
        assert (bytes(job.content), job.first) == (b"", [])

    def test_is_on_the_trail_with_the_digest_of_the_file_and_the_counts(self, alice: User, staff: Audience) -> None:
        content = lines("bob", "cyd")
        confirm(upload(staff, content, alice, "replace"), alice)
        event = AuditEvent.objects.get(what="audience.imported")
        assert (event.who_label, event.why, event.target_id) == ("alice", "New colleagues", str(staff.pk))
        assert hashlib.sha256(content).hexdigest() in event.canon
        assert '"added":1,"changed":0' in event.canon
        assert '"removed":1' in event.canon
        assert "cyd" not in event.canon

    def test_becomes_a_version_of_every_workflow_that_reaches_it(self, alice: User, staff: Audience) -> None:
        flow = world.workflow(alice, staff)
        confirm(upload(staff, lines("cyd"), alice), alice)
        assert len(WorkflowVersion.objects.get(workflow=flow).content["audience"]) == 3

    def test_needs_a_reason(self, alice: User, staff: Audience) -> None:
        with pytest.raises(ReasonRequired):
            imports.confirm(import_id=upload(staff, lines("cyd"), alice).pk, by=alice, reason=" ")

    def test_is_confirmed_by_whoever_uploaded_it(self, alice: User, staff: Audience) -> None:
        job = upload(staff, lines("cyd"), alice)
        with pytest.raises(NotPermitted, match="Only who uploaded"):
            confirm(job, people.person("arthur", roles.AUTHOR))

    def test_happens_once(self, alice: User, staff: Audience) -> None:
        job = confirm(upload(staff, lines("cyd"), alice), alice)
        with pytest.raises((WrongState, Invalid)):
            confirm(job, alice)

    def test_what_was_changed_meanwhile_is_not_overwritten(self, alice: User, staff: Audience) -> None:
        job = upload(staff, lines("ann", label="Ann"), alice)
        staff.members.filter(address="ann").update(size=1, label="Anne")
        with pytest.raises(StaleContent, match="the audience was changed meanwhile"):
            confirm(job, alice)
        assert staff.members.get(address="ann").label == "Anne"

    def test_a_channel_that_was_renamed_meanwhile_stops_it(self, alice: User, staff: Audience) -> None:
        job = upload(staff, lines("cyd"), alice)
        Channel.objects.update(name="Other")
        with pytest.raises(StaleContent, match="a channel was changed meanwhile"):
            confirm(job, alice)


class TestManyRows:
    @pytest.fixture
    def job(self, alice: User, staff: Audience) -> MemberImport:
        return confirm(upload(staff, lines(*(f"u{number}" for number in range(10_000))), alice, "replace"), alice)

    def test_are_written_by_a_worker(self, staff: Audience, job: MemberImport) -> None:
        assert (job.state, len(addresses(staff))) == (ImportState.QUEUED, 2)
        assert OrmQ.objects.filter(key__isnull=False).exists()
        imports.work(job.pk)
        job.refresh_from_db()
        assert (job.state, job.progress, len(addresses(staff))) == (ImportState.APPLIED, 10_000, 10_000)
        event = AuditEvent.objects.get(what="audience.imported")
        assert (event.who_label, event.on_behalf_of) == ("system", "alice")

    def test_cost_few_statements(
        self, job: MemberImport, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_max_num_queries(120):  # SQLite takes 142 rows in one
            imports.work(job.pk)

    def test_a_doubled_hint_changes_nothing(self, staff: Audience, job: MemberImport) -> None:
        imports.work(job.pk)
        imports.work(job.pk)
        assert AuditEvent.objects.filter(what="audience.imported").count() == 1

    def test_nothing_is_half_imported(
        self, staff: Audience, job: MemberImport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: Any, **kwargs: Any) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(imports, "record", broken)
        with pytest.raises(OSError, match="disk full"):
            imports.work(job.pk)
        job.refresh_from_db()
        assert (job.state, addresses(staff)) == (ImportState.QUEUED, ["ann", "bob"])

    def test_a_lost_hint_is_found_by_the_clock(self, job: MemberImport) -> None:
        OrmQ.objects.all().delete()
        clock.tick()
        assert not OrmQ.objects.exists()
        with time_machine.travel(timezone.now() + timedelta(seconds=80)):
            clock.tick()
            assert OrmQ.objects.exists()

    def test_one_that_is_begun_and_never_finished_is_given_up(self, staff: Audience, job: MemberImport) -> None:
        MemberImport.objects.update(attempts=3)
        imports.work(job.pk)
        job.refresh_from_db()
        assert job.state == ImportState.FAILED
        assert "begun too often" in job.problem
        assert addresses(staff) == ["ann", "bob"]

    def test_what_changed_while_it_waited_stops_it_as_a_whole(self, staff: Audience, job: MemberImport) -> None:
        staff.members.filter(address="ann").delete()
        imports.work(job.pk)
        job.refresh_from_db()
        assert (job.state, addresses(staff)) == (ImportState.FAILED, ["bob"])
        assert "changed meanwhile" in facts("audience.import_failed")


class TestSecondPerson:
    def test_decides_where_a_workflow_in_service_reaches_the_audience(
        self, in_service: Workflow, alice: User, staff: Audience
    ) -> None:
        content = lines("bob", "cyd")
        job = confirm(upload(staff, content, alice, "replace"), alice)
        request = ApprovalRequest.objects.get()
        assert (job.state, addresses(staff)) == (ImportState.WAITING, ["ann", "bob"])
        assert (request.action, request.size) == ("member_import", 2)
        shown = request.preview
        assert (shown["added"], shown["changed"], shown["removed"], shown["unchanged"]) == (1, 0, 1, 1)
        assert shown["sha256"] == hashlib.sha256(content).hexdigest()
        assert shown["workflows"] == [in_service.name]
        assert [row["address"] for row in shown["first"]] == ["ann", "cyd"]
        assert approve().state == ApprovalState.EXECUTING
        imports.work(job.pk)
        request.refresh_from_db()
        assert (request.state, addresses(staff)) == (ApprovalState.EXECUTED, ["bob", "cyd"])

    def test_can_take_it_back_by_a_rollback(self, in_service: Workflow, alice: User, staff: Audience) -> None:
        before = list(staff.members.order_by("pk").values())
        job = confirm(upload(staff, lines("bob", "cyd", label="X"), alice, "replace"), alice)
        approve()
        imports.work(job.pk)
        assert addresses(staff) == ["bob", "cyd"]
        snapshot = Snapshot.objects.get()
        back = snapshots.roll_back(snapshot_id=snapshot.pk, by=alice, reason="The wrong file")
        approvals.decide(approval_id=back.pk, verdict=Verdict.APPROVE, by=people.oscar(), reason="Seen")
        back.refresh_from_db()
        assert back.state == ApprovalState.EXECUTED, back.outcome
        assert list(staff.members.order_by("pk").values()) == before

    def test_decides_on_the_size_of_a_group(
        self, in_service: Workflow, alice: User, staff: Audience, app: Channel
    ) -> None:
        AudienceMember.objects.create(audience=staff, channel=app, label="Sales", address="party:7", size=400)
        confirm(upload(staff, (HEAD + "App,party:7,Sales,yes,3\n").encode(), alice), alice)
        assert ApprovalRequest.objects.get().preview["first"][0]["before"] == {"size": 400}
        assert staff.members.get(address="party:7").size == 400

    def test_decides_where_many_are_removed(self, alice: User, app: Channel, set_policy: Callable[[str], None]) -> None:
        set_policy("security: {actions: {require_approval_for: [bulk_delete]}}")
        crowd = world.members(app, *(f"u{number}" for number in range(20)), name="Crowd")
        job = confirm(upload(crowd, lines("ann"), alice, "replace"), alice)
        assert (job.state, crowd.members.count()) == (ImportState.WAITING, 20)
        few = confirm(upload(crowd, lines(*(f"u{number}" for number in range(18))), alice, "replace"), alice)
        assert (few.state, crowd.members.count()) == (ImportState.APPLIED, 18)

    def test_is_never_who_asked(self, in_service: Workflow, alice: User, staff: Audience) -> None:
        confirm(upload(staff, lines("cyd"), alice), alice)
        assert approvals.why_barred(ApprovalRequest.objects.get(), alice) is not None

    @pytest.mark.parametrize("end", ["denied", "expired", "withdrawn"])
    def test_who_does_not_agree_ends_it(self, in_service: Workflow, alice: User, staff: Audience, end: str) -> None:
        job = confirm(upload(staff, lines("cyd"), alice), alice)
        request = ApprovalRequest.objects.get()
        if end == "denied":
            approve(Verdict.DENY)
        elif end == "expired":
            approvals.expire(request.pk)
        else:
            approvals.withdraw(approval_id=request.pk, by=alice, reason="Wrong file")
        job.refresh_from_db()
        assert (job.state, addresses(staff)) == (ImportState.FAILED, ["ann", "bob"])
        assert job.problem.startswith("Not approved: ")

    def test_who_approves_what_has_changed_approves_nothing(
        self, in_service: Workflow, alice: User, staff: Audience
    ) -> None:
        job = confirm(upload(staff, lines("ann", label="Ann"), alice), alice)
        staff.members.filter(address="ann").update(label="Anne")
        with pytest.raises(StaleContent, match="the audience was changed meanwhile"):
            approve()
        job.refresh_from_db()
        assert job.state == ImportState.FAILED

    def test_is_needed_if_a_workflow_was_activated_before_the_worker_came(
        self, in_service: Workflow, alice: User, staff: Audience
    ) -> None:
        Workflow.objects.update(state="draft")
        job = confirm(upload(staff, lines(*(f"u{number}" for number in range(1_001))), alice), alice)
        assert job.state == ImportState.QUEUED
        Workflow.objects.update(state="active")
        imports.work(job.pk)
        job.refresh_from_db()
        assert (job.state, addresses(staff)) == (ImportState.FAILED, ["ann", "bob"])
        assert "needs a second person by now" in job.problem

    def test_is_not_spared_by_a_row_that_says_it_is_queued(
        self, in_service: Workflow, alice: User, staff: Audience
    ) -> None:
        job = upload(staff, lines("cyd"), alice)
        MemberImport.objects.update(state="queued")
        imports.work(job.pk)
        assert addresses(staff) == ["ann", "bob"]


def test_what_is_exported_changes_nothing_when_it_is_imported(alice: User, staff: Audience) -> None:
    rows = list(member_files.export(staff, by=alice))
    content = HEAD + "".join(",".join(row) + "\n" for row in rows)
    with pytest.raises(Invalid, match="Nothing would change"):
        upload(staff, content.encode(), alice, "replace")
