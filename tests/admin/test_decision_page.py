"""What the officer meets in the browser: GET shows, POST decides, each refusal is a sentence."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from tests import people, world
from workflows.domain.states import ApprovalState
from workflows.models import ApprovalRequest, Delivery, Message
from workflows.services import messages

pytestmark = pytest.mark.django_db


@pytest.fixture
def request_() -> ApprovalRequest:
    alice = people.alice()
    draft = world.message(
        alice, world.audience(world.robot(alice)), body="Read **this** <script>alert(1)</script> <@all>"
    )
    messages.submit(message_id=draft.pk, by=alice)
    return ApprovalRequest.objects.get()


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page(request: ApprovalRequest) -> str:
    return reverse("admin:workflows_approvalrequest_change", args=[request.pk])


def decide(client: Client, request: ApprovalRequest, **form: str) -> str:
    """The page that follows the decision."""
    url = reverse("admin:workflows_approvalrequest_decide", args=[request.pk])
    return client.post(url, form, follow=True).content.decode()


def state(request: ApprovalRequest) -> str:
    request.refresh_from_db()
    return request.state


def test_the_page_shows_what_whom_why_and_until_when(request_: ApprovalRequest) -> None:
    html = browser(people.olivia()).get(page(request_)).content.decode()
    for shown in ("Quarterly reminder", "<strong>this</strong>", "180 people", "alice", "Yearly duty", "Approve"):
        assert shown in html


def test_foreign_text_stays_text(request_: ApprovalRequest) -> None:
    html = browser(people.olivia()).get(page(request_)).content.decode()
    assert "<script>alert" not in html


def test_looking_decides_nothing_but_is_on_the_trail(request_: ApprovalRequest) -> None:
    client = browser(people.olivia())
    client.get(page(request_))
    url = reverse("admin:workflows_approvalrequest_decide", args=[request_.pk])
    assert client.get(url, {"approve": "1"}).status_code == 405
    assert state(request_) == ApprovalState.PENDING
    assert AuditEvent.objects.get(what="approval.viewed").who_label == "olivia"


def test_a_look_at_what_was_decided_is_on_the_trail_too(request_: ApprovalRequest) -> None:
    officer = people.olivia()
    decide(browser(officer), request_, deny="1", reason="Not now")  # leads back to the page: the first look
    assert state(request_) == ApprovalState.DENIED
    browser(people.oscar()).get(page(request_))
    viewed = AuditEvent.objects.filter(what="approval.viewed", target_id=str(request_.pk)).order_by("pk")
    assert [event.who_label for event in viewed] == ["olivia", "oscar"]


def test_a_look_that_was_denied_is_none(request_: ApprovalRequest) -> None:
    browser(people.nora()).get(page(request_))
    assert not AuditEvent.objects.filter(what="approval.viewed").exists()


def test_an_officer_approves(request_: ApprovalRequest) -> None:
    html = decide(browser(people.olivia()), request_, approve="1")
    assert "Approved." in html
    assert state(request_) == ApprovalState.EXECUTING


def test_a_double_click_has_one_outcome_and_a_plain_message(request_: ApprovalRequest) -> None:
    client = browser(people.olivia())
    decide(client, request_, approve="1")
    assert "You have already decided on this request." in decide(client, request_, approve="1")
    assert Delivery.objects.count() == 1


def test_denying_without_a_reason_says_what_is_missing(request_: ApprovalRequest) -> None:
    assert "Say why you deny it" in decide(browser(people.olivia()), request_, deny="1", reason="")
    assert state(request_) == ApprovalState.PENDING


def test_a_post_that_names_no_verdict_is_no_approval(request_: ApprovalRequest) -> None:
    decide(browser(people.olivia()), request_, reason="hm")
    assert state(request_) != ApprovalState.EXECUTED
    assert not Delivery.objects.exists()


def test_what_was_edited_after_the_request_is_not_sent(request_: ApprovalRequest) -> None:
    Message.objects.update(body="Entirely different")
    html = decide(browser(people.olivia()), request_, approve="1")
    assert "differs from what was shown" in html
    assert not Delivery.objects.exists()


def test_the_author_sees_the_request_but_no_buttons(request_: ApprovalRequest) -> None:
    html = browser(request_.requested_by).get(page(request_)).content.decode()
    assert "Quarterly reminder" in html
    assert 'name="approve"' not in html


def test_a_superuser_who_asked_learns_why_a_second_person_is_needed() -> None:
    sam = people.sam()
    draft = world.message(sam, world.audience(world.robot(sam)))
    messages.submit(message_id=draft.pk, by=sam)
    request = ApprovalRequest.objects.get()
    client = browser(sam)
    assert "a second person has to decide" in client.get(page(request)).content.decode()
    assert "a second person has to decide" in decide(client, request, approve="1")
    assert state(request) == ApprovalState.PENDING


def test_without_a_role_there_is_no_page(request_: ApprovalRequest) -> None:
    client = browser(people.nora())
    assert client.get(page(request_)).status_code in {403, 404}
    url = reverse("admin:workflows_approvalrequest_decide", args=[request_.pk])
    assert client.post(url, {"approve": "1"}).status_code in {403, 404}
    assert state(request_) == ApprovalState.PENDING


def test_without_a_csrf_token_nothing_is_decided(request_: ApprovalRequest) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.olivia())
    url = reverse("admin:workflows_approvalrequest_decide", args=[request_.pk])
    assert client.post(url, {"approve": "1"}).status_code == 403
    assert state(request_) == ApprovalState.PENDING
