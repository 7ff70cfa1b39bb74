"""Feeds of digests: opened by a token, holding only what was released."""

import json
from datetime import timedelta
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from audit.models import AuditEvent
from tests import people, world
from tests.services.test_standing import digest_message
from workflows.domain.errors import NotPermitted
from workflows.models import DigestFeed, Message, Workflow
from workflows.services import feeds

pytestmark = pytest.mark.django_db
ATOM = {"a": "http://www.w3.org/2005/Atom"}


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def flow(alice: User) -> Workflow:
    return world.workflow(alice, world.audience(world.robot(alice)), "http://127.0.0.1:9/feed")


def address(flow: Workflow, form: str = "json") -> str:
    return f"/feeds/workflows/{flow.pk}/digests.{form}"


def fetch(flow: Workflow, token: str, form: str = "json", **headers: str) -> tuple[int, bytes]:
    response = Client().get(address(flow, form), headers={"Authorization": f"Bearer {token}", **headers})
    return response.status_code, response.content


def released(flow: Workflow) -> Message:
    message = digest_message(flow)
    Message.objects.filter(pk=message.pk).update(state="sent")
    return message


def test_holds_only_what_was_released(flow: Workflow, alice: User) -> None:
    token = feeds.open_feed(workflow=flow, by=alice)
    released(flow)
    digest_message(flow)  # a draft: nobody has approved it
    status, body = fetch(flow, token)
    assert (status, len(json.loads(body)["digests"])) == (200, 1)


def test_atom_names_each_digest_and_escapes_what_is_foreign(flow: Workflow, alice: User) -> None:
    token = feeds.open_feed(workflow=flow, by=alice)
    message = released(flow)
    feed = ElementTree.fromstring(fetch(flow, token, "atom")[1])  # noqa: S314 - our own
    (entry,) = feed.findall("a:entry", ATOM)
    assert entry.findtext("a:id", namespaces=ATOM) == f"urn:compliance-bot:digest:{message.digest_id}"
    assert entry.findtext("a:updated", namespaces=ATOM)


def test_a_reader_may_carry_the_token_in_the_address(flow: Workflow, alice: User) -> None:
    token = feeds.open_feed(workflow=flow, by=alice)
    assert Client().get(address(flow), {"token": token}).status_code == 200


def test_without_its_token_there_is_nothing(flow: Workflow, alice: User) -> None:
    assert fetch(flow, "")[0] == 404
    token = feeds.open_feed(workflow=flow, by=alice)
    for wrong in ["", "x", token[:-1], token + "x"]:
        assert fetch(flow, wrong)[0] == 404
    assert Client().get(f"/feeds/workflows/{flow.pk + 1}/digests.json", {"token": token}).status_code == 404


def test_a_new_token_ends_the_old_one_and_closing_ends_both(flow: Workflow, alice: User) -> None:
    old = feeds.open_feed(workflow=flow, by=alice)
    new = feeds.open_feed(workflow=flow, by=alice)
    assert (fetch(flow, old)[0], fetch(flow, new)[0]) == (404, 200)
    feeds.close_feed(workflow=flow, by=alice)
    assert fetch(flow, new)[0] == 404
    assert AuditEvent.objects.filter(what__startswith="feed.").count() == 3


def test_the_token_is_not_kept(flow: Workflow, alice: User) -> None:
    token = feeds.open_feed(workflow=flow, by=alice)
    assert token not in str(list(DigestFeed.objects.values()))


def test_what_has_not_changed_is_not_sent_again(flow: Workflow, alice: User) -> None:
    token = feeds.open_feed(workflow=flow, by=alice)
    released(flow)
    response = Client().get(address(flow), {"token": token})
    assert fetch(flow, token, **{"If-None-Match": response["ETag"]}) == (304, b"")
    released(flow)
    assert fetch(flow, token, **{"If-None-Match": response["ETag"]})[0] == 200


def test_is_opened_by_who_may_change_the_workflow(flow: Workflow) -> None:
    with pytest.raises(NotPermitted):
        feeds.open_feed(workflow=flow, by=people.olivia())


def test_is_opened_on_the_workflows_page_and_shown_once(flow: Workflow, alice: User) -> None:
    client = Client()
    client.force_login(alice)
    page = client.post(f"/admin/workflows/workflow/{flow.pk}/feed/", {"open": "1"}, follow=True).content.decode()
    assert f"/feeds/workflows/{flow.pk}/digests.atom?token=" in page
    assert "?token=" not in client.get(f"/admin/workflows/workflow/{flow.pk}/change/").content.decode()
    assert DigestFeed.objects.get().made_at > timezone.now() - timedelta(minutes=1)
