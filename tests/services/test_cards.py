"""Cards: sent to linked officers, clicked, and decided under the same rules as on the page."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from audit.models import AuditEvent
from compliance_bot.sandbox import Sandbox
from tests import people, world
from tests.channels.contract import read_request, reply
from tests.guardrails import line
from tests.services.test_inbound import ENVELOPE, app, post, xml
from workflows.domain.states import ApprovalState, MessageState
from workflows.models import ApprovalCard, ApprovalRequest, InboundEvent, Message, WeComAccount
from workflows.services import approvals, cards, inbound, messages, officers

pytestmark = pytest.mark.django_db

KNOWN_TO_BOTH = {"token": ENVELOPE.token, "aes_key": ENVELOPE.aes_key, "receive_id": ENVELOPE.receive_id}
MAY_DECIDE = "security: {actions: {rules: {mass_send: {cards_may_decide: true}}}}"


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def olivia() -> User:
    return people.olivia()


@pytest.fixture
def card(
    wecom: Sandbox, alice: User, olivia: User, set_policy: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> ApprovalCard:
    """A card with a button, on its way to olivia."""
    set_policy(MAY_DECIDE)
    monkeypatch.setattr(settings, "BASE_URL", "https://bot.corp.example")
    desk = app(alice)
    desk.channel = world.app(alice, wecom.url)
    desk.save()
    WeComAccount.objects.create(user=olivia, app=desk, userid="Olivia")
    draft = world.message(alice, world.audience(world.robot(alice, wecom.url)))
    messages.submit(message_id=draft.pk, by=alice)
    cards.send(ApprovalRequest.objects.get())
    return ApprovalCard.objects.get()


def click(card: ApprovalCard, *, by: str = "Olivia", key: str = "approve", task_id: str = "") -> InboundEvent:
    post(
        xml(
            FromUserName=by,
            CreateTime=1,
            MsgType="event",
            Event="template_card_event",
            EventKey=key,
            TaskId=task_id or card.task_id,
            ResponseCode="r1",
        )
    )
    event = InboundEvent.objects.get()
    inbound.handle(event.pk)
    event.refresh_from_db()
    return event


def test_a_button_pressed_in_wecom_releases_the_message(wecom: Sandbox, card: ApprovalCard) -> None:
    """All the way: the sandbox encrypts, signs and posts; the product believes it and decides."""
    requests_seen: list[bytes] = []

    def talk(connection: Any, over: Any) -> None:
        requests_seen.append(read_request(connection))
        connection.sendall(reply(200, b""))

    with line(talk) as place:
        where = {"url": f"http://{place}/wecom/desk/callback", **KNOWN_TO_BOTH}
        assert requests.post(f"{wecom.url}/callback", json=where, timeout=10).ok
        pressed = {"msgid": wecom.company.messages()[0].msgid, "user": "olivia", "key": "approve"}
        assert requests.post(f"{wecom.url}/click", json=pressed, timeout=10).json() == {"answered": 200}
    head, _gap, body = requests_seen[0].partition(b"\r\n\r\n")
    address = head.split(b" ")[1].decode()
    assert Client().post(address, body, content_type="text/xml").status_code == 200
    inbound.handle(InboundEvent.objects.get().pk)
    assert Message.objects.get().state == MessageState.RELEASED


def test_shows_what_is_asked_and_leads_to_its_page(wecom: Sandbox, card: ApprovalCard) -> None:
    (sent,) = wecom.company.messages()
    assert sent.shown_to == ("olivia",)
    assert "Quarterly reminder" in sent.content
    assert f"https://bot.corp.example/admin/workflows/approvalrequest/{card.approval_id}/change/" in sent.content
    assert card.response_code


def test_a_click_approves_as_the_officer(card: ApprovalCard) -> None:
    assert click(card).state == "done"
    assert Message.objects.get().state == MessageState.RELEASED
    granted = AuditEvent.objects.get(what="approval.granted")
    assert granted.who_label == "olivia"


def test_then_every_card_says_so(wecom: Sandbox, card: ApprovalCard) -> None:
    approvals.decide(approval_id=card.approval_id, verdict="deny", by=people.oscar(), reason="No")  # type: ignore[arg-type]
    officers.tell_requester(card.approval_id)
    assert wecom.company.messages()[0].content.endswith("[Denied]")
    officers.tell_requester(card.approval_id)
    assert wecom.company.calls["message/update_template_card"] == 1


def test_is_sent_once(wecom: Sandbox, card: ApprovalCard) -> None:
    cards.send(ApprovalRequest.objects.get())
    assert len(wecom.company.messages()) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"by": "mallory"}, "sent to somebody else"),
        ({"key": "deny"}, "not decided on a card"),
        ({"task_id": "approval-1-1-0"}, "No card of ours"),
    ],
)
def test_a_click_that_is_not_the_officers_own_decides_nothing(
    card: ApprovalCard, changes: dict[str, str], why: str
) -> None:
    event = click(card, **changes)
    assert (event.state, why in event.why) == ("failed", True)
    assert ApprovalRequest.objects.get().state == ApprovalState.PENDING


def test_a_policy_that_was_tightened_meanwhile_counts(card: ApprovalCard, set_policy: Callable[[str], None]) -> None:
    set_policy("security: {}")
    assert click(card).state == "failed"
    assert ApprovalRequest.objects.get().state == ApprovalState.PENDING


def test_the_rules_of_approval_count_here_too(card: ApprovalCard, olivia: User) -> None:
    olivia.groups.clear()
    event = click(card)
    assert "Your role does not include deciding" in event.why
    assert AuditEvent.objects.filter(what="approval.refused").count() == 1


def test_content_that_moved_is_not_approved_by_an_old_card(card: ApprovalCard) -> None:
    ApprovalCard.objects.update(task_id=f"approval-{card.approval_id}-{card.account_id}-older")
    card.refresh_from_db()
    assert "something else by now" in click(card).why


def test_an_account_that_was_switched_off_decides_nothing(card: ApprovalCard) -> None:
    User.objects.filter(username="olivia").update(is_active=False)
    assert click(card).state == "failed"


def test_by_default_a_card_only_leads_to_the_page(
    wecom: Sandbox, card: ApprovalCard, set_policy: Callable[[str], None]
) -> None:
    set_policy("security: {}")
    ApprovalCard.objects.all().delete()
    cards.send(ApprovalRequest.objects.get())
    again = ApprovalCard.objects.get()
    assert not again.may_decide
    assert click(again).state == "failed"


def test_who_wrote_it_gets_no_card(wecom: Sandbox, card: ApprovalCard, alice: User) -> None:
    WeComAccount.objects.create(user=alice, app=card.account.app, userid="alice")
    cards.send(ApprovalRequest.objects.get())
    assert ApprovalCard.objects.count() == 1
