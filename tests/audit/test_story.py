"""A request id opens the whole of one cause, whichever of its requests is asked for."""

import uuid
from dataclasses import replace

import pytest
from django.http import QueryDict
from django.test import Client
from django.urls import reverse

from audit import context, story
from audit.forms import SearchForm
from audit.models import AuditEvent
from audit.recorder import record
from audit.search import Search, page
from audit.vocabulary import AccessEvent, TrailEvent
from compliance_bot.sandbox.server import Sandbox
from tests import people, world
from workflows import roles
from workflows.domain.states import Verdict
from workflows.models import ApprovalRequest
from workflows.services import approvals, delivery, messages

pytestmark = pytest.mark.django_db


def test_requests_that_led_to_each_other_are_one_story() -> None:
    with context.system_acting() as first:
        asked = record(AccessEvent.DENIED, why="first")
    with context.system_acting(parent_event_id=asked.event_id) as second:
        answered = record(AccessEvent.DENIED, why="second")
    with context.system_acting(parent_event_id=answered.event_id) as third:
        record(AccessEvent.DENIED, why="third")
    record(TrailEvent.CHECKED, why="another matter")
    for request_id in (first.request_id, second.request_id, third.request_id):
        assert [event.why for event in story.tell(request_id).events] == ["first", "second", "third"]


def test_a_story_can_be_searched_and_exported_like_anything_else() -> None:
    with context.system_acting() as first:
        asked = record(AccessEvent.DENIED, why="first")
    with context.system_acting(parent_event_id=asked.event_id) as second:
        record(AccessEvent.DENIED, why="second")
    record(TrailEvent.CHECKED, why="another matter")
    whole = Search(story=second.request_id)
    assert [event.why for event in page(whole, size=10).events] == ["second", "first"]
    assert [event.why for event in page(replace(whole, q="first"), size=10).events] == ["first"]
    form = SearchForm(QueryDict(Search(story=first.request_id).address()))
    assert form.is_valid()
    assert form.search() == Search(story=first.request_id)


def test_of_an_unknown_request_there_is_no_story() -> None:
    assert story.tell(uuid.uuid4()).events == []


def test_a_long_story_says_that_it_is_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "MOST", 3)
    with context.system_acting() as cause:
        for _ in range(4):
            record(AccessEvent.DENIED)
    told = story.tell(cause.request_id)
    assert (len(told.events), told.complete) == (3, False)


def test_from_the_request_over_the_approval_to_the_receipts(wecom: Sandbox) -> None:
    alice, olivia = people.alice(), people.olivia()
    message = world.message(alice, world.audience(world.robot(alice, wecom.url)))
    with context.system_acting():
        messages.submit(message_id=message.pk, by=alice)
    request = ApprovalRequest.objects.get()
    with context.system_acting():
        approvals.view(approval=request, by=olivia)
    with context.system_acting() as decision:
        approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=olivia, reason="")
    with context.system_acting(request_id=decision.request_id, on_behalf_of="olivia"):
        delivery.dispatch(message.pk)
    told = [event.what for event in story.tell(AuditEvent.objects.get(what="delivery.sent").request_id).events]
    expected = [
        *("message.written", "message.submitted", "approval.requested", "approval.viewed", "approval.granted"),
        *("approval.executing", "message.released", "delivery.attempted", "delivery.sent"),
        *("message.finished", "approval.executed"),
    ]
    assert [what for what in told if what in expected] == expected


def test_the_page_tells_it_in_order() -> None:
    client = Client()
    client.force_login(people.person("audrey", roles.AUDITOR))
    with context.system_acting() as cause:
        record(AccessEvent.DENIED, why="<b>first</b>")
        record(AccessEvent.DENIED, why="second")
    html = client.get(reverse("admin:audit_story", args=[cause.request_id])).content.decode()
    assert html.index("&lt;b&gt;first") < html.index("second")
    assert client.get(reverse("admin:audit_story", args=[uuid.uuid4()])).status_code == 404
    client.force_login(people.nora())
    assert client.get(reverse("admin:audit_story", args=[cause.request_id])).status_code == 403
