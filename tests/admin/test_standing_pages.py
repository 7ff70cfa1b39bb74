"""An author asks on the workflow's page, an officer sees all of it and may revoke, an outsider sees nothing."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests import people
from tests.services.test_standing import active_workflow, asked, decided, submitted
from workflows.domain.states import MessageState
from workflows.models import ApprovalRequest, StandingApproval, Workflow

pytestmark = pytest.mark.django_db

LIST = reverse("admin:workflows_standingapproval_changelist")


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def olivia() -> User:
    return people.olivia()


@pytest.fixture
def flow(alice: User) -> Workflow:
    return active_workflow(alice)


@pytest.fixture
def granted(flow: Workflow, alice: User, olivia: User) -> StandingApproval:
    return decided(asked(flow, alice), olivia)


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def words(client: Client, url: str) -> str:
    html = re.sub(r"<[^>]+>", " ", client.get(url, follow=True).content.decode())
    return unescape(" ".join(html.split()))


def ask_url(flow: Workflow) -> str:
    return reverse("admin:workflows_standingapproval_ask", args=[flow.pk])


def page(found: StandingApproval | Workflow) -> str:
    return reverse(f"admin:workflows_{found._meta.model_name}_change", args=[found.pk])


def revoke_url(found: StandingApproval) -> str:
    return reverse("admin:workflows_standingapproval_revoke", args=[found.pk])


def bounds(days: int = 30) -> dict[str, object]:
    last_day = timezone.now().date() + timedelta(days=days)
    return {"last_day": f"{last_day:%Y-%m-%d}", "messages_per_day": 5, "reason": "Every two hours"}


class TestAsking:
    def test_is_offered_on_the_page_of_an_active_workflow_to_who_may(
        self, flow: Workflow, alice: User, olivia: User
    ) -> None:
        assert ask_url(flow) in browser(alice).get(page(flow)).content.decode()
        assert ask_url(flow) not in browser(olivia).get(page(flow)).content.decode()
        Workflow.objects.update(state="paused")
        assert ask_url(flow) not in browser(alice).get(page(flow)).content.decode()

    def test_shows_what_would_be_covered(self, flow: Workflow, alice: User) -> None:
        shown = words(browser(alice), ask_url(flow))
        assert "http://127.0.0.1:9/feed" in shown
        assert "Everyone group" in shown
        assert not StandingApproval.objects.exists()

    def test_becomes_a_request_whose_last_day_counts_to_its_end(self, flow: Workflow, alice: User) -> None:
        response = browser(alice).post(ask_url(flow), bounds())
        assert response.status_code == 302
        found = StandingApproval.objects.get()
        assert f"{found.valid_until.astimezone(flow.zone):%H:%M}" == "00:00"
        assert found.messages_per_day == 5
        assert ApprovalRequest.objects.get().requested_by == alice
        assert "A standing approval was asked for" in words(browser(alice), page(flow))

    def test_keeps_what_was_typed_where_it_is_refused(self, flow: Workflow, alice: User) -> None:
        response = browser(alice).post(ask_url(flow), bounds(days=200))
        assert "at most 92 days" in response.content.decode()
        assert "Every two hours" in response.content.decode()
        assert not StandingApproval.objects.exists()

    @pytest.mark.parametrize("wrong", [{"last_day": "soon"}, {"messages_per_day": 0}, {"reason": ""}])
    def test_says_what_is_wrong_with_a_field(self, flow: Workflow, alice: User, wrong: dict[str, object]) -> None:
        response = browser(alice).post(ask_url(flow), bounds() | wrong)
        assert "errorlist" in response.content.decode()
        assert not StandingApproval.objects.exists()

    def test_is_not_for_officers_or_outsiders(self, flow: Workflow, olivia: User) -> None:
        for user in (olivia, people.nora()):
            assert browser(user).get(ask_url(flow)).status_code == 403
            assert browser(user).post(ask_url(flow), bounds()).status_code == 403
        assert not StandingApproval.objects.exists()


class TestThePage:
    def test_of_the_request_shows_configuration_period_and_bounds(
        self, flow: Workflow, alice: User, olivia: User
    ) -> None:
        asked(flow, alice, a_day=7)
        request = ApprovalRequest.objects.get()
        shown = words(browser(olivia), reverse("admin:workflows_approvalrequest_change", args=[request.pk]))
        assert "Messages a day, at most 7" in shown
        assert "Valid until" in shown
        assert "http://127.0.0.1:9/feed" in shown
        assert "Everyone group" in shown
        assert "Secret “key”: name robot-robot" in shown

    def test_lists_what_was_released_under_it(self, flow: Workflow, granted: StandingApproval, olivia: User) -> None:
        message = submitted(flow)
        shown = words(browser(olivia), page(granted))
        assert str(message) in shown
        assert message.gate in shown
        assert "1 today" in shown

    def test_tells_that_the_configuration_has_changed(
        self, flow: Workflow, granted: StandingApproval, olivia: User
    ) -> None:
        assert "The configuration has changed" not in words(browser(olivia), page(granted))
        Workflow.objects.update(max_entries=9)
        assert "The configuration has changed" in words(browser(olivia), page(granted))
        granted.refresh_from_db()
        assert granted.ended_at is None  # looking ends nothing

    def test_is_linked_from_the_message_and_the_workflow(
        self, flow: Workflow, granted: StandingApproval, alice: User
    ) -> None:
        message = submitted(flow)
        client = browser(alice)
        assert page(granted) in client.get(page(flow)).content.decode()
        url = reverse("admin:workflows_message_change", args=[message.pk])
        assert page(granted) in client.get(url).content.decode()

    def test_and_the_list_are_open_to_the_loops_people_only(self, granted: StandingApproval, alice: User) -> None:
        assert "Watch" in words(browser(alice), LIST)
        outsider = browser(people.nora())
        assert outsider.get(LIST).status_code == 403
        assert outsider.get(page(granted)).status_code == 404


class TestRevoking:
    def test_is_an_officers(self, flow: Workflow, granted: StandingApproval, olivia: User) -> None:
        client = browser(olivia)
        assert revoke_url(granted) in client.get(page(granted)).content.decode()
        client.post(revoke_url(granted), {"reason": "Too much"})
        granted.refresh_from_db()
        assert granted.ended_why == "revoked by olivia: Too much"
        assert "revoked by olivia" in words(client, page(granted))
        assert submitted(flow).state == MessageState.PENDING

    def test_is_not_an_authors_or_outsiders(self, granted: StandingApproval, alice: User) -> None:
        assert revoke_url(granted) not in browser(alice).get(page(granted)).content.decode()
        for user in (alice, people.nora()):
            browser(user).post(revoke_url(granted), {"reason": "Too much"})
        granted.refresh_from_db()
        assert granted.ended_at is None

    def test_never_happens_by_looking(self, granted: StandingApproval, olivia: User) -> None:
        assert browser(olivia).get(revoke_url(granted), {"reason": "Too much"}).status_code == 405
        granted.refresh_from_db()
        assert granted.ended_at is None
