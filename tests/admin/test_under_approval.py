"""No path through the admin changes what needs a second person: each of them ends in a request."""

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db import models
from django.test import Client
from django.urls import reverse

from compliance_bot.guardrails import policy
from tests import people, world
from workflows import roles
from workflows.domain.errors import NotPermitted, StaleContent, WorkflowError
from workflows.domain.states import ApprovalState, Verdict
from workflows.models import (
    ApprovalRequest,
    Audience,
    AudienceMember,
    Channel,
    PolicyOverride,
    Snapshot,
    Source,
    Workflow,
)
from workflows.services import approvals, capture, changes, snapshots

pytestmark = pytest.mark.django_db


@pytest.fixture
def sam() -> User:
    return people.sam()


@pytest.fixture
def browser(sam: User) -> Client:
    """A superuser's: nobody may do more."""
    client = Client()
    client.force_login(sam)
    return client


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that names every action."""
    everything = policy.parse(
        "security: {actions: {require_approval_for: "
        "[mass_send, bulk_delete, permission_change, workflow_change, secret_reveal_or_replace, audit_export]}}"
    )
    monkeypatch.setattr(policy, "current", lambda: everything)


def post(client: Client, url: str, **data: object) -> str:
    response = client.post(url, data)
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def ask(client: Client, html: str, reason: str = "She joins the team") -> ApprovalRequest:
    """Press the button of the page that asks for a second person."""
    assert "This needs a second person" in html
    held = unescape(re.search(r'name="held" value="([^"]+)"', html)[1])  # type: ignore[index]
    response = client.post(reverse("admin:workflows_change_ask"), {"held": held, "reason": reason})
    assert response.status_code == 302, response.content.decode()
    return ApprovalRequest.objects.latest("pk")


def form_of(client: Client, url: str) -> dict[str, object]:
    """The form's fields as the browser would send them back."""
    return dict(_fields(client.get(url).context["adminform"].form))


def _fields(form: object) -> Iterator[tuple[str, object]]:
    for bound in form:  # type: ignore[attr-defined]
        value = bound.value()
        if value is True:
            yield bound.html_name, "on"
        elif isinstance(value, models.QuerySet | list | tuple):
            yield bound.html_name, [getattr(entry, "pk", entry) for entry in value]
        elif value is not None and value is not False and bound.name != "password":
            if hasattr(value, "strftime"):
                yield f"{bound.html_name}_0", f"{value:%Y-%m-%d}"
                yield f"{bound.html_name}_1", f"{value:%H:%M:%S}"
            else:
                yield bound.html_name, value


def change_of(user: models.Model) -> str:
    return reverse(f"admin:{user._meta.app_label}_{user._meta.model_name}_change", args=[user.pk])


def approve(request: ApprovalRequest, by: User) -> ApprovalRequest:
    approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=by, reason="Agreed")
    request.refresh_from_db()
    return request


