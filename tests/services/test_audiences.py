"""An audience is resolved with all that it includes: each address once, nobody who is suppressed, never one by one."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from pytest_django import DjangoAssertNumQueries

from audit.models import AuditEvent
from compliance_bot.sandbox import Sandbox
from tests import people, world
from workflows.domain.errors import Invalid, StaleContent
from workflows.domain.states import ApprovalState, MessageState, Verdict
from workflows.models import (
    ApprovalRequest,
    Audience,
    AudienceMember,
    Channel,
    Delivery,
    Inclusion,
    Message,
    Suppression,
    Workflow,
    WorkflowVersion,
)
from workflows.services import approvals, audiences, changes, configuration, delivery, messages

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def app(alice: User) -> Channel:
    return world.app(alice)


def include(one: Audience, *others: Audience) -> None:
    for other in others:
        Inclusion.objects.create(audience=one, included=other)


def addresses(audience: Audience) -> list[str]:
    return [recipient.address for recipient in audiences.resolve(audience).recipients]


def suppress(address: str, kind: str = "") -> Suppression:
    entry = Suppression(address=address, channel_kind=kind, reason="Asked for it")
    entry.full_clean()
    entry.save()
    return entry


def member(channel: Channel, address: str, *, group: bool = False, size: int | None = None) -> AudienceMember:
    audience = Audience.objects.get_or_create(name="Everyone")[0]
    return AudienceMember(
        audience=audience, channel=channel, label=address or "x", address=address, is_group=group, size=size
    )


def message_state(message: Message) -> str:
    message.refresh_from_db()
    return message.state


class TestNesting:
    def test_members_of_included_audiences_receive_however_deep_they_are(self, app: Channel) -> None:
        top, middle, bottom = (world.members(app, name, name=name) for name in ("c", "b", "a"))
        include(top, middle)
        include(middle, bottom)
        assert addresses(top) == ["a", "b", "c"]
        assert addresses(middle) == ["a", "b"]
        assert addresses(bottom) == ["a"]

    def test_who_is_named_twice_receives_once_and_that_is_counted(self, app: Channel) -> None:
        top = world.members(app, "ann", "bob", name="top")
        include(top, world.members(app, "bob", "cyd", name="one"), world.members(app, "bob", name="two"))
        resolved = audiences.resolve(top)
        assert [recipient.address for recipient in resolved.recipients] == ["ann", "bob", "cyd"]
        assert resolved.repeated == 2

    @pytest.mark.parametrize("sizes", [(3, 500), (500, 3)])
    def test_of_two_declarations_of_one_group_the_larger_counts(self, alice: User, sizes: tuple[int, int]) -> None:
        robot = world.robot(alice)
        top, other = (world.audience(robot, name=f"of {size}", size=size) for size in sizes)
        include(top, other)
        (recipient,) = audiences.resolve(top).recipients
        assert recipient.size == 500

    def test_a_size_that_nobody_declared_is_larger_than_any(self, alice: User) -> None:
        robot = world.robot(alice)
        top, other = world.audience(robot, name="A", size=3), world.audience(robot, name="B", size=None)
        include(top, other)
        (recipient,) = audiences.resolve(top).recipients
        assert recipient.size is None

    def test_a_circle_is_refused_with_a_reason(self, app: Channel) -> None:
        one, two, three = (Audience.objects.create(name=name) for name in "abc")
        include(one, two)
        include(two, three)
        with pytest.raises(ValidationError, match="This would be a circle") as refused:
            Inclusion(audience=three, included=one).full_clean()
        assert list(refused.value.message_dict) == ["included"]

    def test_an_audience_cannot_include_itself_even_round_the_form(self, app: Channel) -> None:
        one = Audience.objects.create(name="One")
        with pytest.raises(ValidationError):
            Inclusion(audience=one, included=one).full_clean()
        with pytest.raises(IntegrityError), transaction.atomic():
            include(one, one)

    def test_a_circle_made_round_the_form_is_resolved_all_the_same(self, app: Channel) -> None:
        one, two = world.members(app, "ann", name="one"), world.members(app, "bob", name="two")
        include(one, two)
        include(two, one)
        assert addresses(one) == addresses(two) == ["ann", "bob"]

    def test_an_audience_that_another_includes_is_not_deleted(self, app: Channel) -> None:
        one, two = Audience.objects.create(name="One"), Audience.objects.create(name="Two")
        include(one, two)
        with pytest.raises(ProtectedError):
            two.delete()
        one.delete()
        two.delete()


class TestSuppression:
    def test_a_suppressed_address_is_never_a_recipient_and_is_counted(self, app: Channel) -> None:
        top = world.members(app, "ann", "bob", name="top")
        include(top, world.members(app, "bob", name="other"))
        suppress("bob")
        resolved = audiences.resolve(top)
        assert [recipient.address for recipient in resolved.recipients] == ["ann"]
        assert (resolved.suppressed, resolved.repeated) == (1, 1)

    def test_capital_letters_do_not_help(self, alice: User) -> None:
        mail = Channel.objects.create(name="Mail", kind="email")
        everyone = world.members(mail, "Bob@example.com")
        suppress("  BOB@Example.COM ")
        assert addresses(everyone) == []

    def test_one_kind_of_channel_can_be_meant_alone(self, app: Channel) -> None:
        mail = Channel.objects.create(name="Mail", kind="email")
        everyone = world.members(app, "bob@example.com")
        AudienceMember.objects.create(
            audience=everyone, channel=mail, label="Bob", address="bob@example.com", is_group=False, size=1
        )
        suppress("bob@example.com", "email")
        (recipient,) = audiences.resolve(everyone).recipients
        assert recipient.channel_id == app.pk

    def test_an_address_that_its_channel_does_not_know_is_refused_by_name(self) -> None:
        with pytest.raises(ValidationError, match="Write a mail address") as refused:
            suppress("bob", "email")
        assert list(refused.value.message_dict) == ["address"]

    def test_an_audience_of_suppressed_people_says_so(self, alice: User, app: Channel) -> None:
        everyone = world.members(app, "bob")
        suppress("bob")
        with pytest.raises(Invalid, match="Everybody in the audience “Staff” is suppressed"):
            messages.submit(message_id=world.message(alice, everyone).pk, by=alice)

    def test_one_that_comes_while_an_officer_decides_voids_the_request(self, alice: User, app: Channel) -> None:
        everyone = world.members(app, *(f"u{number}" for number in range(30)))
        message = messages.submit(message_id=world.message(alice, everyone).pk, by=alice)
        assert message.state == MessageState.PENDING
        suppress("u7")
        request = ApprovalRequest.objects.get()
        with pytest.raises(StaleContent):
            approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=people.olivia(), reason="")

    def test_one_that_comes_after_the_release_still_counts(self, wecom: Sandbox, alice: User) -> None:
        everyone = world.members(world.app(alice, wecom.url), "ann", "bob", "cyd")
        message = messages.submit(message_id=world.message(alice, everyone).pk, by=alice)
        assert message.state == MessageState.RELEASED
        suppress("bob")
        delivery.dispatch(message.pk)
        (call,) = wecom.company.messages()
        assert sorted(call.shown_to) == ["ann", "cyd"]
        assert (Delivery.objects.get(address="bob").state, message_state(message)) == ("cancelled", "partly_sent")
        assert "never to be contacted" in AuditEvent.objects.get(what="delivery.cancelled").why

    def test_a_message_to_nobody_but_suppressed_people_ends(self, wecom: Sandbox, alice: User) -> None:
        everyone = world.members(world.app(alice, wecom.url), "ann")
        message = messages.submit(message_id=world.message(alice, everyone).pk, by=alice)
        suppress("ann", "wecom_app")
        delivery.dispatch(message.pk)
        assert wecom.company.messages() == []
        assert message_state(message) == "cancelled"

    def test_lifting_one_waits_for_a_second_person_and_adding_one_does_not(
        self, alice: User, set_policy: Callable[[str], None]
    ) -> None:
        set_policy("security: {actions: {require_approval_for: [workflow_change]}}")
        with changes.watched(alice) as found:
            entry = suppress("bob")
        assert found.needs is None
        with changes.watched(alice) as found:
            entry.delete()
        assert found.needs is not None
        assert Suppression.objects.get().address == "bob"
        changes.ask(found.needs, by=alice, reason="They want to hear from us again")
        request = ApprovalRequest.objects.get()
        approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=people.olivia(), reason="")
        request.refresh_from_db()
        assert request.state == ApprovalState.EXECUTED
        assert not Suppression.objects.exists()


class TestAddresses:
    def test_an_address_is_kept_in_the_form_of_its_channel(self, app: Channel) -> None:
        found = member(app, " Bob.Lee ")
        found.full_clean()
        assert (found.address, found.size) == ("bob.lee", 1)

    def test_an_impossible_address_is_refused_by_name(self, app: Channel) -> None:
        with pytest.raises(ValidationError, match="Write a userid") as refused:
            member(app, "bob|ann").full_clean()
        assert list(refused.value.message_dict) == ["address"]

    @pytest.mark.parametrize("address", ["@all", "party:7", "tag:3"])
    def test_an_address_of_many_is_no_person(self, app: Channel, address: str) -> None:
        with pytest.raises(ValidationError, match="mark it as a group") as refused:
            member(app, address).full_clean()
        assert list(refused.value.message_dict) == ["is_group"]

    @pytest.mark.parametrize("address", ["@all", "party:7", "tag:3"])
    def test_declared_as_a_person_round_the_form_it_is_a_group_of_unknown_size(
        self, alice: User, app: Channel, address: str
    ) -> None:
        member(app, address, size=1).save()
        message = messages.submit(message_id=world.message(alice, Audience.objects.get()).pk, by=alice)
        assert (message.state, message.people) == (MessageState.PENDING, None)

    def test_a_department_counts_as_many_as_were_declared(self, app: Channel) -> None:
        found = member(app, "party:7", group=True, size=40)
        found.full_clean()
        recipient = found.as_recipient()
        assert (recipient.is_group, recipient.size) == (True, 40)

    def test_a_person_counts_as_one(self, app: Channel) -> None:
        with pytest.raises(ValidationError, match="counts as 1"):
            member(app, "bob", size=2).full_clean()

    def test_whoever_is_behind_a_channel_that_nobody_knows_counts_as_many(self, app: Channel) -> None:
        Channel.objects.update(kind="gone")
        app.refresh_from_db()
        recipient = member(app, "bob", size=1).as_recipient()
        assert (recipient.is_group, recipient.size) == (True, None)


class TestManyMembers:
    @pytest.fixture
    def hundred_thousand(self, app: Channel) -> Audience:
        top = Audience.objects.create(name="Top")
        for part in range(4):
            inner = world.members(app, *(f"u{part}-{number}" for number in range(25_000)), name=f"Part {part}")
            include(top, inner)
        Suppression.objects.bulk_create(
            Suppression(address=f"u0-{number}", channel_kind="wecom_app", reason="r") for number in range(10_000)
        )
        return top

    def test_cost_four_questions(
        self, hundred_thousand: Audience, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_num_queries(4):
            resolved = audiences.resolve(hundred_thousand)
        assert (len(resolved.recipients), resolved.suppressed) == (90_000, 10_000)

    def test_are_one_digest_in_a_configuration_that_lists_the_first(
        self, alice: User, hundred_thousand: Audience, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        flow = world.workflow(alice, hundred_thousand)
        with django_assert_max_num_queries(15):
            before = configuration.content(flow)
        assert len(before["audience"]) == configuration.LISTED
        last = AudienceMember.objects.order_by("pk").last()
        assert last is not None
        AudienceMember.objects.filter(pk=last.pk).update(label="Renamed")
        after = configuration.content(flow)
        assert before["audience"] == after["audience"]
        assert before["workflow"]["further_members_sha256"] != after["workflow"]["further_members_sha256"]


class TestConfiguration:
    @pytest.fixture
    def inner(self, app: Channel) -> Audience:
        return world.members(app, "ann", name="Inner")

    @pytest.fixture
    def flow(self, alice: User, app: Channel, inner: Audience) -> Workflow:
        outer, middle = world.members(app, "bob", name="Outer"), Audience.objects.create(name="Middle")
        include(outer, middle)
        include(middle, inner)
        flow = world.workflow(alice, outer)
        Workflow.objects.update(state="active")
        configuration.note(flow)
        return flow

    def test_whatever_a_workflow_reaches_through_an_included_audience_is_part_of_it(self, flow: Workflow) -> None:
        content = configuration.content(flow)
        assert [entry["address"] for entry in content["audience"]] == ["ann", "bob"]
        assert content["workflow"]["includes"] == "Inner, Middle"

    def test_a_change_of_an_included_audience_needs_approval_where_a_workflow_is_in_service(
        self, flow: Workflow, inner: Audience, app: Channel, alice: User, set_policy: Callable[[str], None]
    ) -> None:
        set_policy("security: {actions: {require_approval_for: [workflow_change]}}")
        with changes.watched(alice) as found:
            AudienceMember.objects.create(audience=inner, channel=app, label="C", address="cyd", is_group=False, size=1)
        assert found.needs is not None
        assert not inner.members.filter(address="cyd").exists()

    @pytest.mark.parametrize("what", ["included", "taken out", "renamed"])
    def test_a_change_of_the_nesting_is_a_change_of_the_workflow(
        self, flow: Workflow, inner: Audience, app: Channel, alice: User, what: str
    ) -> None:
        with changes.watched(alice) as found:
            if what == "included":
                include(inner, world.members(app, "dan", name="New"))
            elif what == "taken out":
                inner.included_in.get().delete()
            else:
                inner.name = "Renamed"
                inner.save()
        assert found.needs is None
        assert WorkflowVersion.objects.get(number=2).digest == configuration.digest(flow)
