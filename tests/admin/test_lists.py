"""Lists ask the database the same number of questions however many rows they show, and nothing is deleted from them."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit import context
from compliance_bot.guardrails import policy
from tests import people, world
from workflows.admin import approval as approval_pages
from workflows.models import (
    ApprovalRequest,
    Audience,
    AudienceMember,
    Cadence,
    Channel,
    Delivery,
    Digest,
    Item,
    Message,
    PolicyOverride,
    Run,
    SecretRef,
    SendingPause,
    Source,
    StandingApproval,
    Suppression,
    Workflow,
)
from workflows.services import approvals, messages, pauses, standing

pytestmark = pytest.mark.django_db

OVERRIDABLE = [key for key in policy.KEYS if key.endswith((".quorum", ".delay_minutes", ".expires_after_hours"))]
LISTS = [
    *("audiencemember", "suppression"),
    *("approvalrequest", "audience", "channel", "delivery", "digest", "item", "message", "policyoverride", "run"),
    *("secretref", "sendingpause", "source", "standingapproval", "workflow"),
]


@pytest.fixture
def sam() -> User:
    return people.sam()


@pytest.fixture
def client(sam: User) -> Client:
    client = Client()
    client.force_login(sam)
    return client


def one_more_of_everything(owner: User) -> None:
    """A workflow with all that hangs on it, once sent and once waiting."""
    name = uuid4().hex[:8]
    person = people.person(f"owner-{name}", superuser=True)
    robot = world.robot(owner, name=name)
    group = world.audience(robot, name=f"Large {name}")
    flow = Workflow.objects.create(name=name, goal="G", owner=person, audience=group, state="active")
    Cadence.objects.create(workflow=flow, next_run_at=timezone.now() + timedelta(days=1))
    Suppression.objects.create(address=name, reason="Asked for it")
    source = Source.objects.create(name=name, config={"url": "https://a.example"}, failing_since=timezone.now())
    world.item(source, name, seen_at=timezone.now())
    run = Run.objects.create(
        workflow=flow, run_key=name, digest_kind="update", due_at=timezone.now(), state="succeeded", request_id=uuid4()
    )
    Digest.objects.create(run=run, workflow=flow, kind="update", content={"entries": []}, created_at=timezone.now())
    until = timezone.now() + timedelta(days=1)
    standing.ask(workflow=flow, by=person, until=until, messages_per_day=1, reason="Every two hours")
    pauses.pause(by=person, reason="Wrong figures", target=robot)
    with context.acting(person):
        PolicyOverride.objects.create(key=OVERRIDABLE[PolicyOverride.objects.count()], value=1)
        for to in (group, world.audience(robot, name=f"Small {name}", size=2)):
            messages.submit(message_id=world.message(person, to, subject=name).pk, by=person)


def queries(client: Client, url: str) -> int:
    client.get(url)  # permissions and content types are cached
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def url_of(name: str) -> str:
    return reverse(f"admin:workflows_{name}_changelist")


def grows_not(client: Client, sam: User, url: str) -> None:
    one_more_of_everything(sam)
    few = queries(client, url)
    for _ in range(4):
        one_more_of_everything(sam)
    assert queries(client, url) == few


@pytest.mark.parametrize("name", LISTS)
def test_a_list_asks_the_same_number_of_questions_for_more_rows(client: Client, sam: User, name: str) -> None:
    grows_not(client, sam, url_of(name))


def test_so_does_the_first_page(client: Client, sam: User) -> None:
    grows_not(client, sam, reverse("admin:index"))


def test_so_does_the_trail(client: Client, sam: User) -> None:
    for _ in range(15):
        one_more_of_everything(sam)  # more than a page
    grows_not(client, sam, reverse("admin:audit_auditevent_changelist"))


def test_so_does_the_schedule(client: Client, sam: User) -> None:
    grows_not(client, sam, reverse("admin:workflows_schedule"))


def test_every_table_of_the_loop_was_in_the_lists_above(sam: User) -> None:
    one_more_of_everything(sam)
    for model in (
        ApprovalRequest,
        Audience,
        AudienceMember,
        Channel,
        Delivery,
        Digest,
        Item,
        Message,
        PolicyOverride,
        Run,
        SecretRef,
        SendingPause,
        Source,
        StandingApproval,
        Suppression,
        Workflow,
    ):
        assert model._default_manager.exists()
        assert model._meta.model_name in LISTS


def test_only_configuration_is_deleted_from_a_page(client: Client) -> None:
    request = client.get(reverse("admin:index")).wsgi_request
    deletable: list[str] = [
        model._meta.label
        for model, page in admin.site._registry.items()
        if model._meta.app_label != "auth" and page.has_delete_permission(request)
    ]
    reachable = {"Audience", "AudienceMember", "Suppression", "Channel", "CallbackApp", "WeComAccount"}
    configuration = {*reachable, "MessageTemplate", "PolicyOverride", "Source", "Workflow"}
    assert set(deletable) == {f"workflows.{name}" for name in configuration}


def test_only_our_own_pages_are_registered() -> None:
    assert {model._meta.app_label for model in admin.site._registry} == {"workflows", "audit", "auth"}


FUZZ = ["?what=nonsense", "?q=%00", "?q=%F0%9F%92%A9'\"", "?state=nonsense", "?o=99", "?p=999999", "?p=x", "?e=1"]


@pytest.mark.parametrize("query", FUZZ)
def test_no_query_string_breaks_a_list(client: Client, query: str, sam: User) -> None:
    one_more_of_everything(sam)
    for url in [*map(url_of, LISTS), reverse("admin:audit_auditevent_changelist")]:
        assert client.get(url + query).status_code in {200, 302}


@pytest.mark.parametrize("path", ["abc", "0", "99999999999999999999", "-1", "1%00"])
def test_no_odd_id_breaks_a_page(client: Client, path: str) -> None:
    for name in LISTS:
        url = f"{url_of(name)}{path}/change/"
        assert client.get(url).status_code in {302, 404}


def test_a_search_of_requests_looks_through_the_newest_of_those_that_the_filters_chose(
    client: Client, sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval_pages, "_LOOKED_THROUGH", 2)
    group = world.audience(world.robot(sam), name="Large")
    for subject in ("Forgotten", "Waiting", "Withdrawn one", "Withdrawn two"):
        message = world.message(sam, group, subject=subject)
        with context.acting(sam):
            messages.submit(message_id=message.pk, by=sam)
    for request in ApprovalRequest.objects.filter(subject_label__startswith="Withdrawn"):
        approvals.withdraw(approval_id=request.pk, by=sam, reason="Wrong")

    def found(query: str) -> set[str]:
        shown = client.get(url_of("approvalrequest") + query).context["cl"].result_list
        return {request.subject_label for request in shown}

    assert found("?q=wait") == {"Waiting"}
    assert found("?q=wait&state=all") == set()
    assert found("?q=withdrawn&state=all") == {"Withdrawn one", "Withdrawn two"}
