"""Whoever may stop sending finds the switch on every page; everybody sees that it was turned; looking turns nothing."""

import re
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests import people, world
from workflows import roles
from workflows.domain.states import DeliveryState, MessageState
from workflows.models import Channel, Delivery, Message, SendingPause, Workflow
from workflows.services import delivery, messages, pauses

pytestmark = pytest.mark.django_db

PAUSE_ALL = reverse("admin:workflows_sendingpause_pause")
PAGES = ["admin:index", "admin:workflows_message_changelist", "admin:workflows_schedule"]


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def olivia() -> User:
    return people.olivia()


@pytest.fixture
def officer(olivia: User) -> Client:
    return browser(olivia)


@pytest.fixture
def author(alice: User) -> Client:
    return browser(alice)


@pytest.fixture
def half(alice: User) -> Message:
    """A message of three parts of which one has left."""
    to = world.audience(world.robot(alice), size=3)
    body = "\n\n".join(f"{number} " + "x" * 3900 for number in range(3))
    message = messages.submit(message_id=world.message(alice, to, body=body).pk, by=alice)
    Delivery.objects.filter(part__number=1).update(state=DeliveryState.SENT, attempts=1, not_before=None)
    return message


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def words(client: Client, url: str) -> str:
    """A page's text as a person reads it."""
    html = re.sub(r"<[^>]+>", " ", client.get(url, follow=True).content.decode())
    return unescape(" ".join(html.split()))


def page(target: Workflow | Channel | Message | SendingPause) -> str:
    return reverse(f"admin:workflows_{target._meta.model_name}_change", args=[target.pk])


def switch(target: Workflow | Channel | Message) -> str:
    return reverse("admin:workflows_sendingpause_pause", args=[target._meta.model_name, target.pk])


def resume_url(paused: SendingPause) -> str:
    return reverse("admin:workflows_sendingpause_resume", args=[paused.pk])


class TestTheSwitchOfEverything:
    @pytest.mark.parametrize("name", PAGES)
    def test_stands_on_every_page_of_who_may_turn_it(self, officer: Client, author: Client, name: str) -> None:
        assert PAUSE_ALL in officer.get(reverse(name)).content.decode()
        assert PAUSE_ALL not in author.get(reverse(name)).content.decode()

    @pytest.mark.parametrize("name", PAGES)
    def test_once_turned_is_told_on_every_page_to_everybody(
        self, officer: Client, author: Client, olivia: User, name: str
    ) -> None:
        paused = pauses.pause(by=olivia, reason="Wrong <figures>")
        for client in (officer, author):
            assert "All sending is paused" in words(client, reverse(name))
            assert "by olivia: Wrong <figures>" in words(client, reverse(name))
        assert f'class="button" href="{page(paused)}"' in officer.get(reverse(name)).content.decode()
        assert f'class="button" href="{page(paused)}"' not in author.get(reverse(name)).content.decode()

    def test_is_not_told_to_who_has_not_signed_in(self, olivia: User) -> None:
        pauses.pause(by=olivia, reason="Wrong figures")
        assert "Wrong figures" not in words(Client(), reverse("admin:login"))

    def test_is_turned_by_the_form_with_a_reason(self, officer: Client) -> None:
        officer.get(PAUSE_ALL)
        assert not SendingPause.objects.exists()
        html = officer.post(PAUSE_ALL, {"reason": " "}).content.decode()
        assert "Say why." in html
        assert not SendingPause.objects.exists()
        officer.post(PAUSE_ALL, {"reason": "Wrong figures"})
        paused = SendingPause.objects.get()
        assert (paused.target, paused.reason, paused.placed_by.username) == (None, "Wrong figures", "olivia")

    def test_says_so_when_somebody_was_faster(self, officer: Client, olivia: User) -> None:
        pauses.pause(by=olivia, reason="Wrong figures")
        assert "This is paused already." in words(officer, PAUSE_ALL)
        assert "This is paused already." in officer.post(PAUSE_ALL, {"reason": "Wrong"}).content.decode()

    def test_is_turned_back_with_a_reason_by_who_may(self, officer: Client, author: Client, olivia: User) -> None:
        paused = pauses.pause(by=olivia, reason="Wrong figures")
        assert "Resume sending" in words(officer, page(paused))
        assert "Resume sending" not in words(author, page(paused))
        assert officer.get(resume_url(paused)).status_code == 405
        officer.post(resume_url(paused), {"reason": ""})
        author.post(resume_url(paused), {"reason": "I would like to"})
        assert pauses.of(None) == paused
        officer.post(resume_url(paused), {"reason": "Right again"})
        assert pauses.of(None) is None
        assert "Right again" in words(officer, page(paused))

    def test_is_not_for_others(self, author: Client) -> None:
        assert author.get(PAUSE_ALL).status_code == 403
        assert author.post(PAUSE_ALL, {"reason": "I would like to"}).status_code == 403
        assert not SendingPause.objects.exists()

    def test_is_for_administrators_too(self) -> None:
        ada = browser(people.person("ada", roles.ADMINISTRATOR))
        ada.post(PAUSE_ALL, {"reason": "Wrong figures"})
        assert pauses.of(None) is not None

    def test_costs_a_page_one_question(self, officer: Client) -> None:
        with CaptureQueriesContext(connection) as captured:
            officer.get(reverse("admin:workflows_message_changelist"))
        assert sum("workflows_sendingpause" in query["sql"].split("WHERE")[0] for query in captured) == 1


