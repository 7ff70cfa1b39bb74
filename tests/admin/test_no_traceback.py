"""Whatever a person types, clicks twice, or is not allowed to: a sentence, never a traceback."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from tests import people, world
from workflows import roles
from workflows.models import ApprovalRequest, Delivery, Message, SecretRef
from workflows.services import messages

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def pending(alice: User) -> ApprovalRequest:
    messages.submit(message_id=world.message(alice, world.audience(world.robot(alice))).pk, by=alice)
    return ApprovalRequest.objects.get()


def test_submitting_what_another_tab_submitted_says_so(alice: User) -> None:
    request = pending(alice)
    message = Message.objects.get(pk=request.subject_id)
    form = {"subject": "S", "body": "B", "audience": message.audience_id, "reason": "R", "_submit": "1"}
    url = reverse("admin:workflows_message_change", args=[message.pk])
    assert browser(alice).post(url, form, follow=True).status_code in {200, 403}
    message.refresh_from_db()
    assert message.subject == "Quarterly reminder"


def test_who_may_write_but_not_send_is_told(alice: User) -> None:
    to = world.audience(world.robot(alice))
    Group.objects.get(name=roles.AUTHOR).permissions.remove(
        Group.objects.get(name=roles.AUTHOR).permissions.get(codename="submit_message")
    )
    form = {"subject": "S", "body": "B", "audience": to.pk, "reason": "R", "_submit": "1"}
    form |= {"attachments-TOTAL_FORMS": 0, "attachments-INITIAL_FORMS": 0}
    html = browser(User.objects.get(pk=alice.pk)).post(reverse("admin:workflows_message_add"), form, follow=True)
    assert "Your role does not include sending messages." in html.content.decode()


@pytest.mark.parametrize("reason", ["x" * 501, "a\r\n" * 260])
def test_a_reason_that_is_too_long_is_refused_in_words(alice: User, reason: str) -> None:
    request = pending(alice)
    url = reverse("admin:workflows_approvalrequest_decide", args=[request.pk])
    html = browser(people.olivia()).post(url, {"deny": "1", "reason": reason}, follow=True).content.decode()
    assert "The reason is longer than 500 characters." in html
    request.refresh_from_db()
    assert request.state == "pending"


def test_a_reason_with_control_characters_is_kept_readable(alice: User) -> None:
    request = pending(alice)
    url = reverse("admin:workflows_approvalrequest_decide", args=[request.pk])
    browser(people.olivia()).post(url, {"deny": "1", "reason": "No\x00pe\r\nreally"})
    assert request.decisions.get().reason == "Nope\nreally"


@pytest.mark.parametrize("page", ["workflows_approvalrequest_decide", "workflows_delivery_settle"])
def test_a_post_without_a_button_does_nothing(alice: User, page: str) -> None:
    request = pending(alice)
    draft = world.message(alice, world.audience(world.robot(alice, name="Small"), name="Small", size=2))
    messages.submit(message_id=draft.pk, by=alice)
    row = Delivery.objects.get()
    Delivery.objects.update(state="unknown", not_before=None)
    pk = request.pk if "approval" in page else row.pk
    assert browser(people.olivia()).post(reverse(f"admin:{page}", args=[pk]), {"reason": "Hm"}).status_code == 400
    request.refresh_from_db()
    row.refresh_from_db()
    assert (request.state, row.state) == ("pending", "unknown")


def test_an_auditor_reads_about_a_secret(alice: User) -> None:
    secret = SecretRef.objects.create(name="robot", owner=alice)
    client = browser(people.person("audrey", roles.AUDITOR))
    html = client.get(reverse("admin:workflows_secretref_change", args=[secret.pk])).content.decode()
    assert "robot" in html
    assert "New value" not in html


def test_the_schedule_is_for_who_may_see_workflows() -> None:
    assert browser(people.nora()).get(reverse("admin:workflows_schedule")).status_code == 403
    assert AuditEvent.objects.get(what="access.denied").who_label == "nora"


@pytest.mark.parametrize("chosen", ["abc", "9" * 30, "9" * 5000, "%00", "-1"])
def test_an_impossible_workflow_in_the_address_is_not_found(alice: User, chosen: str) -> None:
    url = reverse("admin:workflows_schedule")
    assert browser(alice).get(f"{url}?workflow={chosen}").status_code in {302, 404}


def test_the_address_cannot_fill_in_a_form(alice: User) -> None:
    url = reverse("admin:workflows_message_add")
    html = browser(alice).get(f"{url}?send_at=abc&subject=Filled+in").content.decode()
    assert "Filled in" not in html


def test_every_recipient_can_be_seen_before_deciding(alice: User) -> None:
    to = world.audience(world.robot(alice))
    robots = [world.robot(alice, name=f"R{number}") for number in range(24)]
    for number, robot in enumerate(robots):
        to.members.create(channel=robot, label=f"Group number {number}", size=3)
    messages.submit(message_id=world.message(alice, to).pk, by=alice)
    url = reverse("admin:workflows_approvalrequest_change", args=[ApprovalRequest.objects.get().pk])
    html = browser(people.olivia()).get(url).content.decode()
    assert all(f"Group number {number} " in html for number in range(24))


class TestWhoManagesAccountsCannotBecomeTheSecondPerson:
    @pytest.fixture(autouse=True)
    def _setup(self) -> None:
        self.ada = people.person("ada", roles.ADMINISTRATOR)
        self.client = browser(self.ada)

    def save(self, user: User, **changes: object) -> None:
        form = {"username": user.username, "is_active": "on", "is_staff": "on", **changes}
        self.client.post(reverse("admin:auth_user_change", args=[user.pk]), form)
        user.refresh_from_db()

    def test_not_by_making_themself_a_superuser(self) -> None:
        self.save(self.ada, is_superuser="on")
        assert not self.ada.is_superuser

    def test_not_by_giving_themself_another_role(self) -> None:
        self.save(self.ada, groups=[Group.objects.get(name=roles.OFFICER).pk])
        assert not User.objects.get(pk=self.ada.pk).has_perm("workflows.decide_approvalrequest")

    def test_not_by_an_officers_password(self) -> None:
        olivia = people.olivia()
        before = olivia.password
        url = reverse("admin:auth_user_password_change", args=[olivia.pk])
        new = {"password1": "a quite new password", "password2": "a quite new password"}
        assert self.client.post(url, new).status_code == 403
        olivia.refresh_from_db()
        assert olivia.password == before

    def test_another_persons_password_waits_for_a_second_person(self) -> None:
        alice = people.alice()
        before = alice.password
        url = reverse("admin:auth_user_password_change", args=[alice.pk])
        new = {"password1": "a quite new password", "password2": "a quite new password", "usable_password": "true"}
        assert "This needs a second person" in self.client.post(url, new).content.decode()
        alice.refresh_from_db()
        assert alice.password == before

    def test_nobody_is_deleted(self) -> None:
        url = reverse("admin:auth_user_delete", args=[people.alice().pk])
        assert browser(people.sam()).post(url, {"post": "yes"}).status_code == 403


def test_the_history_of_an_object_is_its_part_of_the_trail(alice: User) -> None:
    request = pending(alice)
    pending_message = Message.objects.get(pk=request.subject_id)
    url = reverse("admin:workflows_message_history", args=[pending_message.pk])
    html = browser(people.olivia()).get(url, follow=True).content.decode()
    assert "Message submitted" in html
    assert "Approval requested" not in html.split('id="result_list"')[1]


def test_who_may_not_read_the_trail_is_offered_no_history(alice: User) -> None:
    draft = world.message(alice, world.audience(world.robot(alice)))
    url = reverse("admin:workflows_message_change", args=[draft.pk])
    assert "historylink" not in browser(alice).get(url).content.decode()
    assert "historylink" in browser(people.olivia()).get(url).content.decode()