class TestAccounts:
    def test_rights_are_asked_for_and_given_on_approval(self, browser: Client) -> None:
        nora, olivia = people.nora(), people.olivia()
        data = form_of(browser, change_of(nora)) | {"is_superuser": "on"}
        html = post(browser, change_of(nora), **data)
        nora.refresh_from_db()
        assert not nora.is_superuser
        assert "Superuser status" in html or "superuser status" in html
        request = ask(browser, html)
        assert (request.action, request.state) == ("permission_change", ApprovalState.PENDING)
        assert request.preview["changes"] == [
            {
                **{"model": "auth.user", "key": nora.pk, "object": "nora", "new": False},
                **{"field": "is_superuser", "before": "False", "after": "True"},
            }
        ]
        nora.refresh_from_db()
        assert not nora.is_superuser
        assert approve(request, olivia).state == ApprovalState.EXECUTED
        nora.refresh_from_db()
        assert nora.is_superuser

    def test_nobody_decides_on_their_own_account(self, browser: Client) -> None:
        olivia = people.olivia()
        data = form_of(browser, change_of(olivia)) | {"is_superuser": "on"}
        request = ask(browser, post(browser, change_of(olivia), **data))
        barred = approvals.why_barred(request, olivia)
        assert barred is not None
        assert "your own account" in str(barred)

    def test_who_asked_cannot_decide_even_as_superuser(self, browser: Client, sam: User) -> None:
        data = form_of(browser, change_of(people.nora())) | {"is_superuser": "on"}
        request = ask(browser, post(browser, change_of(User.objects.get(username="nora")), **data))
        assert approvals.why_barred(request, sam) is not None

    def test_an_edit_that_gives_no_right_is_saved_at_once(self, browser: Client) -> None:
        nora = people.nora()
        data = form_of(browser, change_of(nora)) | {"first_name": "Nora"}
        assert browser.post(change_of(nora), data).status_code == 302
        nora.refresh_from_db()
        assert nora.first_name == "Nora"

    def test_a_role_is_asked_for_with_its_name(self, browser: Client) -> None:
        nora, officers = people.nora(), Group.objects.get(name=roles.OFFICER)
        data = form_of(browser, change_of(nora)) | {"groups": [officers.pk]}
        request = ask(browser, post(browser, change_of(nora), **data))
        (entry,) = request.preview["changes"]
        assert (entry["before"], entry["after"]) == ([], [roles.OFFICER])
        approve(request, people.olivia())
        assert nora.groups.get() == officers

    def test_another_persons_password_is_bound_and_never_shown(self, browser: Client) -> None:
        nora = people.nora()
        url = reverse("admin:auth_user_password_change", args=[nora.pk])
        new = {"password1": "a quite new password", "password2": "a quite new password", "usable_password": "true"}
        html = post(browser, url, **new)
        assert "a quite new password" not in html
        request = ask(browser, html)
        nora.refresh_from_db()
        assert not nora.check_password("a quite new password")
        assert request.preview["changes"][0]["after"] == "••••••••"
        assert browser.get(reverse("admin:index")).status_code == 200  # still signed in
        approve(request, people.olivia())
        nora.refresh_from_db()
        assert nora.check_password("a quite new password")

    def test_what_moved_meanwhile_voids_the_request(self, browser: Client) -> None:
        nora = people.nora()
        request = ask(
            browser, post(browser, change_of(nora), **form_of(browser, change_of(nora)) | {"is_superuser": "on"})
        )
        User.objects.filter(pk=nora.pk).update(email="another@example.com")
        with pytest.raises(StaleContent, match="“nora” was changed meanwhile"):
            approve(request, people.olivia())
        request.refresh_from_db()
        assert request.state == ApprovalState.VOID

    def test_a_new_account_with_a_role_comes_with_it(self, browser: Client, sam: User) -> None:
        with changes.watched(sam) as found:
            made = User.objects.create_user("new", is_staff=True)
            made.groups.add(Group.objects.get(name=roles.AUTHOR))
        assert found.needs is not None
        assert not User.objects.filter(username="new").exists()
        other = User.objects.create_user("in-between")  # takes the key that the first one had
        approve(changes.ask(found.needs, by=sam, reason="A colleague"), people.olivia())
        new = User.objects.get(username="new")
        assert new.pk != other.pk
        assert new.groups.get().name == roles.AUTHOR
        assert not other.groups.exists()

    def test_a_role_that_gains_rights_waits(self, browser: Client) -> None:
        group = Group.objects.get(name=roles.AUTHOR)
        right = Permission.objects.get(codename="decide_approvalrequest")
        data = {"name": group.name, "permissions": [*group.permissions.values_list("pk", flat=True), right.pk]}
        request = ask(browser, post(browser, change_of(group), **data))
        assert not group.permissions.filter(pk=right.pk).exists()
        approve(request, people.olivia())
        assert group.permissions.filter(pk=right.pk).exists()


