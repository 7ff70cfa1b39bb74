"""Audiences stay usable however many members they have; who would receive is told before anything is sent."""

import csv
import io
import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from tests import people, world
from workflows import roles
from workflows.models import Audience, AudienceMember, Channel, Inclusion, Suppression
from workflows.services import changes

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def app(alice: User) -> Channel:
    return world.app(alice)


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def url(audience: Audience, page: str = "change") -> str:
    return reverse(f"admin:workflows_audience_{page}", args=[audience.pk])


def text(client: Client, address: str, **query: str | int) -> str:
    response = client.get(address, query)
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


class TestThePage:
    def test_few_members_are_edited_on_it(self, alice: User, app: Channel) -> None:
        audience = world.members(app, "ann", "bob")
        assert b"members-TOTAL_FORMS" in browser(alice).get(url(audience)).content

    def test_many_have_a_list_of_their_own(self, alice: User, app: Channel) -> None:
        audience = world.members(app, *(f"u{number}" for number in range(51)))
        client = browser(alice)
        page = client.get(url(audience)).content.decode()
        assert "members-TOTAL_FORMS" not in page
        assert f"audience__id__exact={audience.pk}" in page
        members = reverse("admin:workflows_audiencemember_changelist")
        assert "u50" in text(client, members, audience__id__exact=audience.pk, q="u50")

    def test_what_was_typed_is_kept_although_many_came_in_the_meantime(self, alice: User, app: Channel) -> None:
        audience = world.members(app, *(f"u{number}" for number in range(50)))
        client = browser(alice)
        forms = client.get(url(audience)).context["inline_admin_formsets"]
        data: dict[str, object] = {"name": "Renamed", "note": ""}
        for formset in forms:
            for form in [formset.formset.management_form, *formset.formset.initial_forms]:
                data |= {bound.html_name: "" if bound.value() is None else bound.value() for bound in form}
        data = {name: value for name, value in data.items() if value is not False}
        data["members-0-label"] = "New name"
        AudienceMember.objects.create(
            audience=audience, channel=app, label="Late", address="late", is_group=False, size=1
        )
        assert client.post(url(audience), data).status_code == 302
        assert audience.members.filter(label="New name").count() == 1

    def test_a_circle_is_refused_at_the_field(self, alice: User, app: Channel) -> None:
        one, two = Audience.objects.create(name="One"), Audience.objects.create(name="Two")
        Inclusion.objects.create(audience=one, included=two)
        data = {
            **{"name": "Two", "inclusions-TOTAL_FORMS": 1, "inclusions-INITIAL_FORMS": 0},
            **{"inclusions-0-audience": two.pk, "inclusions-0-included": one.pk},
        }
        html = browser(alice).post(url(two), data).content.decode()
        assert "This would be a circle" in html
        assert Inclusion.objects.count() == 1

    def test_a_crowded_audience_is_not_deleted_with_all_its_members(
        self, alice: User, app: Channel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(changes, "MOST", 2)
        audience = world.members(app, "ann", "bob", "cyd")
        client = browser(alice)
        assert "has more than 2 members" in text(client, url(audience, "delete"))
        client.post(url(audience, "delete"), {"post": "yes"})
        assert Audience.objects.exists()

    def test_a_whole_list_of_members_is_not_deleted_with_one_click(
        self, alice: User, app: Channel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(changes, "MOST", 2)
        audience = world.members(app, "ann", "bob", "cyd")
        keys = list(audience.members.values_list("pk", flat=True))
        members, client = reverse("admin:workflows_audiencemember_changelist"), browser(alice)
        data = {"action": "delete_selected", "_selected_action": keys, "post": "yes"}
        assert "At most 2 members are deleted at once" in client.post(members, data).content.decode()
        assert audience.members.count() == 3
        few = client.post(members, {**data, "_selected_action": keys[:2]})
        assert "This needs a second person" in few.content.decode()


class TestDryRun:
    def test_tells_who_would_receive_by_channel_who_is_left_out_and_why_it_is_a_mass_send(
        self, alice: User, app: Channel
    ) -> None:
        top = world.members(app, "ann", "bob", "party:7", name="Top")
        Inclusion.objects.create(audience=top, included=world.members(app, "bob", "cyd", name="Other"))
        Inclusion.objects.create(audience=top, included=world.audience(world.robot(alice), name="Desk"))
        Suppression.objects.create(address="cyd", reason="Asked for it")
        page = text(browser(alice), url(top, "dry_run"))
        assert "Mass send: group of more than 20 people: party:7, Desk group; 2 groups; 232 people" in page
        assert "Addresses 4" in page
        assert "Named more than once 1" in page
        assert "never to be contacted 1" in page
        assert "App 3 1 52" in page
        assert "Robot 1 1 180" in page

    def test_of_an_empty_audience_says_so(self, alice: User) -> None:
        page = text(browser(alice), url(Audience.objects.create(name="Empty"), "dry_run"))
        assert "Nobody would receive." in page

    def test_shows_the_first_of_many(self, alice: User, app: Channel) -> None:
        page = text(browser(alice), url(world.members(app, *(f"u{n:03}" for n in range(60))), "dry_run"))
        assert "The first 50 of 60" in page
        assert "u049" in page
        assert "u050" not in page

    def test_is_not_for_those_who_may_not_look(self, app: Channel) -> None:
        assert browser(people.nora()).get(url(world.members(app, "ann"), "dry_run")).status_code == 404


class TestExport:
    def test_streams_the_members_and_nothing_is_a_formula(self, alice: User, app: Channel) -> None:
        audience = world.members(app, "ann", "@all", name="Staff")
        AudienceMember.objects.filter(address="ann").update(label="=cmd()")
        response = browser(alice).get(url(audience, "export"))
        content = b"".join(response).decode()
        assert content.startswith("\ufeff")
        rows = list(csv.reader(io.StringIO(content.removeprefix("\ufeff"))))
        assert rows == [
            ["channel", "address", "label", "is_group", "size"],
            ["App", "ann", "'=cmd()", "no", "1"],
            ["App", "'@all", "'@all", "no", "1"],
        ]
        event = AuditEvent.objects.get(what="audience.exported")
        assert (event.who_label, event.target_id) == ("alice", str(audience.pk))
        assert '"rows":2' in event.canon

    def test_is_not_for_those_who_may_only_look(self, app: Channel) -> None:
        client = browser(people.person("ada", roles.ADMINISTRATOR))
        assert client.get(url(world.members(app, "ann"), "export")).status_code == 403
        assert not AuditEvent.objects.filter(what="audience.exported").exists()


class TestSuppressionPage:
    ADD = reverse("admin:workflows_suppression_add")

    def test_an_author_adds_and_only_an_officer_lifts(self, alice: User) -> None:
        author, officer = browser(alice), browser(people.olivia())
        author.post(self.ADD, {"address": "Bob@Example.com", "channel_kind": "email", "reason": "Asked for it"})
        entry = Suppression.objects.get()
        assert (entry.address, entry.channel_kind) == ("bob@example.com", "email")
        delete = reverse("admin:workflows_suppression_delete", args=[entry.pk])
        assert author.post(delete, {"post": "yes"}).status_code == 403
        officer.post(delete, {"post": "yes"})
        assert not Suppression.objects.exists()
        told = AuditEvent.objects.filter(target_type="workflows.suppression").order_by("pk")
        assert [(event.what, event.who_label) for event in told] == [
            ("object.created", "alice"),
            ("object.deleted", "olivia"),
        ]

    def test_nobody_edits_one(self) -> None:
        entry = Suppression.objects.create(address="bob", reason="Asked for it")
        client = browser(people.sam())
        change = reverse("admin:workflows_suppression_change", args=[entry.pk])
        assert client.get(change).status_code == 200
        assert client.post(change, {"address": "ann", "reason": "x"}).status_code == 403

    def test_a_wrong_address_is_said_at_the_field(self, alice: User) -> None:
        form = {"address": "bob", "channel_kind": "email", "reason": "Asked for it"}
        html = browser(alice).post(self.ADD, form).content.decode()
        assert "Write a mail address" in html

    def test_one_that_is_there_already_is_told(self, alice: User) -> None:
        Suppression.objects.create(address="bob", reason="Asked for it")
        html = browser(alice).post(self.ADD, {"address": "BOB", "reason": "Again"}).content.decode()
        assert "This address is suppressed already." in html
