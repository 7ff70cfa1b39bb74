"""The page of dead letters: what failed and why, settled or sent again in bulk, exported."""

import csv
import io

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from tests import people, world
from workflows.models import Delivery
from workflows.services import messages

pytestmark = pytest.mark.django_db
PAGE = reverse("admin:workflows_deadletter_changelist")


@pytest.fixture
def letters() -> list[int]:
    """Two that failed, one that may have arrived, one that was sent."""
    alice = people.alice()
    to = world.members(world.app(alice), "=cmd", "bob", "cem", "dee")
    messages.submit(message_id=world.message(alice, to).pk, by=alice)
    rows = list(Delivery.objects.order_by("pk"))
    for row, (state, why) in zip(
        rows, [("failed", "No such member."), ("dead", "Gave up."), ("unknown", ""), ("sent", "")], strict=True
    ):
        Delivery.objects.filter(pk=row.pk).update(state=state, detail=why, code=f"c-{state}", not_before=None)
    return [row.pk for row in rows]


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_shows_what_failed_and_why(letters: list[int]) -> None:
    html = browser(people.olivia()).get(PAGE).content.decode()
    assert "No such member." in html
    assert "Gave up." in html
    assert "dee" not in html


def test_choosing_lists_them_and_decides_nothing_yet(letters: list[int]) -> None:
    chosen = {"action": "send_again", "_selected_action": letters[:2]}
    html = browser(people.olivia()).post(PAGE, chosen).content.decode()
    assert "2 deliveries are concerned." in html
    assert set(Delivery.objects.filter(pk__in=letters[:2]).values_list("state", flat=True)) == {"failed", "dead"}


def test_are_sent_again_with_a_reason(letters: list[int]) -> None:
    chosen = {"action": "send_again", "_selected_action": letters[:2], "reason": "They are members again"}
    html = browser(people.olivia()).post(PAGE, chosen, follow=True).content.decode()
    assert "2 are sent again." in html
    assert set(Delivery.objects.filter(pk__in=letters[:2]).values_list("state", flat=True)) == {"queued"}


def test_are_said_to_have_arrived(letters: list[int]) -> None:
    chosen = {"action": "they_arrived", "_selected_action": letters[2:3], "reason": "Asked them"}
    browser(people.olivia()).post(PAGE, chosen, follow=True)
    assert Delivery.objects.get(pk=letters[2]).state == "sent"


def test_a_refusal_is_told(letters: list[int]) -> None:
    chosen = {"action": "they_arrived", "_selected_action": letters[:1], "reason": "Asked them"}
    html = browser(people.olivia()).post(PAGE, chosen, follow=True).content.decode()
    assert "moved on meanwhile" in html


def test_who_may_only_look_is_offered_no_decision(letters: list[int]) -> None:
    alice = browser(User.objects.get(username="alice"))
    assert 'value="send_again"' not in alice.get(PAGE).content.decode()
    alice.post(PAGE, {"action": "send_again", "_selected_action": letters[:1], "reason": "Mine"})
    assert Delivery.objects.get(pk=letters[0]).state == "failed"


def test_are_exported_without_formulas_and_it_is_told(letters: list[int]) -> None:
    chosen = {"action": "export", "_selected_action": letters[:3]}
    response = browser(people.olivia()).post(PAGE, chosen)
    text = b"".join(response.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["address"] for row in rows] == ["'=cmd", "bob", "cem"]
    assert rows[0]["detail"] == "No such member."
    assert AuditEvent.objects.get(what="delivery.exported").facts["rows"] == 3


def test_the_list_costs_the_same_however_long_it_is(letters: list[int], django_assert_max_num_queries: object) -> None:
    client = browser(people.olivia())
    client.get(PAGE)
    with django_assert_max_num_queries(20):  # type: ignore[operator]
        client.get(PAGE)