class TestDeleting:
    def selected(self, client: Client, *audiences: Audience) -> str:
        data = {
            **{"action": "delete_selected", "_selected_action": [audience.pk for audience in audiences]},
            "post": "yes",
        }
        return post(client, reverse("admin:workflows_audience_changelist"), **data)

    @pytest.fixture
    def audiences(self, sam: User) -> list[Audience]:
        robot = world.robot(sam)
        return [world.audience(robot, name=name, size=3) for name in ("North", "South", "West")]

    def test_what_is_selected_goes_on_approval_and_comes_back_with_a_rollback(
        self, browser: Client, sam: User, audiences: list[Audience]
    ) -> None:
        members = list(AudienceMember.objects.order_by("pk").values())
        request = ask(browser, self.selected(browser, *audiences))
        assert request.action == "bulk_delete"
        assert Audience.objects.count() == 3
        olivia = people.olivia()
        approve(request, olivia)
        assert Audience.objects.count() == AudienceMember.objects.count() == 0
        back = snapshots.roll_back(snapshot_id=Snapshot.objects.get().pk, by=sam, reason="Deleted too early")
        assert not Audience.objects.exists()
        assert approve(back, olivia).state == ApprovalState.EXECUTED
        assert {audience.pk for audience in Audience.objects.all()} == {audience.pk for audience in audiences}
        assert list(AudienceMember.objects.order_by("pk").values()) == members

    def test_one_alone_is_deleted_at_once(self, browser: Client, audiences: list[Audience]) -> None:
        url = reverse("admin:workflows_audience_delete", args=[audiences[0].pk])
        assert browser.post(url, {"post": "yes"}).status_code == 302
        assert Audience.objects.count() == 2

    def test_one_on_which_many_hang_waits(self, browser: Client, audiences: list[Audience]) -> None:
        channel = Channel.objects.get()
        for number in range(12):
            AudienceMember.objects.create(
                audience=audiences[0], channel=channel, address=f"p{number}", label="x", is_group=False, size=1
            )
        url = reverse("admin:workflows_audience_delete", args=[audiences[0].pk])
        request = ask(browser, post(browser, url, post="yes"))
        assert request.size == 14
        assert Audience.objects.count() == 3

    def test_what_came_along_meanwhile_is_not_deleted_unseen(self, browser: Client, audiences: list[Audience]) -> None:
        request = ask(browser, self.selected(browser, *audiences))
        late = AudienceMember.objects.create(
            audience=audiences[0], channel=Channel.objects.get(), address="late", label="Late", is_group=False, size=1
        )
        approve(request, people.olivia())
        assert request.state == ApprovalState.FAILED
        assert "other things would have changed" in request.outcome
        assert AudienceMember.objects.filter(pk=late.pk).exists()
        assert Audience.objects.count() == 3

    def test_a_rollback_says_exactly_what_stands_in_its_way(
        self, browser: Client, sam: User, audiences: list[Audience]
    ) -> None:
        approve(ask(browser, self.selected(browser, *audiences)), people.olivia())
        Channel.objects.all().delete()
        with pytest.raises(WorkflowError, match=r"“North group” refers to channel \d+, which is gone"):
            snapshots.roll_back(snapshot_id=Snapshot.objects.get().pk, by=sam, reason="Back")

    def test_who_may_only_read_a_request_cannot_ask_for_its_rollback(
        self, browser: Client, audiences: list[Audience]
    ) -> None:
        approve(ask(browser, self.selected(browser, *audiences)), people.olivia())
        snapshot = Snapshot.objects.get()
        with pytest.raises(NotPermitted):
            snapshots.roll_back(snapshot_id=snapshot.pk, by=people.alice(), reason="I want them back")
        assert snapshots.roll_back(snapshot_id=snapshot.pk, by=people.oscar(), reason="Deleted too early")

    def test_a_role_is_restored_with_its_members(self, browser: Client, sam: User) -> None:
        alice, olivia = people.alice(), people.olivia()
        group = Group.objects.get(name=roles.AUTHOR)
        rights = set(group.permissions.values_list("pk", flat=True))
        url = reverse("admin:auth_group_delete", args=[group.pk])
        request = ask(browser, post(browser, url, post="yes"))
        assert request.action == "permission_change"
        approve(request, olivia)
        assert not alice.groups.exists()
        back = snapshots.roll_back(snapshot_id=Snapshot.objects.get().pk, by=sam, reason="It was needed")
        approve(back, olivia)
        assert alice.groups.get().pk == group.pk
        assert set(Group.objects.get(pk=group.pk).permissions.values_list("pk", flat=True)) == rights


