"""Callbacks over HTTP: who is let in, what is kept, and that each event is worked on once."""

import base64
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from audit.models import AuditEvent
from tests import people
from workflows.domain.states import InboundState
from workflows.domain.wecom_crypto import Envelope
from workflows.models import CallbackApp, InboundEvent, SecretRef
from workflows.services import clock, inbound, secrets

pytestmark = pytest.mark.django_db

ENVELOPE = Envelope("callback-token", base64.b64encode(bytes(range(32))).decode().rstrip("="), "ww5823bf96d3bd56c7")
ADDRESS = "/wecom/desk/callback"


def app(owner: User, *, slug: str = "desk") -> CallbackApp:
    stored = {}
    for name, value in {"token": ENVELOPE.token, "aes-key": ENVELOPE.aes_key}.items():
        stored[name] = SecretRef.objects.create(name=f"{slug}-{name}", owner=owner)
        secrets.store(secret=stored[name], value=value, by=owner)
    return CallbackApp.objects.create(
        slug=slug, receive_id=ENVELOPE.receive_id, token=stored["token"], aes_key=stored["aes-key"]
    )


@pytest.fixture(autouse=True)
def desk() -> CallbackApp:
    return app(people.alice())


def xml(**fields: object) -> bytes:
    inner = "".join(f"<{name}><![CDATA[{value}]]></{name}>" for name, value in fields.items())
    return f"<xml>{inner}</xml>".encode()


def enter(**fields: object) -> bytes:
    return xml(ToUserName="ww", FromUserName="Amy", CreateTime=1, MsgType="event", Event="enter_agent", **fields)


def signed(ciphertext: str, *, at: float | None = None, nonce: str = "n1") -> dict[str, str]:
    timestamp = str(int(at if at is not None else time.time()))
    signature = ENVELOPE.sign(timestamp, nonce, ciphertext)
    return {"msg_signature": signature, "timestamp": timestamp, "nonce": nonce}


def post(message: bytes, *, address: str = ADDRESS, body: bytes | None = None, **changes: Any) -> HttpResponse:
    ciphertext = ENVELOPE.seal(message)
    query = signed(ciphertext, **{name: changes.pop(name) for name in ("at", "nonce") if name in changes})
    envelope = body if body is not None else xml(ToUserName="ww", Encrypt=ciphertext, AgentID=1)
    url = f"{address}?{urlencode({**query, **changes})}"
    return Client().post(url, envelope, content_type="text/xml")  # type: ignore[return-value]


class TestWhoIsLetIn:
    def test_wecom_asks_whether_the_address_is_ours(self) -> None:
        echo = ENVELOPE.seal(b"1616140317555161061")
        response = Client().get(ADDRESS, {**signed(echo), "echostr": echo})
        assert (response.status_code, response.content) == (200, b"1616140317555161061")

    def test_an_event_in_xml_is_kept_and_answered_with_nothing(self) -> None:
        response = post(enter())
        assert (response.status_code, response.content) == (200, b"")
        event = InboundEvent.objects.get()
        assert (event.kind, event.from_user, event.state) == ("enter_agent", "amy", "new")

    def test_an_event_in_json_is_kept_too(self) -> None:
        message = json.dumps({"msgid": "m1", "msgtype": "text", "from": {"userid": "Amy"}}).encode()
        ciphertext = ENVELOPE.seal(message)
        url = f"{ADDRESS}?{urlencode(signed(ciphertext))}"
        Client().post(url, json.dumps({"encrypt": ciphertext}), content_type="application/json")
        event = InboundEvent.objects.get()
        assert (event.kind, event.from_user) == ("text", "amy")

    @pytest.mark.parametrize(
        "changes",
        [
            {"msg_signature": "0" * 40},
            {"msg_signature": "é"},
            {"msg_signature": ""},
            {"timestamp": "x"},
            {"at": 0},
            {"at": 2**40},
            {"address": "/wecom/nobody/callback"},
            {"body": b""},
            {"body": b"<xml><Encrypt>AAAA</Encrypt></xml>"},
            {"body": b"<!DOCTYPE x [<!ENTITY a 'b'>]><xml><Encrypt>&a;</Encrypt></xml>"},
            {"body": b"<xml><Encrypt>"},
            {"body": b"[" * 60_000},
            {"body": b"x" * 70_000},
            {"body": b"\xff\xfe"},
        ],
        ids=str,
    )
    def test_everybody_else_learns_nothing(self, changes: dict[str, Any]) -> None:
        response = post(enter(), **changes)
        assert (response.status_code, response.content) == (403, b"")
        assert not InboundEvent.objects.exists()

    def test_a_callback_that_is_switched_off_lets_nobody_in(self) -> None:
        CallbackApp.objects.update(enabled=False)
        assert post(enter()).status_code == 403

    def test_a_message_for_another_receiver_is_refused(self) -> None:
        CallbackApp.objects.update(receive_id="ww0000000000000000")
        assert post(enter()).status_code == 403

    def test_other_methods_are_refused(self) -> None:
        assert Client().put(ADDRESS).status_code == 405


class TestEachOnce:
    def test_the_same_envelope_again_changes_nothing(self) -> None:
        ciphertext = ENVELOPE.seal(enter())
        url = f"{ADDRESS}?{urlencode(signed(ciphertext))}"
        for _ in range(3):
            assert Client().post(url, xml(Encrypt=ciphertext), content_type="text/xml").status_code == 200
        assert InboundEvent.objects.count() == 1

    def test_the_same_event_in_another_envelope_changes_nothing(self) -> None:
        assert [post(enter(), nonce=f"n{number}").status_code for number in range(3)] == [200] * 3
        assert InboundEvent.objects.count() == 1

    def test_two_events_of_one_person_in_one_second_are_two(self) -> None:
        post(enter(EventKey="a"))
        post(enter(EventKey="b"), nonce="n2")
        assert InboundEvent.objects.count() == 2

    def test_is_worked_on_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[int] = []
        monkeypatch.setitem(inbound._handlers, "enter_agent", lambda event: seen.append(event.pk))
        post(enter())
        event = InboundEvent.objects.get()
        inbound.handle(event.pk)
        inbound.handle(event.pk)
        assert seen == [event.pk]
        event.refresh_from_db()
        assert event.state == InboundState.DONE

    def test_what_nobody_deals_with_is_noted(self) -> None:
        post(enter())
        inbound.handle(InboundEvent.objects.get().pk)
        assert InboundEvent.objects.get().state == InboundState.IGNORED
        assert AuditEvent.objects.filter(what="callback.handled").count() == 1

    def test_whose_worker_never_came_is_picked_up_by_the_clock(self) -> None:
        post(enter())
        InboundEvent.objects.update(received_at=timezone.now() - inbound._STALE)
        clock.tick()
        assert InboundEvent.objects.get().state == InboundState.IGNORED

    def test_the_secrets_are_told_once_a_day_and_not_with_each_call(self) -> None:
        for number in range(3):
            post(enter(EventKey=number), nonce=f"n{number}")
        assert AuditEvent.objects.filter(what="secret.read").count() <= 1
