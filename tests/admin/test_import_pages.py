"""Importing members by the pages: what is wrong is shown line by line, what is right is shown before it is written."""

import re

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from compliance_bot.guardrails import policy
from tests import people, world
from workflows import roles
from workflows.domain.states import ImportState
from workflows.models import ApprovalRequest, Audience, Channel, MemberImport, Workflow
from workflows.services import imports, member_files

pytestmark = pytest.mark.django_db
HEAD = "channel,address,label,is_group,size\n"


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def app(alice: User) -> Channel:
    return world.app(alice)


@pytest.fixture
def staff(app: Channel) -> Audience:
    return world.members(app, "ann", "bob")


@pytest.fixture
def author(alice: User) -> Client:
    return browser(alice)


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def upload(client: Client, audience: Audience, content: str, mode: str = "add") -> HttpResponse:
    file = SimpleUploadedFile("staff.csv", content.encode(), "text/csv")
    url = reverse("admin:workflows_audience_import", args=[audience.pk])
    return client.post(url, {"file": file, "mode": mode}, follow=True)  # type: ignore[return-value]


def words(response: HttpResponse) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def page(job: MemberImport, name: str = "import_shown") -> str:
    return reverse(f"admin:workflows_audience_{name}", args=[job.audience_id, job.pk])


def confirm(client: Client, job: MemberImport, reason: str = "New colleagues") -> str:
    return words(client.post(page(job, "import_confirm"), {"reason": reason}, follow=True))  # type: ignore[arg-type]


def test_a_file_is_shown_confirmed_and_imported(author: Client, staff: Audience) -> None:
    shown = words(upload(author, staff, HEAD + "App,ann,Ann,no,\nApp,cyd,Cyd,no,\n", "replace"))
    assert "To add 1 To change 1 To remove 1 Unchanged 0" in shown
    assert "removed App bob bob" in shown
    assert "label: ann" in shown
    assert staff.members.filter(address="bob").exists()
    told = confirm(author, MemberImport.objects.get())
    assert "Imported" in told
    assert sorted(staff.members.values_list("label", flat=True)) == ["Ann", "Cyd"]


def test_each_wrong_line_is_shown_with_its_column(author: Client, staff: Audience) -> None:
    shown = words(upload(author, staff, HEAD + "App,c|d,Cyd,no,\nElse,dan,Dan,no,\n"))
    assert "Nothing was imported: mend the lines below" in shown
    assert "2 things are wrong" in shown
    assert "2 address Write a userid" in shown
    assert "3 channel There is no channel of the name “Else”." in shown
    assert not MemberImport.objects.exists()


def test_a_file_that_is_too_large_is_not_even_read(
    author: Client, staff: Audience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_files, "MOST_BYTES", 10)
    assert "A file has at most" in words(upload(author, staff, HEAD))


def test_no_file_is_said_at_the_field(author: Client, staff: Audience) -> None:
    url = reverse("admin:workflows_audience_import", args=[staff.pk])
    assert "This field is required." in words(author.post(url, {"mode": "add"}))  # type: ignore[arg-type]


def test_without_a_reason_nothing_is_imported(author: Client, staff: Audience) -> None:
    upload(author, staff, HEAD + "App,cyd,Cyd,no,\n")
    assert "Say why" in confirm(author, MemberImport.objects.get(), "")
    assert MemberImport.objects.get().state == ImportState.CHECKED


def test_a_large_file_tells_how_far_it_is(author: Client, staff: Audience) -> None:
    upload(author, staff, HEAD + "".join(f"App,u{number},U,no,\n" for number in range(1_500)))
    job = MemberImport.objects.get()
    assert "Being imported: 0 / 1500" in confirm(author, job)
    assert author.get(page(job, "import_progress")).json()["final"] is False
    imports.work(job.pk)
    progress = author.get(page(job, "import_progress")).json()
    assert (progress["final"], progress["counts"][0]["count"]) == (True, "1500 / 1500")


def test_a_change_of_a_workflow_in_service_waits_and_the_officer_sees_what_it_does(
    author: Client, alice: User, staff: Audience, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = policy.parse("security: {actions: {require_approval_for: [workflow_change]}}")
    monkeypatch.setattr(policy, "current", lambda: strict)
    world.workflow(alice, staff)
    Workflow.objects.update(state="active")
    upload(author, staff, HEAD + "App,cyd,Cyd,no,\n", "replace")
    assert "A second person decides" in confirm(author, MemberImport.objects.get())
    assert staff.members.count() == 2
    request = ApprovalRequest.objects.get()
    officer = browser(people.olivia())
    url = reverse("admin:workflows_approvalrequest_change", args=[request.pk])
    shown = words(officer.get(url))  # type: ignore[arg-type]
    assert "To add 1 To change 0 To remove 2" in shown
    assert "Workflows in service Watch" in shown
    assert "3 members" in shown
    officer.post(reverse("admin:workflows_approvalrequest_decide", args=[request.pk]), {"approve": "1", "reason": "Ok"})
    imports.work(MemberImport.objects.get().pk)
    assert list(staff.members.values_list("address", flat=True)) == ["cyd"]
    evidence = reverse("admin:workflows_approvalrequest_evidence", args=[request.pk])
    assert officer.get(evidence).status_code == 200


def test_a_stranger_neither_imports_nor_looks(author: Client, staff: Audience) -> None:
    upload(author, staff, HEAD + "App,cyd,Cyd,no,\n")
    job = MemberImport.objects.get()
    administrator, nobody = browser(people.person("ada", roles.ADMINISTRATOR)), browser(people.nora())
    assert upload(administrator, staff, HEAD + "App,cyd,Cyd,no,\n").status_code == 403
    assert "does not include importing" in confirm(administrator, job)
    assert nobody.get(page(job)).status_code == 404
    assert nobody.post(page(job, "import_confirm"), {"reason": "x"}).status_code == 404


def test_an_import_is_found_at_its_own_audience_only(author: Client, staff: Audience) -> None:
    upload(author, staff, HEAD + "App,cyd,Cyd,no,\n")
    other = Audience.objects.create(name="Other")
    url = reverse("admin:workflows_audience_import_shown", args=[other.pk, MemberImport.objects.get().pk])
    assert author.get(url).status_code == 404
