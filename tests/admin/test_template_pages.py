"""Templates in the admin: refused at the field, previewed for every kind of channel, used to write a draft."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests import people, world
from workflows.channels import registry
from workflows.models import Message, MessageTemplate

pytestmark = pytest.mark.django_db
ADD = reverse("admin:workflows_messagetemplate_add")
PREVIEW = reverse("admin:workflows_messagetemplate_preview")


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def author(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def reminder() -> MessageTemplate:
    return MessageTemplate.objects.create(
        name="Reminder", variables="deadline = 30 November", subject="Due {{ deadline }}", body="By **{{ deadline }}**."
    )


def form(**changes: str) -> dict[str, str]:
    words = {"name": "R", "purpose": "message", "variables": "", "subject": "S", "body": "B"}
    return {**words, **changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"body": "{{ nobody }}"}, "“nobody” is not declared"),
        ({"variables": "broken"}, "Line 1: write"),
        ({"subject": ""}, "A message needs a subject."),
        ({"purpose": "digest", "body": "{{ deadline }}", "variables": "deadline = x"}, "“deadline” is not declared"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_field(author: Client, changes: dict[str, str], why: str) -> None:
    html = author.post(ADD, form(**changes)).content.decode()
    assert why in html
    assert not MessageTemplate.objects.exists()


def test_the_preview_shows_every_kind_of_channel_with_samples(author: Client) -> None:
    words = form(variables="deadline = 30 November", body="By **{{ deadline }}**, <@all> & co.")
    html = author.post(PREVIEW, words).content.decode()
    assert html.count('<article class="look">') == len(list(registry))
    assert "<strong>30 November</strong>" in html
    assert "&lt;script" not in html
    assert "1 part, " in html


def test_the_preview_of_a_broken_template_says_why(author: Client) -> None:
    assert "cannot be read" in author.post(PREVIEW, form(body="{% if %}")).content.decode()


def test_the_preview_of_a_message_takes_its_words_as_they_are(author: Client) -> None:
    html = author.post(PREVIEW, {"subject": "S", "body": "Literally {{ deadline }}"}).content.decode()
    assert "Literally {{ deadline }}" in html


def test_the_preview_is_for_who_is_signed_in_and_by_post_only(author: Client) -> None:
    assert author.get(PREVIEW).status_code == 405
    assert Client().post(PREVIEW, form()).status_code == 302


def test_a_draft_is_written_with_inert_values(author: Client, alice: User, reminder: MessageTemplate) -> None:
    to = world.audience(world.robot(alice))
    values = {"audience": to.pk, "reason": "Yearly", "value_deadline": "<@all> 30.11."}
    author.post(reverse("admin:workflows_messagetemplate_use", args=[reminder.pk]), values)
    draft = Message.objects.get()
    assert (draft.subject, draft.body, draft.state) == ("Due ＜＠all＞ 30.11.", "By **＜＠all＞ 30.11.**.", "draft")
    assert draft.author == alice


def test_a_missing_value_is_asked_for(author: Client, alice: User, reminder: MessageTemplate) -> None:
    to = world.audience(world.robot(alice))
    url = reverse("admin:workflows_messagetemplate_use", args=[reminder.pk])
    html = author.post(url, {"audience": to.pk, "reason": "Yearly"}).content.decode()
    assert "errorlist" in html
    assert not Message.objects.exists()