@pytest.mark.parametrize("path", ["workflow/999/", "planet/1/", "user/1/", "message/abc/"])
def test_what_is_not_there_pauses_nothing(officer: Client, path: str) -> None:
    """Above all not everything."""
    assert officer.post(PAUSE_ALL + path, {"reason": "Wrong"}).status_code in {302, 404}
    assert not SendingPause.objects.exists()


class TestAWorkflowAndAChannel:
    @pytest.fixture(params=["workflow", "channel"])
    def target(self, request: pytest.FixtureRequest, half: Message, alice: User) -> Workflow | Channel:
        flow = world.workflow(alice, half.audience)
        return flow if request.param == "workflow" else Channel.objects.get()

    def test_is_paused_and_resumed_from_its_own_page(
        self, officer: Client, author: Client, target: Workflow | Channel
    ) -> None:
        assert switch(target) in officer.get(page(target)).content.decode()
        assert switch(target) not in author.get(page(target)).content.decode()
        answer = officer.post(switch(target), {"reason": "Wrong group"})
        assert answer["Location"] == page(target)
        assert "by olivia: Wrong group" in words(officer, page(target))
        assert resume_url(SendingPause.objects.get()) in officer.get(page(target)).content.decode()
        assert resume_url(SendingPause.objects.get()) not in author.get(page(target)).content.decode()
        answer = officer.post(resume_url(SendingPause.objects.get()), {"reason": "Right group"})
        assert answer["Location"] == page(target)
        assert pauses.of(target) is None

    def test_paused_is_told_where_it_matters(
        self, officer: Client, olivia: User, target: Workflow | Channel, half: Message
    ) -> None:
        if isinstance(target, Workflow):
            Message.objects.filter(pk=half.pk).update(workflow=target)
        pauses.pause(by=olivia, reason="Wrong group", target=target)
        assert f"Sending of “{target}” is paused" in words(officer, page(half))
        assert "by olivia: Wrong group" in words(officer, reverse("admin:index"))
        assert "All sending is paused" not in words(officer, reverse("admin:index"))


class TestAMessageOnItsWay:
    def test_is_halted_from_its_page_and_shows_what_has_left(self, officer: Client, half: Message) -> None:
        assert "Halt" in words(officer, page(half))
        officer.post(switch(half), {"reason": "Typing slip"})
        Delivery.objects.filter(part__number=2).update(state=DeliveryState.UNKNOWN, not_before=None)
        shown = words(officer, page(half))
        assert "by olivia: Typing slip" in shown
        assert "Has left 1 Everyone group (1/3)" in shown
        assert "May have left 1 Everyone group (2/3)" in shown
        assert "Has not left 1 Everyone group (3/3)" in shown

    def test_leads_from_each_count_to_those_deliveries(self, officer: Client, olivia: User, half: Message) -> None:
        pauses.pause(by=olivia, reason="Typing slip", target=half)
        html = officer.get(page(half)).content.decode()
        left = html[html.index('<dl class="left">') : html.index("</dl>")]
        counts = []
        for url in re.findall(r'href="([^"]+)"', left):
            counts.append(officer.get(unescape(url)).context["cl"].queryset.count())
        assert counts == [1, 2]

    def test_is_resumed(self, officer: Client, olivia: User, half: Message) -> None:
        paused = pauses.pause(by=olivia, reason="Typing slip", target=half)
        officer.post(resume_url(paused), {"reason": "No slip"})
        assert pauses.of(half) is None
        assert "Has not left" not in words(officer, page(half))

    def test_the_rest_is_cancelled_with_a_reason_by_who_may(
        self, officer: Client, author: Client, olivia: User, half: Message
    ) -> None:
        pauses.pause(by=olivia, reason="Typing slip", target=half)
        url = reverse("admin:workflows_message_cancel_rest", args=[half.pk])
        assert url in officer.get(page(half)).content.decode()
        assert url not in author.get(page(half)).content.decode()
        assert officer.get(url).status_code == 405
        author.post(url, {"reason": "I would like to"})
        officer.post(url, {"reason": ""})
        half.refresh_from_db()
        assert half.state == MessageState.RELEASED
        officer.post(url, {"reason": "Written anew"})
        half.refresh_from_db()
        assert half.state == MessageState.PARTLY_SENT
        shown = words(officer, page(half))
        assert "The rest was cancelled" in shown
        assert "Has left 1 Everyone group (1/3)" in shown

    def test_is_not_halted_by_others(self, author: Client, half: Message) -> None:
        assert switch(half) not in author.get(page(half)).content.decode()
        assert author.post(switch(half), {"reason": "I would like to"}).status_code == 403
        assert not SendingPause.objects.exists()

    def test_that_has_ended_ends_its_pause(self, officer: Client, olivia: User, half: Message) -> None:
        paused = pauses.pause(by=olivia, reason="Typing slip", target=half)
        delivery.cancel_rest(message_id=half.pk, by=olivia, reason="Written anew")
        assert "message ended" in words(officer, page(paused))
        assert "Resume sending" not in words(officer, page(paused))
        assert "Typing slip" not in words(officer, reverse("admin:index"))


def test_the_list_shows_what_is_in_force_and_what_was_resumed(officer: Client, olivia: User, half: Message) -> None:
    first = pauses.pause(by=olivia, reason="Wrong figures")
    pauses.resume(pause_id=first.pk, by=olivia, reason="Right")
    pauses.pause(by=olivia, reason="Wrong group", target=Channel.objects.get())
    shown = words(officer, reverse("admin:workflows_sendingpause_changelist"))
    assert "Robot in force Wrong group olivia" in shown
    assert "All sending resumed Wrong figures olivia" in shown