@pytest.mark.usefixtures("strict")
class TestWorkflowsInService:
    @pytest.fixture
    def flow(self, sam: User) -> Workflow:
        flow = world.workflow(sam, world.audience(world.robot(sam)), "http://127.0.0.1:9/feed")
        flow.state = "active"
        flow.save()
        return flow

    def test_activating_waits(self, browser: Client, flow: Workflow) -> None:
        Workflow.objects.update(state="draft")
        url = reverse("admin:workflows_workflow_do", args=[flow.pk, "activate"])
        request = ask(browser, post(browser, url, reason="Ready"))
        flow.refresh_from_db()
        assert (request.action, flow.state) == ("workflow_change", "draft")
        approve(request, people.olivia())
        flow.refresh_from_db()
        assert flow.state == "active"

    def test_another_audience_waits(self, browser: Client, flow: Workflow) -> None:
        other = Audience.objects.create(name="Other")
        data = form_of(browser, change_of(flow)) | {"audience": other.pk, **management("cadences")}
        ask(browser, post(browser, change_of(flow), **data))
        flow.refresh_from_db()
        assert flow.audience != other

    def test_a_member_that_changes_size_waits(self, browser: Client, flow: Workflow) -> None:
        """Whoever declares a group small decides whether sending to it needs approval."""
        audience = flow.audience
        assert audience is not None
        member = audience.members.get()
        data = {
            **{"name": audience.name, "note": "", **management("members", 1), **management("inclusions")},
            **{"members-0-id": member.pk, "members-0-audience": audience.pk, "members-0-label": member.label},
            **{"members-0-channel": member.channel_id, "members-0-is_group": "on", "members-0-size": 3},
        }
        request = ask(browser, post(browser, change_of(audience), **data))
        member.refresh_from_db()
        assert member.size == 180
        assert request.preview["changes"][0]["after"] == "3"

    def test_a_source_waits(self, browser: Client, flow: Workflow) -> None:
        source = Source.objects.get()
        url = change_of(source)
        data = form_of(browser, url) | {"config_url": "https://news.example/other"}
        ask(browser, post(browser, url, **data))
        source.refresh_from_db()
        assert source.config["url"].endswith("/feed")


def management(prefix: str, count: int = 0) -> dict[str, int]:
    return {f"{prefix}-TOTAL_FORMS": count, f"{prefix}-INITIAL_FORMS": count}


class TestEveryPath:
    def test_every_page_of_every_room_is_entered_under_watch(self) -> None:
        """Django's own pages ask the site's ``admin_view`` at each request; ours are wrapped when routes are made."""
        bare = [
            f"{type(room).__name__}: {url.pattern}"
            for room in admin.site._registry.values()
            for url in room.get_urls()
            if not is_watched(url.callback)
        ]
        assert bare == []

    def test_few_pages_run_outside_and_they_are_known(self) -> None:
        outside = {
            f"{type(room).__name__}: {url.pattern}"
            for room in admin.site._registry.values()
            for url in room.get_urls()
            if any(hasattr(view, "runs_unwatched") for view in wrapped(url.callback))
        }
        assert outside == {"AudienceAdmin: <int:pk>/import/"}

    def test_whatever_a_deletion_takes_along_is_watched(self) -> None:
        """Otherwise it would neither be shown nor restored.

        An access token is neither: the next call fetches one. Nor is a card: it was sent, and the trail tells. Nor is
        a file of members that was on its way.
        """
        deletable = {room.model for room in admin.site._registry.values() if _deletes(room)}
        assert {Audience, Channel, Source, Workflow, Group} <= deletable
        unseen = {
            f"{model.__name__} takes {relation.related_model.__name__}"
            for model in deletable
            for relation in model._meta.related_objects
            if relation.on_delete is models.CASCADE
            and relation.related_model not in capture.watched()
            and not relation.related_model._meta.auto_created
        }
        lost = {"Channel takes AccessToken", "WeComAccount takes ApprovalCard", "Audience takes MemberImport"}
        assert unseen == lost

    def test_what_gives_rights_or_configures_is_watched(self) -> None:
        assert {User, Group, Workflow, Source, Channel, Audience, AudienceMember, PolicyOverride} <= capture.watched()

    @pytest.mark.parametrize("model", [User, Group, PolicyOverride])
    def test_each_column_of_what_rules_us_is_seen(self, model: type[models.Model], sam: User) -> None:
        """No column can be changed past the watch, but for what is listed as written by services."""
        ignored = capture._watched[model]
        assert ignored <= {"last_login"}


def wrapped(view: object) -> Iterator[object]:
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)


def is_watched(view: Callable[..., object]) -> bool:
    return any(hasattr(entry, "is_watched") or hasattr(entry, "model_admin") for entry in wrapped(view))


def _deletes(room: admin.ModelAdmin[Any]) -> bool:
    request = type("Request", (), {"user": User(is_superuser=True, is_active=True)})()
    return room.has_delete_permission(request)
