"""The versions of a workflow's configuration, and what differs between two, in words."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit import context
from tests import people, world
from tests.admin.test_standing_pages import browser, page, words
from workflows.models import Source, Workflow, WorkflowVersion
from workflows.services import configuration

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def flow(alice: User) -> Workflow:
    return world.workflow(alice, world.audience(world.robot(alice)), "http://127.0.0.1:9/feed", max_age_days=7)


def url(flow: Workflow) -> str:
    return reverse("admin:workflows_workflow_versions", args=[flow.pk])


@pytest.fixture
def changed(flow: Workflow, alice: User) -> Workflow:
    """Three versions: as it was, a weight more, other words."""
    with context.acting(alice):
        configuration.note(flow)
        Source.objects.update(weight=5)
        configuration.note(flow)
        Workflow.objects.update(contract="Reads one feed.\nSends <daily>.", language="zh-hans")
        configuration.note(flow)
    return flow


def form_of(client: Client, flow: Workflow) -> dict[str, object]:
    form = client.get(page(flow)).context["adminform"].form
    fields = {bound.html_name: bound.value() for bound in form if bound.value() is not None}
    fields["sources"] = [source.pk for source in flow.sources.all()]
    return {**fields, "cadences-TOTAL_FORMS": 0, "cadences-INITIAL_FORMS": 0}


def test_saving_the_form_keeps_a_version_and_the_page_links_to_it(flow: Workflow, alice: User) -> None:
    client = browser(alice)
    assert url(flow) in client.get(page(flow)).content.decode()
    client.post(page(flow), form_of(client, flow) | {"goal": "To know more"})
    version = WorkflowVersion.objects.get()
    assert version.content["workflow"]["goal"] == "To know more"
    assert version.who == "alice"


def test_saving_without_a_change_keeps_none(flow: Workflow, alice: User) -> None:
    client = browser(alice)
    client.post(page(flow), form_of(client, flow))
    client.post(page(flow), form_of(client, flow))
    assert WorkflowVersion.objects.count() <= 1


def test_the_last_two_are_compared_unless_others_are_chosen(changed: Workflow, alice: User) -> None:
    client = browser(alice)
    shown = words(client, url(changed))
    assert "From version 2 to version 3" in shown
    assert "Language of digests English" in shown
    assert "zh-hans" not in shown
    assert "Sends <daily>." in shown
    assert "Weight" not in shown
    shown = words(client, url(changed) + "?from=1&to=2")
    assert "Source Source 1 changed Weight 0 5" in shown
    assert "Language of digests" not in shown
    assert "These two say the same" in words(client, url(changed) + "?from=2&to=2")


def test_backwards_is_a_comparison_too(changed: Workflow, alice: User) -> None:
    assert "Source Source 1 changed Weight 5 0" in words(browser(alice), url(changed) + "?from=2&to=1")


def test_a_first_version_is_shown_whole(flow: Workflow, alice: User) -> None:
    assert "Nothing has been kept yet" in words(browser(alice), url(flow))
    configuration.note(flow)
    assert "http://127.0.0.1:9/feed" in words(browser(alice), url(flow))


@pytest.mark.parametrize("query", ["?from=9&to=3", "?from=x&to=2", "?from=1&to=-2", f"?from=1&to={'9' * 40}"])
def test_a_version_that_is_not_there(changed: Workflow, alice: User, query: str) -> None:
    assert browser(alice).get(url(changed) + query).status_code == 404


def test_the_story_is_for_who_may_read_the_trail(changed: Workflow, alice: User) -> None:
    story = reverse("admin:audit_story", args=[WorkflowVersion.objects.get(number=1).request_id])
    assert story in browser(people.olivia()).get(url(changed)).content.decode()
    assert story not in browser(alice).get(url(changed)).content.decode()


def test_outsiders_learn_nothing(changed: Workflow) -> None:
    assert browser(people.nora()).get(url(changed)).status_code == 404


def test_looking_keeps_nothing(flow: Workflow, alice: User) -> None:
    browser(alice).get(url(flow))
    assert not WorkflowVersion.objects.exists()
