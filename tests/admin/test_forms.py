"""Forms: what is wrong is said at the field, and nothing is half-written."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from compliance_bot.guardrails import secrets as stores
from tests import people, world
from workflows import roles
from workflows.domain.states import MessageState
from workflows.models import (
    ApprovalRequest,
    Attachment,
    Audience,
    Cadence,
    Channel,
    Delivery,
    Message,
    SecretRef,
    Source,
    Workflow,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def author(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def administrator() -> Client:
    client = Client()
    client.force_login(people.person("ada", roles.ADMINISTRATOR))
    return client


def add(client: Client, model: str, **form: object) -> str:
    return client.post(reverse(f"admin:workflows_{model}_add"), form, follow=True).content.decode()


class TestSource:
    def test_a_feed_is_made_with_its_address(self, author: Client) -> None:
        add(author, "source", name="News", kind="feed", config_url="https://news.example/feed", weight=0, enabled="on")
        assert Source.objects.get().config == {"url": "https://news.example/feed"}

    @pytest.mark.parametrize("url", ["", "javascript:alert(1)", "ftp://a.example/f", "not an address"])
    def test_what_is_no_address_is_said_at_the_field(self, author: Client, url: str) -> None:
        html = add(author, "source", name="News", kind="feed", config_url=url, weight=0)
        assert not Source.objects.exists()
        assert "errorlist" in html
        assert 'id="id_config_url_error"' in html

    def test_an_unknown_kind_is_refused(self, author: Client) -> None:
        html = add(author, "source", name="News", kind="telepathy", config_url="https://a.example/", weight=0)
        assert not Source.objects.exists()
        assert "telepathy is not one of the available choices" in html

    def test_a_weight_out_of_bounds_is_refused(self, author: Client) -> None:
        assert "The weight lies between -50 and 50." in add(
            author, "source", name="News", kind="feed", config_url="https://a.example/", weight=51
        )


class TestSecret:
    def test_a_value_is_stored_and_never_shown(self, administrator: Client) -> None:
        owner = User.objects.get(username="ada")
        form = {"name": "robot", "store": "local", "owner": owner.pk, "value": "  the-robots-key  "}
        add(administrator, "secretref", **form)
        secret = SecretRef.objects.get()
        assert secret.rotated_at is not None
        assert stores.get("local").read("robot") == "the-robots-key"
        html = administrator.get(reverse("admin:workflows_secretref_change", args=[secret.pk])).content.decode()
        assert "the-robots-key" not in html

    def test_a_new_secret_needs_its_value(self, administrator: Client) -> None:
        owner = User.objects.get(username="ada")
        html = add(administrator, "secretref", name="robot", store="local", owner=owner.pk, value="")
        assert "A new secret needs its value." in html
        assert not SecretRef.objects.exists()

    def test_a_name_with_a_path_in_it_is_refused(self, administrator: Client) -> None:
        owner = User.objects.get(username="ada")
        html = add(administrator, "secretref", name="../etc", store="local", owner=owner.pk, value="x")
        assert "Use lower-case letters" in html


class TestChannel:
    def test_a_robot_is_made_with_its_secret(self, administrator: Client, alice: User) -> None:
        secret = SecretRef.objects.create(name="robot", owner=alice)
        form = {"name": "R", "kind": "wecom_robot", "config_base_url": "https://qyapi.weixin.qq.com"}
        add(administrator, "channel", **form, secret_key=secret.pk, per_minute=20, enabled="on")
        channel = Channel.objects.get()
        assert channel.config == {"base_url": "https://qyapi.weixin.qq.com", "form": "markdown", "mentions": ""}
        assert channel.secrets.get().secret == secret

    def test_a_robot_without_its_secret_is_refused(self, administrator: Client) -> None:
        form = {"name": "R", "kind": "wecom_robot", "config_base_url": "https://qyapi.weixin.qq.com"}
        add(administrator, "channel", **form, per_minute=20, enabled="on")
        assert not Channel.objects.exists()

    def test_who_may_only_look_sees_the_values_and_never_the_secret(self, author: Client, alice: User) -> None:
        robot = world.robot(alice, "https://qyapi.weixin.qq.com")
        html = author.get(reverse("admin:workflows_channel_change", args=[robot.pk])).content.decode()
        assert "base_url: https://qyapi.weixin.qq.com" in html
        assert "WeCom group robot" in html
        assert world.KEY not in html

    def test_an_author_cannot_make_channels(self, author: Client) -> None:
        assert author.get(reverse("admin:workflows_channel_add")).status_code == 403


class TestAudience:
    def form(self, channel: Channel, **member: object) -> dict[str, object]:
        rows = {"members-TOTAL_FORMS": 1, "members-INITIAL_FORMS": 0, "name": "Desk"}
        rows |= {"inclusions-TOTAL_FORMS": 0, "inclusions-INITIAL_FORMS": 0}
        fields = {"label": "Group", "channel": channel.pk, "address": "", "is_group": "on", "size": "", **member}
        return rows | {f"members-0-{name}": value for name, value in fields.items()}

    def test_a_group_of_unknown_size_may_be_in_it(self, author: Client, alice: User) -> None:
        add(author, "audience", **self.form(world.robot(alice)))
        assert Audience.objects.get().members.get().size is None

    def test_a_person_without_an_address_is_refused_and_nothing_is_half_written(
        self, author: Client, alice: User
    ) -> None:
        html = add(author, "audience", **self.form(world.app(alice), is_group="", size=2, address="bob"))
        assert "A person needs an address and counts as 1." in html
        assert not Audience.objects.exists()

    def test_a_size_that_is_no_number_is_said_at_the_field(self, author: Client, alice: User) -> None:
        html = add(author, "audience", **self.form(world.robot(alice), size="many"))
        assert "Enter a whole number." in html


class TestMessage:
    def form(self, to: Audience, **changes: object) -> dict[str, object]:
        no_files = {"attachments-TOTAL_FORMS": 0, "attachments-INITIAL_FORMS": 0}
        return {"subject": "S", "body": "B", "audience": to.pk, "reason": "R", "_submit": "1", **no_files, **changes}

    def test_submitting_by_hand_waits_for_a_second_person(self, author: Client, alice: User) -> None:
        html = add(author, "message", **self.form(world.audience(world.robot(alice))))
        message = Message.objects.get()
        assert (message.state, message.author) == (MessageState.PENDING, alice)
        assert "a second person decides now" in html

    def test_saving_a_draft_submits_nothing(self, author: Client, alice: User) -> None:
        add(author, "message", **self.form(world.audience(world.robot(alice)), _submit="", _continue="1") | {})
        form = self.form(Audience.objects.get(), subject="Only a draft")
        form.pop("_submit")
        add(author, "message", **form, _continue="1")
        assert Message.objects.get(subject="Only a draft").state == MessageState.DRAFT

    def test_an_empty_body_is_said_at_the_field(self, author: Client, alice: User) -> None:
        html = add(author, "message", **self.form(world.audience(world.robot(alice)), body="  "))
        assert "Write what is to be sent." in html
        assert not Message.objects.exists()

    def test_a_time_that_is_over_is_said_at_the_field(self, author: Client, alice: User) -> None:
        past = timezone.localtime(timezone.now() - timedelta(hours=1))
        when = {"send_at_0": f"{past:%Y-%m-%d}", "send_at_1": f"{past:%H:%M:%S}"}
        html = add(author, "message", **self.form(world.audience(world.robot(alice)), **when))
        assert "This time is over." in html

    def test_what_would_end_before_it_begins_is_said_at_the_field(self, author: Client, alice: User) -> None:
        soon = timezone.localtime(timezone.now() + timedelta(hours=1))
        when = {"send_at_0": f"{soon:%Y-%m-%d}", "send_at_1": f"{soon:%H:%M:%S}"}
        until = {"valid_until_0": f"{soon:%Y-%m-%d}", "valid_until_1": f"{soon:%H:%M:%S}"}
        html = add(author, "message", **self.form(world.audience(world.robot(alice)), **when, **until))
        assert "This is over before anything is sent." in html
        assert not Message.objects.exists()

    def test_a_file_is_attached_and_bound_by_its_digest(self, author: Client, alice: User) -> None:
        file = SimpleUploadedFile("rules.pdf", b"%PDF-1.7 rules")
        form = self.form(world.audience(world.robot(alice)))
        add(author, "message", **{**form, "attachments-TOTAL_FORMS": 1, "attachments-0-file": file})
        attachment = Attachment.objects.get()
        assert (attachment.name, attachment.media_type, bytes(attachment.content)) == (
            "rules.pdf",
            "application/pdf",
            b"%PDF-1.7 rules",
        )
        preview = ApprovalRequest.objects.get().preview
        assert [file["sha256"] for file in preview["attachments"]] == [attachment.sha256]
        assert preview["renditions"][0]["forms"] == ["markdown", "file"]

    def test_a_file_that_the_channel_does_not_take_is_refused_before_approval(
        self, author: Client, alice: User
    ) -> None:
        file = SimpleUploadedFile("tiny.txt", b"x")
        form = self.form(world.audience(world.robot(alice)))
        html = add(author, "message", **{**form, "attachments-TOTAL_FORMS": 1, "attachments-0-file": file})
        assert "takes “tiny.txt” only with" in html
        assert Message.objects.get().state == MessageState.DRAFT

    def test_five_megabytes_are_refused(self, author: Client, alice: User) -> None:
        html = add(author, "message", **self.form(world.audience(world.robot(alice)), body="长" * 1_000_000))
        assert not Message.objects.exists()
        assert "50000" in html

    def test_an_audience_of_nobody_keeps_the_draft_and_says_why(self, author: Client) -> None:
        html = add(author, "message", **self.form(Audience.objects.create(name="Nobody")))
        assert "has no members" in html
        assert Message.objects.get().state == MessageState.DRAFT

    def test_a_pending_message_is_not_editable_until_it_is_withdrawn(self, author: Client, alice: User) -> None:
        add(author, "message", **self.form(world.audience(world.robot(alice))))
        message = Message.objects.get()
        url = reverse("admin:workflows_message_change", args=[message.pk])
        author.post(url, self.form(message.audience, subject="Changed"))
        message.refresh_from_db()
        assert message.subject == "S"
        author.post(reverse("admin:workflows_message_withdraw", args=[message.pk]), {"reason": "typo"})
        author.post(url, self.form(message.audience, subject="Changed"))
        message.refresh_from_db()
        assert (message.subject, message.state) == ("Changed", MessageState.PENDING)

    def test_progress_is_told_as_numbers(self, author: Client, alice: User) -> None:
        add(author, "message", **self.form(world.audience(world.robot(alice), size=3)))
        url = reverse("admin:workflows_message_progress", args=[Message.objects.get().pk])
        progress = author.get(url).json()
        assert (progress["state"], progress["total"], progress["final"]) == ("released", 1, False)
        (queued,) = progress["counts"]
        assert (queued["state"], queued["label"], queued["count"]) == ("queued", "Queued", 1)
        assert author.get(queued["url"]).context["cl"].queryset.get() == Delivery.objects.get()


class TestWorkflow:
    def form(self, alice: User, **changes: object) -> dict[str, object]:
        cadence = {
            "digest_kind": "update",
            "pattern": "every",
            "days": "weekdays",
            "enabled": "on",
            "every_minutes": 120,
            "window_start": "09:00",
            "window_end": "17:00",
            "at": "18:00",
        }
        workflow = {"name": "W", "goal": "G", "owner": alice.pk, "language": "en", "max_entries": 8}
        return {
            **workflow,
            "time_zone": "Asia/Shanghai",
            "cadences-TOTAL_FORMS": 1,
            "cadences-INITIAL_FORMS": 0,
            **{f"cadences-0-{name}": value for name, value in cadence.items()},
            **changes,
        }

    def test_it_is_made_with_its_cadence(self, author: Client, alice: User) -> None:
        add(author, "workflow", **self.form(alice))
        assert Cadence.objects.get().workflow == Workflow.objects.get()

    def test_an_unknown_time_zone_is_said_at_the_field(self, author: Client, alice: User) -> None:
        html = add(author, "workflow", **self.form(alice, time_zone="Mars/Olympus"))
        assert "Mars/Olympus is not a time zone" in html
        assert not Workflow.objects.exists()

    def test_a_window_that_ends_before_it_begins_is_refused_whole(self, author: Client, alice: User) -> None:
        html = add(author, "workflow", **self.form(alice, **{"cadences-0-window_end": "08:00"}))
        assert "The window&#x27;s end lies before its start." in html
        assert not Workflow.objects.exists()

    def test_editing_the_cadence_of_an_active_workflow_plans_it_anew(self, author: Client, alice: User) -> None:
        flow = world.workflow(alice, world.audience(world.robot(alice)), "https://a.example/feed")
        Cadence.objects.create(workflow=flow)
        author.post(reverse("admin:workflows_workflow_do", args=[flow.pk, "activate"]))
        before = Cadence.objects.get().next_run_at
        assert before is not None
        cadence = Cadence.objects.get()
        form = self.form(alice, name=flow.name) | {"sources": [source.pk for source in flow.sources.all()]}
        form |= {"audience": flow.audience_id or "", "cadences-INITIAL_FORMS": 1, "cadences-0-id": cadence.pk}
        form |= {"cadences-0-workflow": flow.pk, "cadences-0-pattern": "daily", "cadences-0-at": "23:59"}
        author.post(reverse("admin:workflows_workflow_change", args=[flow.pk]), form)
        after = Cadence.objects.get().next_run_at
        assert after is not None
        assert f"{timezone.localtime(after):%H:%M}" == "23:59"

    def test_an_officer_can_look_but_not_run(self, alice: User) -> None:
        flow = world.workflow(alice, world.audience(world.robot(alice)), "https://a.example/feed")
        client = Client()
        client.force_login(people.olivia())
        html = client.post(reverse("admin:workflows_workflow_do", args=[flow.pk, "activate"]), follow=True)
        assert "Your role does not include running workflows." in html.content.decode()
        flow.refresh_from_db()
        assert flow.state == "draft"


def test_the_four_roles_exist_with_the_least_they_need() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(roles.PERMISSIONS)
    officer, author = people.olivia(), people.alice()
    assert officer.has_perm("workflows.decide_approvalrequest")
    assert not officer.has_perm("workflows.add_message")
    assert not author.has_perm("workflows.decide_approvalrequest")
    assert not author.has_perm("workflows.change_channel")
    auditor = people.person("audrey", roles.AUDITOR)
    changing = {name for name in auditor.get_all_permissions() if ".view_" not in name and ".export_" not in name}
    assert changing == {"audit.add_auditreport", "audit.change_auditreport"}  # an export that recurs
