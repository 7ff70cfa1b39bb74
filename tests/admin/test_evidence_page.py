"""The evidence of a request in the browser: what each role meets, generic previews, foreign text."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

from audit import proof
from audit.models import AuditEvent
from tests import people, world
from workflows import roles
from workflows.domain.states import Verdict
from workflows.models import ApprovalRequest
from workflows.services import approvals, messages

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent() -> ApprovalRequest:
    """An approved mass send on its way."""
    alice = people.alice()
    draft = world.message(
        alice, world.audience(world.robot(alice)), body="Read **this** <script>alert(1)</script> <@all>"
    )
    messages.submit(message_id=draft.pk, by=alice)
    request = ApprovalRequest.objects.get()
    approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=people.olivia(), reason="Reads <b>well</b>")
    return request


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page(request: ApprovalRequest) -> str:
    return reverse("admin:workflows_approvalrequest_evidence", args=[request.pk])


def file(request: ApprovalRequest) -> str:
    return reverse("admin:workflows_approvalrequest_evidence_file", args=[request.pk])


def officer() -> User:
    return User.objects.get(username="olivia")


def test_the_page_answers_who_what_why_and_shows_the_digest(sent: ApprovalRequest) -> None:
    html = browser(officer()).get(page(sent)).content.decode()
    for shown in ("alice", "olivia", "Yearly duty", "Everyone group", sent.content_digest, "Approval granted"):
        assert shown in html
    assert "not sealed yet" in html


def test_foreign_text_stays_text(sent: ApprovalRequest) -> None:
    html = browser(officer()).get(page(sent)).content.decode()
    assert "<script>alert" not in html
    assert "<bdi>Reads &lt;b&gt;well&lt;/b&gt;</bdi>" in html


def test_the_decision_page_leads_to_it(sent: ApprovalRequest) -> None:
    html = browser(officer()).get(reverse("admin:workflows_approvalrequest_change", args=[sent.pk])).content.decode()
    assert page(sent) in html


@pytest.mark.parametrize(
    ("groups", "sees_trail", "takes_file"),
    [
        ([roles.OFFICER], True, True),
        ([roles.AUDITOR], True, True),
        ([roles.ADMINISTRATOR], True, False),
        ([roles.AUTHOR], False, False),
    ],
)
def test_each_role_sees_what_it_may_and_is_told_the_rest(
    sent: ApprovalRequest, groups: Sequence[str], *, sees_trail: bool, takes_file: bool
) -> None:
    client = browser(people.person("rita", *groups))
    html = client.get(page(sent)).content.decode()
    assert ("Approval granted" in html) is sees_trail
    assert ("your role does not include the audit trail" in html) is not sees_trail
    assert (file(sent) in html) is takes_file
    assert client.get(file(sent)).status_code == (200 if takes_file else 403)


def test_without_a_role_there_is_neither(sent: ApprovalRequest) -> None:
    client = browser(people.nora())
    assert client.get(page(sent)).status_code == 404
    assert client.get(file(sent)).status_code == 404
    assert not AuditEvent.objects.filter(what__startswith="evidence.").exists()


def test_a_refused_download_is_on_the_trail(sent: ApprovalRequest) -> None:
    browser(sent.requested_by).get(file(sent))
    denied = AuditEvent.objects.get(what="access.denied")
    assert (denied.who_label, denied.facts["path"]) == ("alice", file(sent))


def test_looking_and_downloading_are_on_the_trail_with_the_address(sent: ApprovalRequest) -> None:
    client = browser(officer())
    client.get(page(sent))
    b"".join(client.get(file(sent)).streaming_content)  # type: ignore[attr-defined]
    told = AuditEvent.objects.filter(what__startswith="evidence.").order_by("pk")
    assert [(event.what, event.who_label, event.ip, event.target_id) for event in told] == [
        (what, "olivia", "127.0.0.1", str(sent.pk))
        for what in ("evidence.viewed", "evidence.export_started", "evidence.exported")
    ]


def test_the_file_is_streamed_under_a_name_of_its_own_and_proves(sent: ApprovalRequest) -> None:
    response = browser(officer()).get(file(sent))
    assert response.streaming
    assert response["Content-Disposition"] == f'attachment; filename="evidence-{sent.pk}.json"'
    content = b"".join(response.streaming_content)  # type: ignore[attr-defined]
    assert proof.check_evidence(json.loads(content))["request"] == sent.pk


def shown(preview: dict[str, Any], action: str = "permission_change") -> str:
    template = "admin/workflows/approvalrequest/preview.html"
    return render_to_string(template, {"action": action, "preview": preview})


class TestAnyPreview:
    """What actions that this room does not know will show."""

    def test_changes_are_a_table_of_before_and_after(self) -> None:
        change = {"object": "mallory", "field": "is_superuser", "before": False, "after": True}
        html = shown({"changes": [change, {**change, "field": "groups", "before": [], "after": ["Officers", "A"]}]})
        for heading in ("Object", "Field", "Before", "After"):
            assert f'<th scope="col">{heading}</th>' in html
        assert "<td><bdi>no</bdi></td><td><bdi>yes</bdi></td>" in html
        assert "<li><bdi>Officers</bdi></li>" in html

    def test_a_field_that_one_row_lacks_is_an_empty_cell(self) -> None:
        html = shown({"objects": [{"kind": "user", "count": 3}, {"kind": "group", "note": "x"}]})
        assert html.count("<bdi>–</bdi>") == 2

    def test_nesting_is_followed_and_nothing_is_left_out(self) -> None:
        html = shown({"outer": {"inner": [{"deep": {"deeper": ["found", {"last": 0}]}}]}})
        for text in ("Outer", "Inner", "Deep", "Deeper", "found", "Last", "<bdi>0</bdi>"):
            assert text in html

    def test_foreign_text_stays_text_wherever_it_stands(self) -> None:
        evil = "<img src=x>\u202e"
        html = shown({evil: [{evil: evil}], "b": evil, "c": [evil]})
        assert "<img" not in html
        assert html.count("<bdi>&lt;img src=x&gt;\u202e</bdi>") >= 3

    def test_a_mass_send_keeps_its_own_layout(self) -> None:
        html = shown(
            {"renditions": [{"kind": "wecom_robot", "channels": [1], "forms": ["markdown"], "texts": ["**Hello**"]}]},
            action="mass_send",
        )
        assert '<article class="bubble"' in html
        assert "<strong>Hello</strong>" in html


def test_a_long_list_is_cut_on_the_page_and_that_is_said(sent: ApprovalRequest) -> None:
    recipients = [{"label": f"Group {number}.", "address": ""} for number in range(500)]
    long = ApprovalRequest.objects.create(
        action="mass_send",
        subject_type="workflows.message",
        subject_id="999999",
        subject_label="Long",
        content_digest="0" * 64,
        preview={**sent.preview, "recipients": recipients},
        requested_by=sent.requested_by,
        authored_by=sent.authored_by,
        reason="Many",
        requested_at=sent.requested_at,
        expires_at=sent.expires_at,
        request_id=sent.request_id,
    )
    html = browser(officer()).get(page(long)).content.decode()
    assert "Group 199." in html
    assert "Group 200." not in html
    assert "The bundle holds them whole." in html
    assert "the stored preview was changed" in html
